"use strict";

// Builds what scripts/gpu-check runs: the addon, the package's TypeScript, the native tests on a GPU and the benchmark.
// Needs nvcc.
//   node scripts/gpu/build.js [architecture]   such as 90; else all that the package supports

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const setup = require("../setup");
const { head } = require("./commit");
const { BENCHMARK_FOLDER, COMMIT, NATIVE_BUILD, NATIVE_TESTS } = require("./products");

const jobs = String(os.availableParallelism());

function nativeTests(architecture) {
  const architectures =
    architecture === undefined
      ? "-UMTADAM_CUDA_ARCHITECTURES" // an earlier choice
      : `-DMTADAM_CUDA_ARCHITECTURES=${architecture}-real`;
  const options = ["-DMTADAM_TESTS=ON", "-DMTADAM_WERROR=ON", "-DMTADAM_CUDA=ON", architectures];
  const quietly = { stdio: ["ignore", "ignore", "inherit"] };
  setup.run("cmake", ["-S", ".", "-B", NATIVE_BUILD, ...options], quietly);
  const target = path.basename(NATIVE_TESTS);
  setup.run("cmake", ["--build", NATIVE_BUILD, "--target", target, "--parallel", jobs], quietly);
}

function benchmark(architecture) {
  const chosen = architecture === undefined ? "-U" : "-D";
  const value = architecture === undefined ? "" : `=${architecture}-real`; // without: PTX, which serves all
  setup.program(BENCHMARK_FOLDER, [`${chosen}MTADAM_ROOF_ARCHITECTURES${value}`]);
  setup.run(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", path.dirname(BENCHMARK_FOLDER)]);
}

function main(architecture) {
  setup.packages();
  setup.googleTest();
  console.log("Building the native tests …");
  nativeTests(architecture);
  console.log("Building the addon …");
  const only = architecture === undefined ? [] : [`--architecture=${architecture}`];
  setup.npm("run", "--silent", "build:native", "--", ...only);
  console.log("Compiling the TypeScript …");
  setup.npm("run", "--silent", "build:ts");
  console.log("Building the benchmark …");
  benchmark(architecture);
  const built = head();
  if (built !== undefined) fs.writeFileSync(path.join(setup.root, COMMIT), `${built}\n`);
}

main(process.argv[2]);
