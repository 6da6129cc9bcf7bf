// Ranks that differ, or lose a parameter: prints the outcome of each call, "ok" or the error's code.
//   mpirun -n 2 node differences.mjs FOLDER

import path from "node:path";
import { MTAdam } from "../../../dist/index.js";
import { connectMpi } from "../../../dist/distributed/index.js";

const listeners = process.listenerCount("exit");
const comm = await connectMpi({ timeout: 20 });
const other = comm.rank === 1;
const gradient = () => Float32Array.of(1, -2, 3);
const parameter = () => new Float32Array(3);

async function outcomeOf(call) {
  try {
    await call();
    return "ok";
  } catch ({ code, message }) {
    return code ?? message;
  }
}

const outcomes = {};

{
  const optimizer = new MTAdam([parameter()], { terms: 2, distributed: comm });
  const weights = [1, other ? 3 : 2];
  outcomes["other weights"] = await outcomeOf(() =>
    optimizer.step([[gradient()], [gradient()]], { weights }),
  );
  outcomes["a term after them"] = await outcomeOf(() => {
    optimizer.accumulate(0, [gradient()]);
    optimizer.accumulate(1, [gradient()]);
    optimizer.update();
  });
}
{
  const terms = other ? ["b", "a"] : ["a", "b"];
  outcomes["other terms"] = await outcomeOf(() => new MTAdam([parameter()], { terms, distributed: comm }));
}
{
  const names = other ? ["y", "x"] : ["x", "y"];
  const parameters = names.map((name) => ({ name, data: parameter() }));
  outcomes["other parameters"] = await outcomeOf(
    () => new MTAdam(parameters, { terms: 1, distributed: comm }),
  );
}
{
  const optimizer = new MTAdam([parameter()], { terms: ["a", "b", "c"], distributed: comm });
  optimizer.removeTerm(other ? "a" : "b");
  outcomes["other terms removed"] = await outcomeOf(() => optimizer.step([[gradient()], null]));
}
for (const [name, leave] of [
  ["discard", (optimizer) => optimizer.discard()],
  ["synchronizeSync", (optimizer) => optimizer.synchronizeSync()],
]) {
  // So large that the system takes the pages back.
  const data = new Float32Array(1 << 22);
  const optimizer = new MTAdam([data], { terms: 1, distributed: comm, weightDecay: 0.1 });
  optimizer.accumulate(0, [new Float32Array(data.length).fill(1)]);
  structuredClone(data.buffer, { transfer: [data.buffer] });
  outcomes[`${name}: update`] = await outcomeOf(() => optimizer.update());
  outcomes[name] = await outcomeOf(() => leave(optimizer));
}

for (const [name, scale] of [
  ["one state", 1],
  ["other states", comm.rank + 1],
]) {
  const alone = new MTAdam([parameter()], { terms: 1 });
  alone.step([[gradient().map((value) => scale * value)]]);
  const file = path.join(process.argv[2], `${comm.rank}.safetensors`);
  await alone.save(file);
  const optimizer = new MTAdam([parameter()], { terms: 1, distributed: comm });
  outcomes[name] = await outcomeOf(() => optimizer.load(file));
  outcomes[`a step after ${name}`] = await outcomeOf(() => optimizer.step([[gradient()]]));
}

await comm.close();
outcomes["listeners after close"] = process.listenerCount("exit") - listeners;
console.log(JSON.stringify({ rank: comm.rank, outcomes }));
