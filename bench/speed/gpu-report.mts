import { checked, shapeList } from "./report-text.mjs";
import { goalTable } from "./goals.mjs";
import type { Results } from "./results.mjs";
import { hostTable, manyTable, markdown, peerTable, roofTable, stepTable } from "./tables.mjs";

/** The report of a run with `--device cuda`, as Markdown. */
export function gpuReadme(results: Results): string {
  const { gpu, machine, node, commit, date, rounds, left, quick } = results;
  if (!gpu) throw new TypeError("`results` must be of a GPU.");
  const { name, computeCapability, driver, runtime } = gpu;
  return `# How fast a step is on ${name}

Written by \`npm run bench -- --device cuda\`, which also prints it. No figure decides whether anything passes.

\`\`\`sh
npm run bench -- --device cuda                            # against the roof alone
npm run bench -- --device cuda --python /usr/bin/python3  # and against PyTorch
npm run bench -- --draw --out docs/speed/DEVICE           # this page and the plot from results.json
npm run bench -- --help
\`\`\`

${name}, compute capability ${computeCapability}; the driver serves CUDA ${driver}, the build has ${runtime};
${machine.cpu}, ${machine.cores} cores, ${machine.system}; Node ${node}; commit ${commit},
${date}.${quick ? " A quick look, no result." : ""}${left === undefined ? "" : ` The time was up with ${left} settings left.`}
Every round's figures: [results.json](results.json).

## Goals

The worst median of each kind, and how many of the medians reach the goal:

${markdown(goalTable(results))}

## How it is measured

Contenders take short turns, in ${rounds} rounds, and the roof is measured right before and right after each turn. A figure is the
median over the rounds of the ratio within a round, with its quartiles.

A step's time is that of a batch of steps, enqueued from Node and then waited for, ÷ their number: what the device takes, where
enqueueing takes less. That is a cost of its own [below](#the-hosts-part); where it is the larger, a **captured \`step\`** shows
what the device takes. The roof is a native program (\`bench/speed/gpu_roof.cu\`) in a process of its own, timed by events:

- **of copy**: of the bandwidth of copying one half of as much memory as the model has onto the other half, the better of a kernel and
  \`cudaMemcpyAsync\`: (bytes of a step ÷ that bandwidth) ÷ time of the step. Such a copy moves half the bytes of a \`step\`, in one
  launch where that has two: what a launch costs weighs the same for both. Above 4 GiB the copy is of 4 GiB.
- **of copy, read once**: the same with the bytes of a step that reads each gradient once. Where a layer's gradients stay in the
  second-level cache for their second read, *of copy* may exceed 100 %, and this is what is left to gain. A step reads more than
  it writes, and reading alone may be faster than copying: what it gets of a copy has no strict bound.

**B** is the bytes per parameter that a step reads and writes in float32 with each gradient read twice: 24·I + 8 per-term, 16·I + 16
summed; streamed (\`accumulate\` for each of I terms, then \`update\`) 32·I + 8 and 28·I + 12; read once, 4·I less. **state** is what the
optimizer holds, in bytes per parameter, besides parameters and gradients. Inputs are **warm** where every step uses the same
buffers, **cold** where steps take turns on enough copies of everything, or where one alone is more than 256 MiB.

${shapeList(results)}

## The roof

With cold inputs, over all rounds:

${markdown(roofTable(results))}

## A step

![share of a copy's bandwidth by shape, terms and form](speed.svg)

${markdown(stepTable(results))}

## Many small tensors

${markdown(manyTable(results))}

## Peers

How many times as long as \`step(prepared)\` in the same round. Each is a process of its own (\`bench/peers\`) on the same device and was
held to our parameters after three steps, to 1e-6, before it was timed. ${checked(results)} Its time is that of a batch of
steps, synchronised before and after. A peer has at least three rounds and as many more as three seconds allow. The fused Adam has
one term, the sum, which is given: less work, and a bound.

${markdown(peerTable(results))}

## The host's part

How long a call holds up JavaScript, with three terms: a few calls, and a wait for the device that is not counted. The last rows are
what each gradient of the many tensors (× 3 terms) adds to their step with prepared gradients.

${markdown(hostTable(results))}
`;
}
