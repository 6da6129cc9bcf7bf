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

Written by \`npm run bench\`, which also prints it. A step does little arithmetic and moves much memory, so its speed is given
relative to the memory bandwidth of the machine, measured alongside.

\`\`\`sh
npm run bench                                        # against the roof alone
npm run bench -- --python /usr/bin/python3           # and against PyTorch
npm run bench -- --shapes mnist --terms 3 --add      # one part anew
npm run bench -- --compare old/results.json --out new
npm run bench -- --help
\`\`\`

${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}; instruction set ${instructionSet},
${threads} thread${threads === 1 ? "" : "s"} for each contender; Node ${node}; commit ${commit}, ${date}.${results.quick ? " A quick look, no result." : ""}
Every round's figures: [results.json](results.json).

## How it is measured

Memory bandwidth can change by a factor of two within seconds, above all on a shared machine. So contenders take short turns, in
${rounds} rounds, and the roof is measured right before and right after each turn. A figure is the median over the rounds of the
ratio within a round, with its quartiles. All use the same number of threads.

The roof is a native program (\`bench/speed/roof.cpp\`) of plain loops over whole arrays, compiled for the widest instruction set of
the machine, with the same kind of memory as the optimizer's (huge pages where the system provides them):

- **of RMW**: relative to \`a = s·a + b\`, the loop with the highest bandwidth: (bytes of a step ÷ that bandwidth) ÷ time of the
  step. A step also reads arrays that it does not write, which can take longer per byte.
- **of same traffic**: time of plain loops that read and write as many arrays as the step, of the same length, ÷ time of the
  step. They read each array from start to end, without tensors or norms. A step can be faster than they are if it finds its
  second read of a gradient in the caches. Above 16 million elements the loops run on 16 million, and the time is in proportion.

**B** is the bytes per parameter that a step reads and writes in float32 with each gradient read twice: 24·I + 8 per-term, 16·I + 16
summed; streamed (\`accumulate\` for each of I terms, then \`update\`) 32·I + 8 and 28·I + 12. **state** is the memory of the
optimizer in bytes per parameter, without parameters and gradients. Inputs are **warm** if every step uses the same buffers,
**cold** if steps take turns on enough copies of them, or if one copy is larger than 256 MiB. For warm inputs, the roof is
measured warm, too.

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

Time of each peer ÷ time of \`step(prepared)\` in the same round. Each peer is a process of its own (\`bench/peers\`). Before it is
timed, its parameters after three steps must agree with ours to 1e-6. ${checked(results)} *Malloc keeps memory* tells glibc to keep
temporaries after each step. Otherwise their page faults take a large part of the time; on a virtual machine whose host takes
free memory back, perhaps most of it. A peer runs for at least three rounds, and for as many more as fit in three seconds. The
fused Adam has one term, the sum, which it is given: less work, and thus a bound.

${markdown(peerTable(results))}

## The host's part

One call from JavaScript and back, with three terms and \`Float32Array\`s; the last rows are the time that each
gradient of the many tensors (× 3 terms) adds to their step with prepared gradients.

${markdown(hostTable(results))}

## On a GPU

\`npm run bench -- --device cuda\` measures a GPU's steps against copies in its own memory, and writes to a folder of its own below
this one. \`scripts/gpu-check\` runs it, too.
`;
}
