import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { format } from "prettier";
import { plural } from "../common/text.mjs";
import { chart } from "./chart.mjs";
import { percent, range, threeDigits } from "./format.mjs";
import { PEERS, nameOf } from "./peers.mjs";
import {
  contenderOf,
  secondsPerStep,
  shareOfRmw,
  shareOfTraffic,
  timesAsLong,
  type Results,
  type SettingResult,
} from "./results.mjs";
import { SUBJECTS, total } from "./shapes.mjs";
import { spread } from "./statistics.mjs";

/** Rows of cells, the first row the head. */
export type Table = string[][];

const FORM = { perTerm: "per-term", summed: "summed" } as const;
const CONTENDER: Record<string, string> = {
  step: "`step`",
  streamed: "streamed",
  flat: "`step`, one tensor",
};

/** Our own steps: a row for each way of each setting. */
export function stepTable({ settings }: Results): Table {
  const head = [
    "shape",
    "I",
    "moments",
    "taken by",
    "inputs",
    "ms",
    "B",
    "GB/s",
    "of RMW",
    "of same traffic",
    "state",
  ];
  const rows = settings.flatMap((setting) =>
    setting.contenders.flatMap((contender) => {
      const { bytesPerParameter, stateBytes, parameters, name } = contender;
      const [rmw, traffic] = [shareOfRmw(contender), shareOfTraffic(contender)];
      if (!rmw || !traffic || bytesPerParameter === undefined || stateBytes === undefined) return [];
      const { median } = secondsPerStep(contender);
      return [
        [
          ...nameCells(setting),
          CONTENDER[name] ?? name,
          setting.inputs,
          milliseconds(median),
          String(bytesPerParameter),
          ((bytesPerParameter * parameters) / median / 1e9).toFixed(1),
          range(rmw, percent),
          range(traffic, percent),
          (stateBytes / parameters).toFixed(1),
        ],
      ];
    }),
  );
  return [head, ...rows];
}

