"use strict";

// One project per kind of device. test/api is written against `device.buffer()` and runs on every kind: the CPU, a CUDA
// device on the host executor (build/executor, which needs no GPU), and with `--selectProjects cuda` a real one. test/cpu
// and test/cuda hold what one kind has; test/repo tests scripts, benches and the package, once.

const os = require("node:os");

/** @returns {import("jest").Config} */
function project(testDeviceKind, folders) {
  return {
    displayName: testDeviceKind,
    testEnvironment: "<rootDir>/test/support/environment.js",
    roots: folders.map((folder) => `<rootDir>/test/${folder}`),
    testMatch: ["**/*-test.ts"],
    transform: { "^.+\\.ts$": ["ts-jest", { tsconfig: "test/tsconfig.json" }] },
    globals: { testDeviceKind },
  };
}

/** @type {import("jest").Config} */
module.exports = {
  projects: [
    project("cpu", ["api", "cpu", "repo"]),
    project("executor", ["api", "cuda"]),
    project("cuda", ["api", "cuda"]),
  ],
  errorOnDeprecated: true,
  // More than the cores: a fifth of the time, tests wait for processes that they started or for clocks.
  maxWorkers: Math.ceil(1.5 * os.availableParallelism()),
  testTimeout: 120_000,
};
