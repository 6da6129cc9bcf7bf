#!/usr/bin/env node
"use strict";

// Seeded trainings on the CPU, with this checkout's compiled TypeScript and whatever addon node-gyp-build finds, and one
// line: a digest of all that they end in. The same on every machine, whatever its processor, compiler and threads.

const crypto = require("node:crypto");
const path = require("node:path");

const { MTAdam, openDevice } = require(path.join(__dirname, ".."));

const LENGTHS = [1, 0, 31, 4097, 20_000];
const STEPS = 12;

const TRAININGS = [
  { terms: 3 },
  { terms: 10, firstMoment: "summed", weightDecay: 0.01 },
  { terms: 3, amsgrad: true, weightDecay: 0.02, decoupledWeightDecay: true, maximize: true },
  { terms: 2, anchor: "mean", balance: 0.3, stepScale: "mean", betas: [0.8, 0.99, 0.95] },
  { terms: 4, firstMoment: "summed", amsgrad: true, anchor: "max", initialNorm: 2 },
];

/** Floats that every machine makes alike: 24 random bits each, exact, between -1 and 1. */
function generator(seed) {
  let state = seed;
  return (array, scale) => {
    for (let k = 0; k < array.length; k += 1) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      array[k] = scale * ((state >>> 8) / 2 ** 23 - 1);
    }
    return array;
  };
}

async function train(options, threads, digest) {
  const random = generator(options.terms);
  const parameters = LENGTHS.map((length) => random(new Float32Array(length), 1));
  const device = openDevice("cpu", { threads });
  const optimizer = new MTAdam(parameters, { ...options, device, lr: 0.01 });
  for (let step = 0; step < STEPS; step += 1) {
    const gradients = Array.from({ length: options.terms }, (_, term) => {
      // Terms of very different sizes; one is sometimes absent.
      if (term === 1 && step % 4 === 2) return null;
      return LENGTHS.map((length) => random(new Float32Array(length), 16 ** (term - 1)));
    });
    optimizer.step(gradients);
  }
  for (const array of [...parameters, await optimizer.norms()]) {
    digest.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  }
}

async function main() {
  const digest = crypto.createHash("sha256");
  for (const options of TRAININGS) {
    for (const threads of [1, 3]) await train(options, threads, digest);
  }
  console.log(digest.digest("hex"));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
