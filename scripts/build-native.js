#!/usr/bin/env node
"use strict";

// Builds the addon with cmake-js and puts it where node-gyp-build looks: build/Release/mtadam.node. Also called by
// prebuildify in place of node-gyp, with that tool's arguments (rebuild --target=… --arch=… --release), and then builds
// what is shipped: below the current folder, its debug information in build/debug.
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
const prebuild = process.argv[2] === "rebuild";
/** The processor, where a cross-compiler builds for another than this machine's: arm64 on Linux is known. */
const foreign = prebuild ? optionValue("--arch") : undefined;
const cross = foreign !== undefined && foreign !== process.arch && process.platform === "linux";
const output = path.join("build", buildFolder());
const architecture = prebuild ? process.env.MTADAM_ARCHITECTURE : optionValue("--architecture");

function optionValue(option) {
  return process.argv.find((argument) => argument.startsWith(`${option}=`))?.slice(option.length + 1);
}

/** The build tree below build/. */
function buildFolder() {
  if (executor) return "cmake-executor";
  if (!prebuild) return "cmake";
  return cross ? `cmake-prebuild-${foreign}` : "cmake-prebuild";
}

/** Where the addon is put. */
function targetFolder() {
  return prebuild
    ? path.resolve("build", "Release")
    : path.join(root, "build", executor ? "executor" : "Release");
}

const ALL_ARCHITECTURES = "75-real;80-real;86-real;89-real;90-real;100-real;120-real;120-virtual";

function architectures() {
  if (architecture !== undefined) return `${architecture}-real`;
  return ptx ? "75-virtual" : ALL_ARCHITECTURES;
}

/** The CUDA device: CMakeLists.txt has the words. */
function cuda() {
  if (executor) return "EXECUTOR";
  if (cross) return "OFF";
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

/** Options for CMake. */
function definitions() {
  return {
    CMAKE_BUILD_TYPE: "Release",
    MTADAM_CUDA: cuda(),
    MTADAM_CUDA_ARCHITECTURES: architectures(),
    MTADAM_PREBUILD: prebuild ? "ON" : "OFF",
    ...(cross ? { CMAKE_TOOLCHAIN_FILE: path.join(__dirname, "cross", "aarch64-linux-gnu.cmake") } : {}),
  };
}

/** Says what is missing where the build has no CUDA, though it may have. */
function tellOfCuda() {
  if (cuda() !== "AUTO") return;
  const cache = fs.readFileSync(path.join(root, output, "CMakeCache.txt"), "utf8");
  if (!/^CMAKE_CUDA_COMPILER:\w+=.*NOTFOUND$/m.test(cache)) return;
  console.log(
    "The addon is built for the CPU alone, since there is no CUDA compiler here. For CUDA devices, too: install the " +
      "CUDA toolkit, 12.8 or newer, with its nvcc on the PATH or named by CUDACXX, and build again.",
  );
}

/** Keeps what a debugger needs beside the addon; what identifies the build, in both, tells which belongs to which. */
function keepDebugInformation(addon) {
  const { PREBUILD_PLATFORM, PREBUILD_ARCH, PREBUILD_LIBC } = process.env; // set by prebuildify
  const folder = path.join(root, "build", "debug", `${PREBUILD_PLATFORM}-${PREBUILD_ARCH}`);
  const file = path.join(folder, `mtadam.${PREBUILD_LIBC}.debug`);
  fs.mkdirSync(folder, { recursive: true });
  const objcopy = cross ? "aarch64-linux-gnu-objcopy" : "objcopy";
  const { status } = spawnSync(objcopy, ["--only-keep-debug", addon, file], { stdio: "inherit" });
  if (status !== 0) throw new Error(`${objcopy} could not keep the debug information of ${addon}`);
}

function main() {
  // Two steps: `cmake-js compile` keeps the options of an earlier configuration.
  const options = Object.entries(definitions()).map(([name, value]) => `--CD${name}=${value}`);
  cmakeJs("configure", "-O", output, ...options);
  tellOfCuda();
  cmakeJs("build", "-O", output, ...options, "-p", String(os.availableParallelism()));

  // Visual Studio writes to a folder per configuration.
  const built = ["mtadam.node", path.join("Release", "mtadam.node")]
    .map((name) => path.join(root, output, name))
    .find((file) => fs.existsSync(file));
  if (built === undefined) throw new Error(`no mtadam.node below ${output}`);
  if (prebuild && process.platform === "linux") keepDebugInformation(built);
  const target = path.join(targetFolder(), "mtadam.node");
  fs.mkdirSync(path.dirname(target), { recursive: true });
  // Not over the old file: a process that has it mapped would crash.
  fs.rmSync(target, { force: true });
  fs.copyFileSync(built, target);
}

main();
