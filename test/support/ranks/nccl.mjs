// One rank of several processes that each have a device of the host executor and exchange data over the stand-in of
// NCCL: `nccl.mjs trials EXECUTION` trains in several forms and compares with one process on the CPU; `nccl.mjs WAY`
// takes a step, and then rank 1 fails in this way.

import assert from "node:assert";
import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import path from "node:path";
import { MTAdam } from "../../../dist/index.mjs";
import { connectNccl } from "../../../dist/distributed/index.mjs";
import { openDevice } from "../open-device.mjs";
import {
  asBfloat16,
  assertSameState,
  digest,
  makeBoth,
  scaleOf,
  share,
  sumOfRounded,
  waysToFail,
  whole,
} from "./common.mjs";

const root = path.join(import.meta.dirname, "../../..");
const { simt } = createRequire(import.meta.url)(path.join(root, "build/executor/mtadam.node"));
const library = path.join(root, "build/cmake-executor/Release/libnccl_stand_in.so");
const [mode, execution = "lazy"] = process.argv.slice(2);
const device = openDevice("executor");
simt.useNccl(library);
simt.setExecution(execution, 1 + Number(process.env.RANK));
// Connecting takes seconds on a busy machine.
const timeout = mode === "hang" ? 3 : 60;
const comm = await connectNccl({ device, library, timeout });
assert.strictEqual(comm.kind, "nccl");
assert.strictEqual(comm.library, "NCCL 2.27.3");
await (mode === "trials" ? trials() : fail(mode));

async function trials() {
  const TERMS = 3;
  const STEPS = 2;
  const FORMS = [
    { shard: "none" },
    { unit: "network", nonFinite: "skipStep", cosines: true, anchor: "max" },
    { firstMoment: "summed", secondMoment: "summed", weightDecay: 0.01 },
    { scales: "lagged", betas: [0.9, 0.999, 0.999] },
    { wire: "bfloat16" },
    { stateDtype: "8bit", unit: "network" },
    { gradientDtype: "bfloat16" },
    { dtype: "bfloat16", stateDtype: "8bit" },
    { dtype: "bfloat16", masterWeights: true },
  ];
  const digests = [];
  for (const [number, form] of FORMS.entries()) {
    const tagged = number % 2 === 1;
    const place = (values, dtype) => device.buffer(values, dtype);
    const both = makeBoth({ form, terms: TERMS, tagged, comm, device, place });
    const { wire, gradientDtype, parameters, optimizer, alone, reference } = both;
    // Rounding depends on what a rank adds up before.
    const isRounded = wire === "bfloat16" || gradientDtype === "bfloat16";
    for (let step = 0; step < STEPS; ++step) {
      const local = share(step, TERMS, comm);
      const given = gradientDtype === "bfloat16" ? asBfloat16(local) : local;
      const gradients = given.map((ofTerm) =>
        ofTerm.map((values) => values && device.buffer(values, gradientDtype)),
      );
      simt.resetCounters();
      optimizer.step(gradients, { gradientScale: scaleOf(comm.size) });
      // The hashes, and nothing else, come to the host once the parameters have been compared.
      const { pageableCopies } = simt.counters();
      assert.ok(step === 0 || pageableCopies <= 1, `${pageableCopies} copies to the host`);
      reference.step(isRounded ? sumOfRounded(step, TERMS, comm.size) : whole(step, TERMS), {
        gradientScale: scaleOf(1),
      });
      // Reading would have all work done before the next step.
      if (execution === "lazy" && step + 1 < STEPS) continue;
      const theta = [];
      for (const { data } of parameters) theta.push(await data.download());
      assert.strictEqual(
        digest(theta),
        digest(alone.map(({ data }) => data)),
        `form ${number}, step ${step}`,
      );
      if (!isRounded && step + 1 === STEPS) digests.push(digest(theta));
    }
    if (number % 3 === 2) await assertSameState(optimizer, reference);
  }
  await comm.barrier();
  await comm.close();
  await assert.rejects(comm.barrier(), { code: "ERR_MTADAM_DISTRIBUTED" });
  console.log(
    JSON.stringify({ rank: comm.rank, size: comm.size, digest: digest([Buffer.from(digests.join())]) }),
  );
}

async function fail(way) {
  const theta = device.buffer(new Float32Array(20000).fill(1));
  const optimizer = new MTAdam([theta], { terms: 2, distributed: comm, shard: "state" });
  const gradients = [
    [device.buffer(new Float32Array(20000).fill(1))],
    [device.buffer(new Float32Array(20000))],
  ];
  optimizer.step(gradients);
  await optimizer.synchronize();
  const ways = {
    ...waysToFail(comm),
    // Between the hashes and the rest of the step.
    midway: () => {
      optimizer.step(gradients);
      process.kill(process.pid, "SIGKILL");
    },
  };
  if (comm.rank === 1) await ways[way]();
  const failure = await Promise.resolve()
    .then(() => optimizer.step(gradients))
    .then(() => optimizer.synchronize())
    .catch((error) => error);
  assert.strictEqual(failure?.code, "ERR_MTADAM_DISTRIBUTED", String(failure));
  // Every later call says the same.
  if (way !== "order") assert.throws(() => optimizer.step(gradients), { message: failure.message });
  console.log(failure.message);
  process.exitCode = 3;
}
