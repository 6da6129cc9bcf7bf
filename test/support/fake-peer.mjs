#!/usr/bin/env node
// In place of an interpreter for bench/peers: each script's part is played by mtadam itself, well or badly.

import { Buffer } from "node:buffer";
import { basename } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";

const { checkParameters } = await import("../../build/test/speed/bench/speed/check.mjs");
const { openDevice } = await import("../../dist/index.mjs");

const script = basename(process.argv[2] ?? "", ".py");
if (script === "fused") {
  console.error("Traceback\nImportError: there is no torch here");
  process.exit(1);
}

// Told to keep its memory, it comes to an end of it.
const lasts = process.env.MALLOC_MMAP_MAX_ === "0" ? 3 : Infinity;
let calls = 0;

const answers = {
  version: () => "ok 0.fake",
  check: (terms, threads) => {
    const parameters = checkParameters(openDevice("cpu", { threads: Number(threads) }), Number(terms), false);
    if (script === "foreach") parameters[7] += 1e-3;
    return `ok ${Buffer.from(parameters.buffer).toString("base64")}`;
  },
  setup: () => "ok",
  time: (steps) => (++calls > lasts ? "error It has no memory left." : `ok ${0.01 * Number(steps)}`),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...words] = line.split(" ");
  console.log(script === "compiled" ? "error It needs another version." : answers[verb](...words));
}
