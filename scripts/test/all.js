#!/usr/bin/env node
"use strict";

// npm test: sets up what is missing, then runs the native tests, the static gates of the CUDA kernels if there is
// a CUDA compiler, and the TypeScript suite once per kind of device, and prints the results.
//   npm test -- test/api/golden-test.ts …   arguments go to jest, which then runs alone

const path = require("node:path");
const setup = require("../build/setup");
const { cudaGates } = require("./cuda-gates");
const { jestCounts, runJest } = require("./jest");
const { nativeTests, summarise } = require("./native-tests");

/** Runs the TypeScript suite on one kind of device. */
function jest(device, files) {
  const report = path.join(setup.root, "build", "jest.json");
  runJest(device, report, { args: files.length === 0 ? [] : ["--passWithNoTests", "--", ...files] });
  return jestCounts(report);
}

async function main() {
  const args = process.argv.slice(2);
  setup.build();
  const suites = {};
  if (args.length === 0) {
    setup.googleTest();
    Object.assign(suites, nativeTests());
    suites["CUDA kernels, compiled"] = await cudaGates();
  }
  const hasExecutor = setup.executor(); // a test of the first suite would have to build it
  suites["TypeScript, CPU"] = jest("cpu", args);
  if (hasExecutor) suites["TypeScript, executor"] = jest("executor", args);
  process.exitCode = summarise(suites) ? 0 : 1;
}

void main();
