import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Device } from "mtadam";
import { UsageError } from "../../examples/common/command-line.mjs";
import { textTable } from "../../examples/common/table.mjs";
import { compare, differences } from "./compare.mjs";
import { goalTable } from "./goals.mjs";
import { hostCosts } from "./host.mjs";
import { inputsOf, measure, type Course, type Setting } from "./measure.mjs";
import type { Options } from "./options.mjs";
import { Peers } from "./peers.mjs";
import {
  emptyResults,
  readResults,
  saveResults,
  type Gpu,
  type Results,
  type SettingResult,
} from "./results.mjs";
import type { Roof } from "./roof.mjs";
import { SUBJECTS } from "./shapes.mjs";
import { hostTable, manyTable, peerTable, plain, roofTable, stepTable, type Table } from "./tables.mjs";
import { FORMS } from "./traffic.mjs";

/** What is measured, and with what. */
export interface Rig {
  device: Device;
  gpu?: Gpu;
  /** Starts the program that measures the device's memory. */
  roof: () => Roof;
  /** PyTorch's name of the device. */
  peersOn: string;
  coldBytes: number;
  /** Absolute path of the folder for results. */
  out: string;
}

// A GPU's clock and memory are steadier than those of a shared machine's cores.
const TURN = { cpu: 0.02, cuda: 0.01, quick: 0.002 };
// That torch.compile comes to an end with in seconds, for a run that has a limit.
const FEW_TENSORS = 16;
const TENSORS = { normal: [161, 3000], quick: [4, 10] } as const;