/** How many times as long as our `step` the peers take, those that did not run included. */
export function peerTable({ settings, peers }: Results): Table {
  const head = ["peer", "shape", "I", "moments", "inputs", "ms", "times as long as `step`"];
  const rows = PEERS.flatMap((kind) => {
    const name = nameOf(kind);
    const title = kind.keepsMemory ? `${kind.title}, malloc keeps memory` : kind.title;
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

export function roofTable({ settings }: Results): Table {
  const rounds = settings.flatMap(({ inputs, contenders }) =>
    inputs === "cold" ? contenders.flatMap(({ rounds }) => rounds) : [],
  );
  if (rounds.length === 0) return [["loop", "GB/s"]];
  const gigabytes = (values: number[]) => range(spread(values), (value) => (value / 1e9).toFixed(1));
  return [
    ["loop", "GB/s"],
    ["`a = s·a + b`", gigabytes(rounds.map(({ rmw }) => rmw))],
    ["reading", gigabytes(rounds.map(({ read }) => read))],
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

function nameCells({ subject, terms, form }: SettingResult): [string, string, string] {
  return [SUBJECTS.find(({ key }) => key === subject)?.title ?? subject, String(terms), FORM[form]];
}

function milliseconds(seconds: number): string {
  return threeDigits(1000 * seconds);
}

/** Writes README.md and the plot beside results.json. */
export async function writeReport(results: Results, folder: string): Promise<void> {
  await writeFile(join(folder, "speed.svg"), `${chart(results)}\n`);
  await writeFile(
    join(folder, "README.md"),
    await format(readme(results), { parser: "markdown", printWidth: 110 }),
  );
}

export function readme(results: Results): string {
  const { machine, instructionSet, threads, node, commit, date, rounds } = results;
  const shapes = SUBJECTS.flatMap((subject) => [subject, ...(subject.beside ? [subject.beside] : [])]);
  return `# How fast a step is

Written by \`npm run bench\`, which also prints it. A step does little arithmetic and touches much memory: what counts is the
share that it gets of what the machine's memory gives.

\`\`\`sh
npm run bench                                        # against the roof alone
npm run bench -- --python /usr/bin/python3           # and against PyTorch
npm run bench -- --shapes mnist --terms 3 --add      # one part anew
npm run bench -- --compare old/results.json --out new
npm run bench -- --help
\`\`\`

${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}; instruction set ${instructionSet},
${threads} thread${threads === 1 ? "" : "s"} of everyone; Node ${node}; commit ${commit}, ${date}.${results.quick ? " A quick look, no result." : ""}
Every round's figures: [results.json](results.json).

## How it is measured

Memory bandwidth may drift by a factor of two within seconds, on a shared machine above all. So contenders take short turns, in
${rounds} rounds, and the roof is measured right before and right after each turn. A figure is the median over the rounds of the
ratio within a round, with its quartiles. All use the same number of threads.

The roof is a native program (\`bench/speed/roof.cpp\`) of plain loops over whole arrays, compiled for the widest instruction set of
the machine, with the same kind of memory as the optimizer's (huge pages where the system agrees):

- **of RMW**: of the bandwidth of \`a = s·a + b\`, the fastest way to move bytes here: (bytes of a step ÷ that bandwidth) ÷ time of the
  step. A step also reads arrays that it does not write, which may be slower by the byte.
- **of same traffic**: time of plain loops that read and write as many arrays as the step, of the same length, ÷ time of the
  step. They pass over each array by itself and know nothing of tensors or norms; a step that keeps its second read of a gradient
  in the caches may exceed them. Above 16 million elements the loops run on 16 million, and the time is in proportion.

**B** is the bytes per parameter that a step reads and writes in float32 with each gradient read twice: 24·I + 8 per-term, 16·I + 16
summed; streamed (\`accumulate\` for each of I terms, then \`update\`) 32·I + 8 and 28·I + 12. **state** is what the optimizer holds,
in bytes per parameter, besides parameters and gradients. Inputs are **warm** where every step uses the same buffers, **cold**
where steps take turns on enough copies of everything, or where one alone is more than 256 MiB. For what is warm the roof is warm as well.

${shapes.map(({ title, lengths }) => `- **${title}**: ${plural(lengths.length, "tensor")}, ${total(lengths).toLocaleString("en")} parameters`).join("\n")}

## The roof

With cold inputs, over all rounds:

${markdown(roofTable(results))}

## A step

![share of the same traffic by shape, terms and form](speed.svg)

${markdown(stepTable(results))}

## Many small tensors

${markdown(manyTable(results))}

## Peers

How many times as long as \`step(prepared)\` in the same round. Each is a process of its own (\`bench/peers\`) and was held to our
parameters after three steps, to 1e-6, before it was timed: ${checked(results)} *Malloc keeps memory* tells glibc not to give
temporaries back to the system after each step, whose page faults are otherwise a large part of the time (on a virtual machine
whose host takes free memory back they may be most of it). A peer has at least three rounds and as many more as three seconds
allow. The fused Adam has one
term, the sum, which is given: less work, and a bound.

${markdown(peerTable(results))}

## The host's part

One call from JavaScript and back, with three terms and \`Float32Array\`s; the last rows are what each gradient of the many tensors
(× 3 terms) adds to their step with prepared gradients.

${markdown(hostTable(results))}

## On a GPU

\`--device cuda\` is refused so far: the roof of a GPU is the bandwidth of its own memory, which only a CUDA program can measure.
`;
}

function checked({ peers }: Results): string {
  if (peers.length === 0) return "none was run.";
  const versions = [...new Set(peers.flatMap(({ version }) => version ?? []))];
  const held = peers.flatMap(({ name, difference, notRun }) =>
    difference === undefined || notRun !== undefined ? [] : [`${name} ${difference.toExponential(1)}`],
  );
  const of = versions.length === 0 ? "" : ` (PyTorch ${versions.join(", ")})`;
  return held.length === 0 ? `none passed${of}.` : `largest differences ${held.join("; ")}${of}.`;
}
