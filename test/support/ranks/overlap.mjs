// Under mpirun, on two ranks: rank 1 begins with a term only when rank 0 has returned from it. Then calls that come while
// a term is under way. Prints a line per rank. Arguments: a folder for files between the ranks; a library of MPI; its
// time-out.

import assert from "node:assert";
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { MTAdam } from "../../../dist/index.mjs";
import { connectMpi } from "../../../dist/distributed/index.mjs";
import { assertSameState, digest, makeBoth, scaleOf, share, thetaOf, whole } from "./common.mjs";

const [folder, library, timeout = "20"] = process.argv.slice(2);
const comm = await connectMpi({ library, timeout: Number(timeout) });
const TERMS = 3;
let calls = 0;

/** Runs on rank 1 once rank 0 has returned from it. */
async function afterRank0(call) {
  calls += 1;
  const mark = path.join(folder, String(calls));
  while (comm.rank === 1 && !existsSync(mark)) await setTimeout(2);
  call();
  if (comm.rank === 0) writeFileSync(mark, "");
}

for (const shard of ["none", "state"]) {
  const both = makeBoth({ form: { shard }, terms: TERMS, tagged: true, comm });
  const { parameters, optimizer, alone, reference } = both;
  for (let step = 0; step < 2; ++step) {
    for (const [term, gradients] of share(step, TERMS, comm).entries()) {
      const given = gradients.map((values) => values?.slice() ?? null);
      await afterRank0(() => {
        optimizer.accumulate(term, given, { gradientScale: scaleOf(comm.size) });
        // The arrays are the caller's again.
        for (const values of given) values?.fill(NaN);
      });
    }
    optimizer.update();
    for (const [term, gradients] of whole(step, TERMS).entries()) {
      reference.accumulate(term, gradients, { gradientScale: scaleOf(1) });
    }
    reference.update();
    assert.strictEqual(digest(thetaOf(parameters)), digest(thetaOf(alone)), `${shard}, step ${step}`);
  }
  await assertSameState(optimizer, reference);
}

const make = (options) => {
  const theta = new Float32Array(9000).fill(1);
  return { theta, optimizer: new MTAdam([theta], { terms: 2, distributed: comm, ...options }) };
};
const gradient = () => [new Float32Array(9000).fill(comm.rank + 1)];

// What came of a term is in the diagnostics at once, and a term that is skipped warns.
{
  const warnings = [];
  process.on("warning", ({ code }) => warnings.push(code));
  const { optimizer } = make({ shard: "state" });
  optimizer.accumulate(0, gradient());
  assert.ok((await optimizer.diagnostics()).norms[0] > 0);
  optimizer.accumulate(1, [new Float32Array(9000).fill(NaN)]);
  optimizer.update();
  while (warnings.length === 0) await setTimeout(2);
  assert.deepStrictEqual(warnings, ["MTADAM_NON_FINITE"]);
}

// An error comes with the next call, once; the term has not come.
{
  const { theta, optimizer } = make({ shard: "none" });
  optimizer.accumulate(0, comm.rank === 0 ? gradient() : [null]);
  const error = { code: "ERR_MTADAM_DISTRIBUTED", message: /rank 0 `accumulate` and rank 1 `accumulate`/ };
  if (comm.rank === 0) assert.throws(() => optimizer.update(), error);
  else await assert.rejects(optimizer.synchronize(), error);
  optimizer.accumulate(0, gradient());
  optimizer.discard();
  assert.ok(theta.every((value) => value === 1));
  optimizer.accumulate(0, gradient());
  optimizer.update();
  assert.ok(theta.every((value) => value < 1));
}

// Optimizers that end with a term under way, and calls of the communicator and of another optimizer meanwhile.
{
  setFlagsFromString("--expose-gc");
  make({ shard: "state" }).optimizer.accumulate(0, gradient());
  runInNewContext("gc")();
  const [{ optimizer: first }, { theta, optimizer: second }] = [
    make({ shard: "state" }),
    make({ shard: "none" }),
  ];
  first.accumulate(1, gradient());
  second.accumulate(0, gradient());
  await comm.barrier();
  first.dispose();
  second.accumulate(1, gradient());
  second.update();
  assert.ok(theta.every((value) => value < 1));
  second.accumulate(0, gradient());
  await comm.close();
  await second.synchronize();
  const error = { code: "ERR_MTADAM_DISTRIBUTED", message: "The communicator has been closed." };
  assert.throws(() => second.update(), error);
}

console.log(JSON.stringify({ rank: comm.rank }));
