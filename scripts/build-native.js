#!/usr/bin/env node
"use strict";

// Builds the addon with cmake-js and puts it where node-gyp-build looks: build/Release/mtadam.node. Also called by
// prebuildify in place of node-gyp, with that tool's arguments (rebuild --target=… --arch=… --release).
//   --ptx        the CUDA kernels as PTX alone, which a driver compiles for its device: quick to build, runs anywhere
//   --architecture=NUMBER   for that one alone, such as 90; CUDA is then a must
//   --executor   the tests' addon instead, whose CUDA device is the host executor: build/executor/mtadam.node
//   --verbose    with the output of the tools

const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const root = path.resolve(__dirname, "..");
const verbose = process.argv.includes("--verbose");
const executor = process.argv.includes("--executor");
const ptx = process.argv.includes("--ptx");
const output = path.join("build", executor ? "cmake-executor" : "cmake");
const folder = path.join("build", executor ? "executor" : "Release");
const architecture = process.argv
  .find((argument) => argument.startsWith("--architecture="))
  ?.slice("--architecture=".length);

const ALL_ARCHITECTURES = "75-real;80-real;86-real;89-real;90-real;100-real;120-real;120-virtual";

function architectures() {
  if (architecture !== undefined) return `${architecture}-real`;
  return ptx ? "75-virtual" : ALL_ARCHITECTURES;
}

/** The CUDA device: CMakeLists.txt has the words. */
function cuda() {
  if (executor) return "EXECUTOR";
  return architecture === undefined ? "AUTO" : "ON";
}

function cmakeJs(...args) {
  const env = { ...process.env };
  // Set by a make that npm may run under; it would take over cmake's own.
  for (const name of ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"]) delete env[name];
  const result = spawnSync(process.execPath, [require.resolve("cmake-js/bin/cmake-js"), ...args], {
    cwd: root,
    env,
    encoding: "utf8",
    stdio: verbose ? "inherit" : ["ignore", "pipe", "pipe"],
  });
  if (result.status === 0) return;
  if (!verbose) process.stderr.write((result.stdout ?? "") + (result.stderr ?? ""));
  console.error(
    `build-native: \`cmake-js ${args.join(" ")}\` failed. It needs CMake 3.22+ and a C++20 compiler.`,
  );
  process.exit(result.status ?? 1);
}

function main() {
  // Two steps: `cmake-js compile` keeps the options of an earlier configuration.
  const generator = [
    "-O",
    output,
    "--CDCMAKE_BUILD_TYPE=Release",
    `--CDMTADAM_CUDA=${cuda()}`,
    `--CDMTADAM_CUDA_ARCHITECTURES=${architectures()}`,
  ];
  cmakeJs("configure", ...generator);
  cmakeJs("build", ...generator, "-p", String(os.availableParallelism()));

  // Visual Studio writes to a folder per configuration.
  const built = ["mtadam.node", path.join("Release", "mtadam.node")]
    .map((name) => path.join(root, output, name))
    .find((file) => fs.existsSync(file));
  if (built === undefined) throw new Error(`no mtadam.node below ${output}`);
  const target = path.join(root, folder, "mtadam.node");
  fs.mkdirSync(path.dirname(target), { recursive: true });
  // Not over the old file: a process that has it mapped would crash.
  fs.rmSync(target, { force: true });
  fs.copyFileSync(built, target);
}

main();
