"use strict";

// The TypeScript suite on one kind of device, a project of jest.config.js: jest's arguments, and the counts of its report.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { root } = require("../build/setup");

/**
 * Arguments for Node. jest prints its messages to standard error, and writes its results to `report`.
 *
 * @param {"cpu" | "executor" | "cuda"} device
 * @param {string} report a file that does not exist yet
 * @param {string[]} args more for jest
 */
function jestArguments(device, report, args = []) {
  return [
    path.join(root, "node_modules", "jest", "bin", "jest.js"),
    "--json",
    `--outputFile=${report}`,
    `--selectProjects=${device}`,
    ...args,
  ];
}

/**
 * Runs the suite on one kind of device in a process of its own.
 *
 * @param {"cpu" | "executor" | "cuda"} device
 * @param {string} report
 * @param {import("node:child_process").SpawnSyncOptions & { node?: string, args?: string[] }} options
 * @returns the result of the process
 */
function runJest(device, report, { node = process.execPath, args = [], ...options } = {}) {
  fs.mkdirSync(path.dirname(report), { recursive: true });
  fs.rmSync(report, { force: true });
  return spawnSync(node, jestArguments(device, report, args), {
    cwd: root,
    stdio: ["ignore", "ignore", "inherit"],
    ...options,
  });
}

/** The counts of a run's report. */
function jestCounts(report) {
  const result = JSON.parse(fs.readFileSync(report, "utf8"));
  const tests = result.testResults.flatMap(({ assertionResults }) => assertionResults);
  return {
    // The other tests need no particular device, and run on each.
    bound: tests.filter(({ ancestorTitles }) =>
      ancestorTitles.some((title) => /^on (the CPU|CUDA): /.test(title)),
    ).length,
    passed: result.numPassedTests,
    // A file that does not even load counts as one failure.
    failed: result.numFailedTests + result.numRuntimeErrorTestSuites,
    skipped: result.numPendingTests + result.numTodoTests,
  };
}

module.exports = { jestArguments, jestCounts, runJest };
