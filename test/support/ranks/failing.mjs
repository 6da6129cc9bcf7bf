// Under mpirun: rank 1 fails in the way that the argument names, after a step that succeeds.

import { appendFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { MTAdam } from "../../../dist/index.mjs";
import { connectMpi } from "../../../dist/distributed/index.mjs";

const comm = await connectMpi({ timeout: 4 });
// Not to stdout, of which the launcher may drop the end.
appendFileSync(process.argv[3], `${process.pid}\n`);
const parameters = [new Float32Array(200000).fill(1)];
const optimizer = new MTAdam(parameters, { terms: 2, distributed: comm, shard: "state" });
const gradients = () => [[parameters[0].slice()], [parameters[0].slice()]];
optimizer.step(gradients());
const ways = {
  throw() {
    throw new Error("the data loader failed");
  },
  kill: () => process.kill(process.pid, "SIGKILL"),
  hang: () => setTimeout(100_000),
  exit: () => process.exit(0),
  absent: () => optimizer.step([gradients()[0], null]),
  order: () => comm.barrier(),
  options: () => new MTAdam(parameters, { terms: 2, distributed: comm }),
};
if (comm.rank === 1) await ways[process.argv[2]]();
optimizer.step(gradients());
await comm.barrier();
