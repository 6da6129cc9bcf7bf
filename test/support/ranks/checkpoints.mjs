// Under mpirun, `checkpoints.mjs write FOLDER STATE_DTYPE`: saves after three steps, to a file that must be that of one
// process, and takes three more. `checkpoints.mjs resume FOLDER STATE_DTYPE`: loads, and takes these. Both print a digest
// of θ on each rank.

import assert from "node:assert";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { MTAdam } from "../../../dist/index.mjs";
import { connectMpi } from "../../../dist/distributed/index.mjs";
import { digest, makeParameters, thetaOf, whole } from "./common.mjs";

const merge = (...values) =>
  spawnSync(process.execPath, [path.resolve("dist/cli/main.js"), "merge", ...values], { encoding: "utf8" });

const [mode, folder, stateDtype] = process.argv.slice(2);
const comm = await connectMpi({ timeout: 60 });
const file = path.join(folder, "state.safetensors");
const thetaFile = path.join(folder, "theta");
const options = { terms: 3, lr: 1e-2, stateDtype, amsgrad: stateDtype !== "8bit", unit: "network" };
const parameters = makeParameters(true);
const optimizer = new MTAdam(parameters, { ...options, distributed: comm, shard: "state" });
const step = (own, k, more) => own.step(whole(k, 3), { gradientScale: 4, ...more });
if (mode === "write") {
  const alone = new MTAdam(makeParameters(true), options);
  for (let k = 0; k < 3; ++k) {
    step(optimizer, k, { reduced: true });
    step(alone, k);
  }
  // A file that cannot be written on one rank: the call fails on all.
  await assert.rejects(
    optimizer.save(path.join(folder, "missing", "file")),
    comm.rank === 0 ? { code: "ENOENT" } : { code: "ERR_MTADAM_DISTRIBUTED" },
  );
  // Ranks that do not write do not look at the path either.
  await optimizer.save(comm.rank === 0 ? file : folder);
  assert(existsSync(file));
  // A path that one rank cannot read from fails on all, without waiting.
  await assert.rejects(optimizer.load(comm.rank === 1 ? folder : file), {
    code: comm.rank === 1 ? "ERR_MTADAM_OPTION" : "ERR_MTADAM_DISTRIBUTED",
  });
  const inPieces = path.join(folder, "pieces.safetensors");
  await optimizer.save(inPieces, { pieces: true });
  // Of another training, with an equal header.
  const another = new MTAdam(makeParameters(true), { ...options, distributed: comm, shard: "state" });
  for (let k = 0; k < 3; ++k) step(another, k + 1, { reduced: true });
  await another.save(path.join(folder, "another"), { pieces: true });
  const others = Array.from({ length: comm.size }, (_, k) =>
    path.join(folder, `another.${k + 1}-of-${comm.size}`),
  );
  await comm.barrier();
  assert(!existsSync(inPieces));
  if (comm.rank === 0) {
    const pieces = Array.from({ length: comm.size }, (_, k) => `${inPieces}.${k + 1}-of-${comm.size}`);
    // In any order, to the file that their names tell.
    const { stdout } = merge(...[...pieces].reverse());
    assert.strictEqual(stdout, `Checkpoint: ${inPieces}\n`);
    assert(readFileSync(inPieces).equals(readFileSync(file)), "the merged file is another");
    const damaged = `${file}.damaged`;
    const bytes = readFileSync(pieces[0]);
    bytes[bytes.lastIndexOf("__metadata__")] ^= 1;
    writeFileSync(damaged, bytes);
    const refusals = [
      [[pieces[0]], "All 2 pieces must be given; 2 is missing."],
      [[...pieces, pieces[1]], "Each of the 2 pieces must be given once; got 3 files."],
      [[pieces[0], file], `"${file}" is not a piece of a checkpoint.`],
      [[pieces[0], others[1]], "The pieces must be of one save: their norms differ."],
      [[damaged, pieces[1]], "The pieces must be of one save: the header is another than theirs."],
    ];
    for (const [files, sentence] of refusals) {
      const { status, stderr } = merge(...files, "--output", `${file}.none`);
      assert.deepStrictEqual({ status, stderr }, { status: 1, stderr: `${sentence}\n` });
    }
    assert(!existsSync(`${file}.none`));
    await alone.save(`${file}.alone`);
    assert(readFileSync(file).equals(readFileSync(`${file}.alone`)), "the file is not that of one process");
    writeFileSync(thetaFile, Buffer.concat(thetaOf(parameters).map(({ buffer }) => Buffer.from(buffer))));
  }
} else {
  const theta = readFileSync(thetaFile);
  let at = 0;
  for (const { data } of parameters) {
    theta.copy(new Uint8Array(data.buffer), 0, at, (at += data.byteLength));
  }
  await assert.rejects(
    optimizer.load(comm.rank === comm.size - 1 ? path.join(folder, "missing") : file),
    comm.rank === comm.size - 1 ? { code: "ENOENT" } : { code: "ERR_MTADAM_DISTRIBUTED" },
  );
  await optimizer.load(file);
}
for (let k = 3; k < 6; ++k) step(optimizer, k, { reduced: true });
await comm.barrier();
console.log(JSON.stringify({ rank: comm.rank, digest: digest(thetaOf(parameters)) }));
