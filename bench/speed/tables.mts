import { percent, range, threeDigits } from "./format.mjs";
import { PEERS, nameOf, type PeerKind } from "./peers.mjs";
import {
  contenderOf,
  copyBandwidth,
  secondsPerStep,
  shareOfCopy,
  shareReadOnce,
  shareOfRmw,
  shareOfTraffic,
  timesAsLong,
  type ContenderResult,
  type Results,
  type Round,
  type SettingResult,
} from "./results.mjs";
import { SUBJECTS } from "./shapes.mjs";
import { spread, type Spread } from "./statistics.mjs";

/** Rows of cells, the first row the head. */
export type Table = string[][];

const FORM = { perTerm: "per-term", summed: "summed" } as const;
const CONTENDER: Record<string, string> = {
  step: "`step`",
  streamed: "streamed",
  flat: "`step`, one tensor",
  captured: "captured `step`",
};

/** What a step is held against: column heads, and the shares in them. */
interface Roofs {
  heads: readonly [string, string];
  shares: (contender: ContenderResult, setting: SettingResult) => readonly (Spread | undefined)[];
}

const HOST: Roofs = {
  heads: ["of RMW", "of same traffic"],
  shares: (contender) => [shareOfRmw(contender), shareOfTraffic(contender)],
};

const GPU: Roofs = {
  heads: ["of copy", "of copy, read once"],
  shares: (contender, setting) => [shareOfCopy(contender), shareReadOnce(contender, setting)],
};

/** Our own steps: a row for each way of each setting. */
export function stepTable({ gpu, settings }: Results): Table {
  const { heads, shares } = gpu ? GPU : HOST;
  const head = ["shape", "I", "moments", "taken by", "inputs", "ms", "B", "GB/s", ...heads, "state"];
  const rows = settings.flatMap((setting) =>
    setting.contenders.flatMap((contender) => {
      const { bytesPerParameter, stateBytes, parameters, name } = contender;
      const [first, second] = shares(contender, setting);
      if (!first || !second || bytesPerParameter === undefined || stateBytes === undefined) return [];
      const { median } = secondsPerStep(contender);
      return [
        [
          ...nameCells(setting),
          CONTENDER[name] ?? name,
          setting.inputs,
          milliseconds(median),
          String(bytesPerParameter),
          ((bytesPerParameter * parameters) / median / 1e9).toFixed(1),
          range(first, percent),
          range(second, percent),
          (stateBytes / parameters).toFixed(1),
        ],
      ];
    }),
  );
  return [head, ...rows];
}

/** How many times as long as our `step` the peers take, those that did not run included. */
export function peerTable({ gpu, settings, peers }: Results): Table {
  const head = ["peer", "shape", "I", "moments", "inputs", "ms", "times as long as `step`"];
  const rows = PEERS.filter(({ keepsMemory }) => !gpu || !keepsMemory).flatMap((kind) => {
    const name = nameOf(kind);
    const title = titleOf(kind);
    const taken = settings.flatMap((setting) => {
      const [contender, step] = [contenderOf(setting, name), contenderOf(setting, "step")];
      if (!contender || !step) return [];
      const ratio = timesAsLong(contender, step);
      const figures = ratio
        ? [milliseconds(secondsPerStep(contender).median), range(ratio, threeDigits)]
        : ["", `not run: ${contender.notRun ?? "no time"}`];
      return [[title, ...nameCells(setting), setting.inputs, ...figures]];
    });
    if (taken.length > 0) return taken;
    const reason = peers.find((peer) => peer.name === name)?.notRun;
    return [
      [title, "", "", FORM[kind.form], "", "", reason === undefined ? "not run" : `not run: ${reason}`],
    ];
  });
  return [head, ...rows];
}

function titleOf({ title, keepsMemory }: PeerKind): string {
  return keepsMemory ? `${title}, malloc keeps memory` : title;
}

/** One tensor of the same total as many small ones: how many times as long the many take. */
export function manyTable({ settings }: Results): Table {
  const head = ["I", "moments", "inputs", "3,000 tensors ÷ one"];
  const rows = settings.flatMap((setting) => {
    const [flat, step] = [contenderOf(setting, "flat"), contenderOf(setting, "step")];
    const ratio = flat && step ? timesAsLong(step, flat) : undefined;
    if (!ratio) return [];
    return [[...nameCells(setting).slice(1), setting.inputs, range(ratio, (value) => value.toFixed(2))]];
  });
  return [head, ...rows];
}

export function hostTable({ host }: Results): Table {
  return [
    ["what", "cost"],
    ...host.map(({ title, unit, rounds }) => [title, `${range(spread(rounds), threeDigits)} ${unit}`]),
  ];
}

export function roofTable({ gpu, settings }: Results): Table {
  const rounds = settings.flatMap(({ inputs, contenders }) =>
    inputs === "cold" ? contenders.flatMap(({ rounds }) => rounds) : [],
  );
  const row = (title: string, bandwidth: (round: Round) => number | undefined) => {
    const known = rounds.flatMap((round) => bandwidth(round) ?? []);
    return known.length === 0 ? [] : [[title, range(spread(known), (value) => (value / 1e9).toFixed(1))]];
  };
  return [
    [gpu ? "kernel" : "loop", "GB/s"],
    ...row("copying, the better of both", copyBandwidth),
    ...row("copying, by a kernel", ({ copy }) => copy),
    ...row("copying, by `cudaMemcpyAsync`", ({ memcpy }) => memcpy),
    ...row("`a = s·a + b`", ({ rmw }) => rmw),
    ...row("reading", ({ read }) => read),
  ];
}

export function markdown([head = [], ...rows]: Table): string {
  const rule = head.map((_, column) => (column === 0 ? "---" : "---:"));
  return [head, rule, ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** For the console, where code needs no quotes. */
export function plain(table: Table): Table {
  return table.map((row) => row.map((cell) => cell.replaceAll("`", "")));
}

export function nameCells({ subject, terms, form }: SettingResult): [string, string, string] {
  return [SUBJECTS.find(({ key }) => key === subject)?.title ?? subject, String(terms), FORM[form]];
}

function milliseconds(seconds: number): string {
  return threeDigits(1000 * seconds);
}
