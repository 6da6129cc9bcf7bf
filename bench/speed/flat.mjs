// Under MPI: how long a step takes with the tensors of `comm.flat` and with arrays of their own, in turn.
//   mpirun -n 2 node bench/speed/flat.mjs [state|none] [library|ordered]

import { performance } from "node:perf_hooks";
import { MTAdam } from "../../dist/index.mjs";
import { connectMpi } from "../../dist/distributed/index.mjs";

const [shard = "state", reduction = "library"] = process.argv.slice(2);
const LENGTHS = Array.from({ length: 10 }, () => 1_000_000);
const TERMS = ["a", "b", "c"];
const STEPS = 12;

const comm = await connectMpi();
const flat = comm.flat(LENGTHS, { terms: TERMS });
const arrays = () => LENGTHS.map((length) => new Float32Array(length));
const apart = {
  parameters: arrays(),
  gradients: Object.fromEntries(TERMS.map((term) => [term, arrays()])),
};
const ways = Object.entries({ apart, flat }).map(([name, { parameters, gradients }]) => {
  for (const term of TERMS) gradients[term].forEach((values) => values.fill(1));
  const optimizer = new MTAdam(parameters, { terms: TERMS, distributed: comm, shard, reduction });
  return { name, optimizer, gradients, times: [] };
});
for (let step = 0; step < STEPS; ++step) {
  for (const { optimizer, gradients, times } of ways) {
    const start = performance.now();
    optimizer.step(gradients);
    times.push(performance.now() - start);
  }
}
if (comm.rank === 0) {
  const results = ways.map(
    ({ name, times }) => `${name} ${times.sort((a, b) => a - b)[STEPS / 2].toFixed(0)}`,
  );
  console.log(
    `${comm.library}, ${comm.size} ranks, ${shard}, ${reduction}: ${results.join(", ")} ms, median step`,
  );
}
