// Under mpirun: after a step that succeeds, rank 1 fails in the way that the argument names; or rank 0 ends in this way
// while it exchanges a term with rank 1, which does not come.

import { appendFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { MTAdam } from "../../../dist/index.mjs";
import { connectMpi } from "../../../dist/distributed/index.mjs";
import { waysToFail } from "./common.mjs";

const comm = await connectMpi({ timeout: 4 });
// Not to stdout, of which the launcher may drop the end.
appendFileSync(process.argv[3], `${process.pid}\n`);
const parameters = [new Float32Array(200000).fill(1)];
const optimizer = new MTAdam(parameters, { terms: 2, distributed: comm, shard: "state" });
const gradients = () => [[parameters[0].slice()], [parameters[0].slice()]];
optimizer.step(gradients());
const waysUnderWay = {
  "throw under way": waysToFail(comm).throw,
  "exit with 3 under way": () => process.exit(3),
  "exit under way": () => process.exit(0),
  "sleep under way": () => setTimeout(100_000),
};
const underWay = waysUnderWay[process.argv[2]];
if (underWay !== undefined) {
  if (comm.rank === 1) await setTimeout(100_000);
  optimizer.accumulate(0, gradients()[0]);
  await underWay();
}
const ways = {
  ...waysToFail(comm),
  absent: () => optimizer.step([gradients()[0], null]),
  options: () => new MTAdam(parameters, { terms: 2, distributed: comm }),
};
if (comm.rank === 1) await ways[process.argv[2]]();
optimizer.step(gradients());
await comm.barrier();
