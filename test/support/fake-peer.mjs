#!/usr/bin/env node
// In place of an interpreter for bench/peers: each script's part is played by mtadam itself, well or badly.

import { Buffer } from "node:buffer";
import { basename } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";

const compiled = process.env.MTADAM_BENCH ?? "../../build/test/speed";
const { checkParameters } = await import(`${compiled}/bench/speed/check.mjs`);
const { openDevice } = await import("../../dist/index.mjs");

const script = basename(process.argv[2] ?? "", ".py");
const on = process.argv[process.argv.indexOf("--device") + 1];
const isOnCpu = on === "cpu";
if (script === "fused" && isOnCpu) {
  console.error("Traceback\nImportError: there is no torch here");
  process.exit(1);
}

// Told to keep its memory, it comes to an end of it.
const lasts = process.env.MALLOC_MMAP_MAX_ === "0" ? 3 : Infinity;
let calls = 0;
let setups = 0;

const answers = {
  version: () => (isOnCpu ? "ok 0.fake" : `ok 0.fake+${on}`),
  check: async (terms, threads) => {
    const oneTerm = script === "fused";
    const device = openDevice("cpu", { threads: Number(threads) });
    const parameters = await checkParameters(device, Number(terms), oneTerm);
    if (script === "foreach") parameters[7] += 1e-3;
    return `ok ${Buffer.from(parameters.buffer).toString("base64")}`;
  },
  setup: (terms, threads, sets, lengths) => {
    if (sets === "0" && script === "fused") return "error It cannot rest.";
    const compilesForEver = script === "compiled" && lengths.includes("x");
    return compilesForEver ? undefined : (++setups, "ok");
  },
  // On a GPU in as many seconds a step as there were setups, so that a process which goes on can be told.
  time: (steps) => {
    if (++calls > lasts) return "error It has no memory left.";
    return `ok ${(isOnCpu ? 0.01 : setups) * Number(steps)}`;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...words] = line.split(" ");
  const answer =
    script === "compiled" && isOnCpu ? "error It needs another version." : await answers[verb](...words);
  if (answer !== undefined) console.log(answer);
}
