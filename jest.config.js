"use strict";

// The suite is written against `device.buffer()` and runs on every kind of device: the CPU, and a CUDA device on the
// host executor (build/executor, which needs no GPU). `--selectProjects cuda` runs it on a real one.

// What is about the package, how it is built, the process or the oracle, not about a device.
const CPU_ONLY = [
  "balancing-test.ts",
  "bench-gpu-test.ts",
  "bench-speed-test.ts",
  "package-test.ts",
  "prebuilds-test.ts",
  "workflows-test.ts",
  "load-test.ts",
  "elf-test.ts",
  "test/cli/",
  "test/repo/",
  "gpu-check-test.ts",
  "oracle-golden-test.ts",
  "lifecycle-test.ts",
  "save-process-test.ts",
];
// What is about CUDA alone.
const CUDA_ONLY = "test/cuda/";

/** @returns {import("jest").Config} */
function project(testDeviceKind, ignored) {
  return {
    displayName: testDeviceKind,
    testEnvironment: "node",
    roots: ["<rootDir>/test"],
    testMatch: ["**/*-test.ts"],
    testPathIgnorePatterns: ignored,
    transform: { "^.+\\.ts$": ["ts-jest", { tsconfig: "test/tsconfig.json" }] },
    globals: { testDeviceKind },
  };
}

/** @type {import("jest").Config} */
module.exports = {
  projects: [project("cpu", [CUDA_ONLY]), project("executor", CPU_ONLY), project("cuda", CPU_ONLY)],
  errorOnDeprecated: true,
  // jest leaves one core to others, which of two is half.
  maxWorkers: "100%",
  testTimeout: 120_000,
};
