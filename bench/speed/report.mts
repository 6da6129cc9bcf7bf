import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { format, type BuiltInParserName } from "prettier";
import { chart } from "./chart.mjs";
import { gpuReadme } from "./gpu-report.mjs";
import { checked, shapeList } from "./report-text.mjs";
import { resultsText, type Results } from "./results.mjs";
import { hostTable, manyTable, markdown, peerTable, roofTable, stepTable } from "./tables.mjs";

/** Writes README.md and the plot, and results.json as prettier would have it. */
export async function writeReport(results: Results, folder: string): Promise<void> {
  const write = async (name: string, text: string, parser: BuiltInParserName) =>
    writeFile(join(folder, name), await format(text, { parser, printWidth: 110 }));
  await writeFile(join(folder, "speed.svg"), `${chart(results)}\n`);
  await write("README.md", (results.gpu ? gpuReadme : readme)(results), "markdown");
  await write("results.json", resultsText(results), "json");
}

export function readme(results: Results): string {
  const { machine, instructionSet, threads, node, commit, date, rounds } = results;
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

${shapeList(results)}

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

\`npm run bench -- --device cuda\` measures a GPU's steps against copies in its own memory, and writes to a folder of its own below
this one. \`scripts/gpu-check\` runs it, too.
`;
}
