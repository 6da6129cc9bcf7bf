import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { openDevice, type Device } from "mtadam";
import { textTable } from "../../examples/common/table.mjs";
import { ROOT } from "../common/root.mjs";
import { runProgram, UsageError } from "../../examples/common/command-line.mjs";
import { compare, differences } from "./compare.mjs";
import { hostCosts } from "./host.mjs";
import { inputsOf, measure, type Course, type Setting } from "./measure.mjs";
import { HELP, parseOptions, type Options } from "./options.mjs";
import { PEERS, Peer } from "./peers.mjs";
import { hostTable, manyTable, peerTable, plain, roofTable, stepTable, writeReport } from "./report.mjs";
import { emptyResults, readResults, saveResults, type Results, type SettingResult } from "./results.mjs";
import { Roof } from "./roof.mjs";
import { SUBJECTS } from "./shapes.mjs";
import { FORMS } from "./traffic.mjs";

// Built by scripts/run.js.
const ROOF = join(ROOT, "build/bench/speed/native", process.platform === "win32" ? "roof.exe" : "roof");

const TURN = { normal: 0.02, quick: 0.002 };
const TENSORS = { normal: 3000, quick: 100 };

async function bench(options: Options): Promise<void> {
  const { out, quick } = options;
  const old = options.compare === undefined ? undefined : await readResults(options.compare);
  await mkdir(out, { recursive: true });
  const device = openDevice("cpu", { threads: options.threads });
  const path = join(out, "results.json");
  const results = emptyResults(device, options.rounds, quick);
  const kept = options.add && existsSync(path) ? await readResults(path) : undefined;
  if (kept && differences(kept, results).length > 0) {
    throw new UsageError(
      `--add must find results of the same machine; got ${differences(kept, results).join("; ")}.`,
    );
  }
  if (options.python !== undefined) await checkPeers(results, options.python, device);
  else if (kept) results.peers = kept.peers;
  const turn = quick ? TURN.quick : TURN.normal;
  const roof = new Roof(ROOF, options.threads);
  results.settings = kept?.settings ?? [];
  try {
    for (const setting of settings(options)) {
      const start = performance.now();
      const course: Course = { device, roof, rounds: options.rounds, turn };
      const names = results.peers.flatMap(({ name, notRun }) => (notRun === undefined ? [name] : []));
      if (options.python !== undefined && options.peerTerms.includes(setting.terms)) {
        course.peers = { python: options.python, names: new Set(names) };
      }
      const result = await measure(setting, course);
      results.settings = [...results.settings.filter((each) => !isSame(each, result)), result];
      await saveResults(path, results);
      console.log(`${describe(setting)}: measured in ${((performance.now() - start) / 1000).toFixed(0)} s`);
    }
  } finally {
    await roof.end();
  }
  results.settings.sort(inOrder);
  console.log("What a call costs");
  results.host = hostCosts(device, {
    rounds: options.rounds,
    turn,
    tensors: quick ? TENSORS.quick : TENSORS.normal,
  });
  await saveResults(path, results);
  await writeReport(results, out);
  print(results, old);
  console.log(`\nResults, table and plot are in ${out}.`);
}

async function checkPeers(results: Results, python: string, device: Device): Promise<void> {
  for (const kind of PEERS) {
    const peer = new Peer(python, kind);
    const state = await peer.check(device);
    await peer.end();
    results.peers.push(state);
    const { name, version = "", difference, notRun } = state;
    console.log(
      notRun === undefined
        ? `${name} (PyTorch ${version}) computes what we do: largest difference ${difference!.toExponential(1)}`
        : `${name} is not run: ${notRun}`,
    );
  }
}

function settings({ shapes, terms }: Options): Setting[] {
  return SUBJECTS.filter(({ key }) => shapes.includes(key)).flatMap((subject) =>
    terms.flatMap((count) =>
      FORMS.flatMap((form) => {
        const setting = { subject, terms: count, form };
        return inputsOf(setting).map((inputs) => ({ ...setting, inputs }));
      }),
    ),
  );
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

function print(results: Results, old: Results | undefined): void {
  const parts = [roofTable, stepTable, manyTable, peerTable, hostTable].map((table) => table(results));
  for (const table of parts) if (table.length > 1) console.log(`\n${textTable(plain(table))}`);
  if (old === undefined) return;
  console.log("\nBeyond the noise, against the earlier results:");
  for (const line of differences(old, results)) console.log(`  not the same, ${line}`);
  const moved = compare(old, results);
  console.log(moved.length === 0 ? "  nothing" : moved.map((line) => `  ${line}`).join("\n"));
}

await runProgram(async (args) => {
  const options = parseOptions(args);
  if (options.help) console.log(HELP);
  else await bench(options);
  return 0;
});