export async function bench(options: Options, rig: Rig): Promise<void> {
  const { quick, rounds } = options;
  const { device, out } = rig;
  const begin = performance.now();
  const old = options.compare === undefined ? undefined : await readResults(options.compare);
  await mkdir(out, { recursive: true });
  const path = join(out, "results.json");
  const results = await emptyResults(device, { rounds, quick, gpu: rig.gpu });
  const kept = options.add && existsSync(path) ? await readResults(path) : undefined;
  if (kept) {
    const others = differences(kept, results);
    // The report gives one figure for all of its results.
    if (kept.rounds !== rounds) others.push(`rounds: ${kept.rounds} → ${rounds}`);
    if (kept.quick !== quick) others.push(`quick: ${String(kept.quick)} → ${String(quick)}`);
    if (others.length > 0) {
      throw new UsageError(
        `--add must find results of the same machine and length; got ${others.join("; ")}.`,
      );
    }
  }
  if (kept) Object.assign(results, { settings: kept.settings, peers: kept.peers });
  const turn = quick ? TURN.quick : TURN[device.kind];
  const roof = rig.roof();
  const peers = peersOf(options, rig);
  const course: Course = { device, roof, rounds, turn, coldBytes: rig.coldBytes };
  const all = settings(options, rig.coldBytes);
  const measured = new Set<Setting>();
  const measureAll = async (chosen: Setting[], beside: (setting: Setting) => Peers | undefined) => {
    for (const setting of chosen) {
      const start = performance.now();
      if (start - begin > 1000 * options.seconds) return;
      const result = await measure(setting, { ...course, peers: beside(setting) });
      measured.add(setting);
      results.settings = [...results.settings.filter((each) => !isSame(each, result)), result].sort(inOrder);
      await saveResults(path, results);
      console.log(`${describe(setting)}: measured in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    }
  };
  try {
    // A run with a limit has what matters most before anything that may take long, such as a peer's start.
    if (options.seconds !== Infinity) await measureAll(mostImportant(all), () => undefined);
    console.log("What a call costs");
    results.host = hostCosts(device, { rounds, turn, tensors: quick ? TENSORS.quick : TENSORS.normal });
    await saveResults(path, results);
    if (peers) results.peers = await checkPeers(peers, device);
    const joined = ({ terms }: Setting) => (options.peerTerms.includes(terms) ? peers : undefined);
    await measureAll(
      all.filter((setting) => !measured.has(setting) || joined(setting) !== undefined),
      joined,
    );
    if (measured.size < all.length) {
      results.left = all.length - measured.size;
      console.log(`The time is up: ${results.left} of ${all.length} settings are left`);
    }
  } finally {
    await peers?.end();
    await roof.end();
  }
  await saveResults(path, results);
  if (!options.figures) await draw(out);
  print(results, old);
  console.log(`\n${options.figures ? "Results are" : "Results, table and plot are"} in ${out}.`);
}

/** Table and plot of the results in a folder. They are drawn with packages that a run without them does not load. */
export async function draw(folder: string): Promise<void> {
  const { writeReport } = await import("./report.mjs");
  await writeReport(await readResults(join(folder, "results.json")), folder);
}

function peersOf(options: Options, { peersOn: on }: Rig): Peers | undefined {
  const { python, threads, patience, seconds } = options;
  if (python === undefined) return undefined;
  const compiledTensors = seconds === Infinity ? Infinity : FEW_TENSORS;
  return new Peers({ python, on, threads, patience, compiledTensors });
}

async function checkPeers(peers: Peers, device: Device): Promise<Results["peers"]> {
  const states = await peers.check(device);
  for (const { name, version = "", difference, notRun } of states) {
    console.log(
      notRun === undefined
        ? `${name} (PyTorch ${version}) computes what we do: largest difference ${difference!.toExponential(1)}`
        : `${name} is not run: ${notRun}`,
    );
  }
  return states;
}

function settings({ subjects, terms }: Options, coldBytes: number): Setting[] {
  return terms.flatMap((count) =>
    subjects.flatMap((subject) =>
      FORMS.flatMap((form) => {
        const setting = { subject, terms: count, form };
        return inputsOf(setting, coldBytes).map((inputs) => ({ ...setting, inputs }));
      }),
    ),
  );
}

/** Those of the first shape and number of terms. */
function mostImportant(all: Setting[]): Setting[] {
  return all.filter(({ subject, terms }) => subject === all[0]!.subject && terms === all[0]!.terms);
}

function describe({ subject, terms, form, inputs }: Setting): string {
  return `${subject.title}, I = ${terms}, ${form}, ${inputs}`;
}

function isSame(a: SettingResult, b: SettingResult): boolean {
  return a.subject === b.subject && a.terms === b.terms && a.form === b.form && a.inputs === b.inputs;
}

function inOrder(a: SettingResult, b: SettingResult): number {
  const place = ({ subject }: SettingResult) => SUBJECTS.findIndex(({ key }) => key === subject);
  return place(a) - place(b) || a.terms - b.terms; // and stays as it is among these
}

/** Tables with a title each, those that hold something. */
function tablesOf(results: Results): [title: string, table: Table][] {
  const tables: [string, Table][] = [
    ["The roof", roofTable(results)],
    ["Steps", stepTable(results)],
    ["Many small tensors", manyTable(results)],
    ["Peers", peerTable(results)],
    ["The host's part", hostTable(results)],
    ...(results.gpu ? [["Goals", goalTable(results)] as [string, Table]] : []),
  ];
  return tables.filter(([, table]) => table.length > 1);
}

/** The tables of the results in a folder. */
export async function tablesIn(folder: string): Promise<[title: string, table: Table][]> {
  return tablesOf(await readResults(join(folder, "results.json")));
}

function print(results: Results, old: Results | undefined): void {
  for (const [title, table] of tablesOf(results)) console.log(`\n${title}\n\n${textTable(plain(table))}`);
  if (old === undefined) return;
  console.log("\nBeyond the noise, against the earlier results:");
  for (const line of differences(old, results)) console.log(`  not the same, ${line}`);
  const moved = compare(old, results);
  console.log(moved.length === 0 ? "  nothing" : moved.map((line) => `  ${line}`).join("\n"));
}
