// Under mpirun: trains in every form, on all ranks together and in this process alone, and compares θ after every step and
// the state at the end. Prints the number of comparisons and a digest on rank 0. With the argument "streamed", every form
// that can gets its terms one at a time; a second argument is the library.

import assert from "node:assert";
import { Buffer } from "node:buffer";
import { MTAdam, openDevice } from "../../../dist/index.mjs";
import { connectMpi } from "../../../dist/distributed/index.mjs";
import {
  asBfloat16,
  assertSameState,
  digest,
  makeBoth,
  makeParameters,
  rounded,
  scaleOf,
  share,
  sumOfRounded,
  thetaOf,
  whole,
} from "./common.mjs";

const comm = await connectMpi({ timeout: 60, library: process.argv[3] });
const TERMS = 3;
const FORMS = [
  { shard: "none" },
  { shard: "none", scales: "lagged", betas: [0.9, 0.999, 0.999], wire: "bfloat16" },
  {},
  { firstMoment: "summed", weightDecay: 0.01, unit: "network" },
  { firstMoment: "summed", secondMoment: "summed", anchor: "mean", balance: 0.3 },
  { amsgrad: true, weightDecay: 0.01, decoupledWeightDecay: true },
  { nonFinite: "skipStep", anchor: "max", cosines: true },
  { preset: "recommended", stepScale: "mean", scales: "lagged" },
  { nonFinite: "propagate", maximize: true },
  { stateDtype: "bfloat16", amsgrad: true, unit: "network" },
  { stateDtype: "8bit", firstMoment: "summed", secondMoment: "summed", anchor: "mean" },
  { stateDtype: "8bit", scales: "lagged", betas: [0.9, 0.999, 0.999] },
  { dtype: "bfloat16", stateDtype: "8bit", firstMoment: "summed", secondMoment: "summed" },
  { dtype: "bfloat16", masterWeights: true, shard: "none" },
  { dtype: "bfloat16", masterWeights: true, unit: "network" },
  {
    gradientDtype: "bfloat16",
    shard: "none",
    stateDtype: "8bit",
    scales: "lagged",
    betas: [0.9, 0.999, 0.999],
  },
  { gradientDtype: "bfloat16", cosines: true },
];
const streamed = process.argv[2] === "streamed";
let comparisons = 0;
const digests = [];
for (const [number, form] of FORMS.entries()) {
  const tagged = number % 2 === 1;
  // Three ranks do not divide the micro-batches: they get the sum.
  const reduced = comm.size === 3;
  const device = openDevice("cpu", { threads: 1 + (comm.rank % 2) });
  const both = makeBoth({ form, terms: TERMS, tagged, comm, device });
  const { wire, gradientDtype, parameters, optimizer, alone, reference } = both;
  const byTerms = streamed ? form.nonFinite !== "skipStep" && !form.cosines : number % 4 === 3;
  const isNarrow = gradientDtype !== "float32";
  for (let step = 0; step < 3; ++step) {
    const local = reduced ? whole(step, TERMS) : share(step, TERMS, comm);
    const gradients = isNarrow ? asBfloat16(local) : local;
    const given = { reduced, gradientScale: scaleOf(reduced ? 1 : comm.size) };
    const byTerm = (all) => all.map((ofTerm) => () => ofTerm);
    if (byTerms) await optimizer.stepEach(byTerm(gradients), given);
    else optimizer.step(gradients, given);
    // Rounding depends on what a rank adds up before it sends it.
    if (wire === "bfloat16" && !reduced) continue;
    const theta = digest(thetaOf(parameters));
    if (!isNarrow) digests.push(theta);
    const expected = { gradientScale: scaleOf(1) };
    const sum = isNarrow && !reduced ? sumOfRounded(step, TERMS, comm.size) : whole(step, TERMS);
    const due = isNarrow && reduced ? rounded(sum) : sum;
    if (byTerms) await reference.stepEach(byTerm(due), expected);
    else reference.step(due, expected);
    assert.strictEqual(theta, digest(thetaOf(alone)), `form ${number}, step ${step}, rank ${comm.rank}`);
    comparisons += 1;
  }
  if (number % 3 !== 2) continue; // it takes a thousand exchanges
  await assertSameState(optimizer, reference);
  comparisons += 1;
}
// A parameter that comes in the middle of a training takes the state along.
const both = [true, false].map((shared) => {
  const parameters = makeParameters(true);
  const sharing = shared ? { distributed: comm, shard: "state" } : {};
  const optimizer = new MTAdam([{ parameters }], { terms: TERMS, lr: 1e-2, unit: "network", ...sharing });
  const more = { data: new Float32Array(5000).fill(1), name: "more" };
  const given = shared ? { reduced: true } : {};
  optimizer.step(whole(0, TERMS), given);
  optimizer.addParamGroup({ parameters: [more] });
  const gradients = whole(1, TERMS).map((ofTerm, term) => [...ofTerm, new Float32Array(5000).fill(term + 1)]);
  optimizer.step(gradients, given);
  return digest([...thetaOf(parameters), more.data]);
});
assert.strictEqual(both[0], both[1]);
comparisons += 1;
// One chunk: other ranks own nothing. The sums are exact, so that the library's order does not matter.
for (const shard of ["none", "state"]) {
  const [values, alone] = [new Float32Array(5).fill(1), new Float32Array(5).fill(1)];
  const options = { terms: 2, lr: 0.1, cosines: true };
  const optimizer = new MTAdam([values], { ...options, distributed: comm, shard });
  const reference = new MTAdam([alone], options);
  for (let step = 1; step < 4; ++step) {
    const first = Float32Array.of(1, -2, step, 0, 4);
    optimizer.step([[first], [new Float32Array(5).fill(comm.rank)]]);
    const second = new Float32Array(5).fill((comm.size * (comm.size - 1)) / 2);
    reference.step([[first.map((value) => comm.size * value)], [second]], { gradientScale: comm.size });
  }
  assert.strictEqual(digest([values]), digest([alone]));
  await assertSameState(optimizer, reference);
  assert.deepStrictEqual((await optimizer.diagnostics()).cosines, (await reference.diagnostics()).cosines);
  comparisons += 1;
}
await comm.barrier();
const all = digest([Buffer.from(digests.join())]);
console.log(
  JSON.stringify({ rank: comm.rank, size: comm.size, library: comm.library, comparisons, digest: all }),
);
