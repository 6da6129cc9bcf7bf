#!/usr/bin/env node
"use strict";

// npm test: sets up what is missing, then runs the native tests, the static gates of the CUDA kernels where there is a
// CUDA compiler, and the TypeScript suite once per kind of device, and prints what they did.
//   npm test -- test/golden-test.ts …   arguments go to jest, which then runs alone

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const setup = require("./setup");
const { cudaGates } = require("./cuda-gates");
const { nativeTests, summarise } = require("./native-tests");

/** Runs the TypeScript suite on one kind of device: a project of jest.config.js. */
function jest(device, args) {
  const report = path.join(setup.root, "build", "jest.json");
  fs.mkdirSync(path.dirname(report), { recursive: true });
  fs.rmSync(report, { force: true });
  const command = [
    path.join(setup.root, "node_modules", "jest", "bin", "jest.js"),
    "--json",
    `--outputFile=${report}`,
    `--selectProjects=${device}`,
    ...(args.length === 0 ? [] : ["--passWithNoTests", "--", ...args]),
  ];
  // Its report goes to the file; what jest prints for a reader goes to standard error.
  spawnSync(process.execPath, command, { cwd: setup.root, stdio: ["ignore", "ignore", "inherit"] });
  const result = JSON.parse(fs.readFileSync(report, "utf8"));
  const tests = result.testResults.flatMap(({ assertionResults }) => assertionResults);
  return {
    // The others ask for nothing that only one device has, and run on each.
    bound: tests.filter(({ ancestorTitles }) =>
      ancestorTitles.some((title) => /^on (the CPU|CUDA): /.test(title)),
    ).length,
    passed: result.numPassedTests,
    // A file that does not even load counts as one failure.
    failed: result.numFailedTests + result.numRuntimeErrorTestSuites,
    skipped: result.numPendingTests + result.numTodoTests,
  };
}

function main() {
  const args = process.argv.slice(2);
  setup.build();
  const suites = {};
  if (args.length === 0) {
    setup.googleTest();
    Object.assign(suites, nativeTests());
    const gates = cudaGates();
    if (gates !== undefined) suites["CUDA kernels, compiled"] = gates;
  }
  suites["TypeScript, CPU"] = jest("cpu", args);
  if (setup.executor()) suites["TypeScript, executor"] = jest("executor", args);
  process.exitCode = summarise(suites) ? 0 : 1;
}

main();
