// Trains a small model, saves and restores it, and prints a digest of its parameters. scripts/test/runtimes.js runs this
// in several runtimes, which must all print the same.

import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { MTAdam } from "../../dist/index.mjs";

const STEPS = 20;
const terms = ["large", "small"];
const makeParameters = () => [new Float32Array(5000).fill(1), new Float32Array(7)];

let state = 1;
/** The same numbers in every runtime, from −0.5 to 0.5. */
function draw() {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return state / 2 ** 32 - 0.5;
}

function gradients(parameters) {
  const like = (scale) => parameters.map((values) => Float32Array.from(values, () => scale * draw()));
  return { large: like(100), small: like(1) };
}

const parameters = makeParameters();
const optimizer = new MTAdam(parameters, { terms, preset: "recommended" });
const folder = mkdtempSync(path.join(tmpdir(), "mtadam-runtime-"));
try {
  const file = path.join(folder, "checkpoint.safetensors");
  for (let step = 0; step < STEPS; ++step) {
    optimizer.step(gradients(parameters));
    if (step !== STEPS / 2) continue;
    await optimizer.save(file);
    optimizer.step(gradients(parameters));
    await optimizer.load(file);
  }
} finally {
  rmSync(folder, { recursive: true });
}

// Gradients in half precision, where the runtime has an array of it. These codes are finite.
const halves = Uint16Array.from({ length: 300 }, (_, k) => (k * 7919) & 0xbfff);
const asHalves = globalThis.Float16Array === undefined ? halves : new Float16Array(halves.buffer);
const trainedInHalves = new Float32Array(300);
new MTAdam([trainedInHalves], { terms: 1, gradientDtype: "float16" }).step([[asHalves]]);
parameters.push(trainedInHalves);

const digest = createHash("sha256");
for (const values of parameters) digest.update(new Uint8Array(values.buffer));
console.log(digest.digest("hex"));
