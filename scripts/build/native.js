#!/usr/bin/env node
"use strict";

// Builds the addon with cmake-js and puts it where node-gyp-build looks: build/Release/mtadam.node. This script is the
// checkout's `npm run build:native` and an installed package's `npx mtadam build`. prebuildify calls it in place of
// node-gyp, with that tool's arguments (rebuild --target=… --arch=… --release); it then builds the shipped addon,
// puts it below the current folder, and puts its debug information in build/debug.
//   --cuda on|off|auto      the CUDA device; auto: if there is a CUDA compiler
//   --architecture NUMBER   the kernels for this one only, such as 90; CUDA is then required
//   --ptx        the kernels as PTX alone, which a driver compiles for its device: quick to build, runs anywhere
//   --executor   the tests' addon instead, whose CUDA device is the host executor: build/executor/mtadam.node
//   --sanitized  that addon under AddressSanitizer and UndefinedBehaviorSanitizer: build/sanitized/build/Release/mtadam.node,
//                and two with planted bugs; node-gyp-build finds it if MTADAM_PREBUILD is build/sanitized
//   --verbose    with the output of the tools
// Exits with 2 if an option is wrong, 1 if a tool is missing or fails.

const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { parseArgs } = require("node:util");
const { shippedArchitectures } = require("./architectures");
const { CUDA_TOOLKIT, cmakeJs, missingTools } = require("./tools");

const root = path.resolve(__dirname, "..", "..");

const OPTIONS = {
  cuda: { type: "string" },
  architecture: { type: "string" },
  ptx: { type: "boolean", default: false },
  executor: { type: "boolean", default: false },
  sanitized: { type: "boolean", default: false },
  verbose: { type: "boolean", default: false },
};
// node-gyp's options, ignored: the addon is the same for every version of Node, and CMake builds for its own machine.
const PREBUILDIFY = {
  target: { type: "string" },
  devdir: { type: "string" },
  arch: { type: "string" },
  release: { type: "boolean" },
};

/** @throws Error a sentence for the caller */
function readOptions(args) {
  const { values, tokens } = parseArgs({
    args,
    options: { ...OPTIONS, ...PREBUILDIFY },
    strict: false,
    tokens: true,
  });
  for (const { kind, name, rawName, value } of tokens) {
    if (kind === "positional" && value !== "rebuild")
      throw new Error(`\`${value}\` is not an argument of the build.`);
    if (kind !== "option") continue;
    const option = OPTIONS[name] ?? PREBUILDIFY[name];
    if (option === undefined) throw new Error(`\`${rawName}\` is not an option of the build.`);
    if (option.type === "boolean" && value !== undefined) throw new Error(`\`${rawName}\` takes no value.`);
    if (option.type === "string" && value === undefined) throw new Error(`\`${rawName}\` needs a value.`);
  }
  const { architecture, cuda = architecture === undefined ? "auto" : "on" } = values;
  if (!["on", "off", "auto"].includes(cuda)) {
    throw new Error(`\`--cuda\` must be on, off or auto; got ${JSON.stringify(cuda)}.`);
  }
  if (architecture !== undefined && !/^\d{2,3}[af]?$/.test(architecture)) {
    throw new Error(`\`--architecture\` must be a number such as 90; got ${JSON.stringify(architecture)}.`);
  }
  if (architecture !== undefined && cuda === "off") {
    throw new Error("`--architecture` and `--cuda off` exclude each other.");
  }
  const prebuild = tokens.some(({ kind }) => kind === "positional");
  if (!prebuild) return { ...values, cuda };
  // Settings that prebuildify has no argument for, from scripts/release/build-prebuilds.js.
  const { MTADAM_ARCHITECTURE: only } = process.env;
  return { ...values, cuda: only === undefined ? cuda : "on", architecture: only, prebuild };
}

function architectures({ architecture, ptx }) {
  if (architecture !== undefined) return `${architecture}-real`;
  const shipped = shippedArchitectures();
  return ptx ? shipped[0].replace("-real", "-virtual") : shipped.join(";");
}

/** Options for CMake. */
function definitions(options) {
  const { executor, sanitized } = options;
  return {
    CMAKE_BUILD_TYPE: "Release",
    MTADAM_CUDA: executor || sanitized ? "EXECUTOR" : options.cuda.toUpperCase(),
    MTADAM_CUDA_ARCHITECTURES: architectures(options),
    MTADAM_PREBUILD: options.prebuild ? "ON" : "OFF",
    // Quick to build: the native tests run the wider loops, also under the same sanitizers.
    ...(executor || sanitized ? { MTADAM_WIDE_LOOPS: "OFF" } : {}),
    // GCC warns of more under sanitizers, some of it wrongly.
    ...(sanitized
      ? { MTADAM_SANITIZE: "address,undefined", CMAKE_CXX_FLAGS_RELEASE: "-O1", MTADAM_WERROR: "OFF" }
      : {}),
  };
}

/** The build tree: each kind of build has its own, so that none overwrites another. */
function treeOf({ executor, sanitized, prebuild }) {
  if (sanitized) return path.join("build", "cmake-sanitized");
  if (executor) return path.join("build", "cmake-executor");
  return path.join("build", prebuild ? "cmake-prebuild" : "cmake");
}

/** The addons that a build makes, and the folder of each. */
function targetsOf({ executor, sanitized, prebuild }) {
  if (prebuild) return { mtadam: path.resolve("build", "Release") };
  const folder = (...names) => path.join(root, "build", ...names);
  if (sanitized) {
    return {
      mtadam: folder("sanitized", "build", "Release"),
      mtadam_planted_overrun: folder("planted-overrun", "build", "Release"),
      mtadam_planted_leak: folder("planted-leak", "build", "Release"),
    };
  }
  return { mtadam: folder(executor ? "executor" : "Release") };
}

/** @returns whether it succeeded */
function runCMakeJs(args, verbose) {
  const env = { ...process.env };
  // A make that runs npm sets these; they would override CMake's own make.
  for (const name of ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"]) delete env[name];
  // Where cmake-js looks for node-addon-api, after the folders above the package.
  env.NODE_PATH = [path.join(process.cwd(), "node_modules"), env.NODE_PATH]
    .filter(Boolean)
    .join(path.delimiter);
  const result = spawnSync(process.execPath, [cmakeJs(), ...args], {
    cwd: root,
    env,
    encoding: "utf8",
    stdio: verbose ? "inherit" : ["ignore", "pipe", "pipe"],
  });
  if (result.status === 0) return true;
  if (!verbose) process.stderr.write((result.stdout ?? "") + (result.stderr ?? ""));
  console.error(`\`cmake-js ${args.join(" ")}\` failed.`);
  return false;
}

/** If the build has no CUDA although it could, says what is missing. */
function tellOfCuda(tree) {
  const cache = fs.readFileSync(path.join(root, tree, "CMakeCache.txt"), "utf8");
  if (!/^CMAKE_CUDA_COMPILER:\w+=.*NOTFOUND$/m.test(cache)) return;
  console.log(
    "The addon is built for the CPU alone, since there is no CUDA compiler here. For CUDA devices, too: install " +
      `NVIDIA's CUDA Toolkit ${CUDA_TOOLKIT} or newer, with its nvcc on the PATH or named by CUDACXX, and build again.`,
  );
}

/** Keeps the debug information in a separate file; both files have the same build id. */
function keepDebugInformation(addon) {
  const { PREBUILD_PLATFORM, PREBUILD_ARCH, PREBUILD_LIBC } = process.env; // set by prebuildify
  const folder = path.join(root, "build", "debug", `${PREBUILD_PLATFORM}-${PREBUILD_ARCH}`);
  const file = path.join(folder, `mtadam.${PREBUILD_LIBC}.debug`);
  fs.mkdirSync(folder, { recursive: true });
  const { status } = spawnSync("objcopy", ["--only-keep-debug", addon, file], { stdio: "inherit" });
  if (status !== 0) throw new Error(`objcopy must keep the debug information of ${addon}.`);
}

function install(tree, name, folder, options) {
  // Visual Studio writes to a folder per configuration.
  const built = [`${name}.node`, path.join("Release", `${name}.node`)]
    .map((file) => path.join(root, tree, file))
    .find((file) => fs.existsSync(file));
  if (built === undefined) throw new Error(`There is no ${name}.node below ${tree}.`);
  if (options.prebuild && process.platform === "linux") keepDebugInformation(built);
  const target = path.join(folder, "mtadam.node");
  fs.mkdirSync(path.dirname(target), { recursive: true });
  // Not into the old file: a process that has it mapped would crash. And all at once: part of a file would count as built.
  const temporary = `${target}.tmp`;
  fs.copyFileSync(built, temporary);
  if (process.platform === "win32") fs.rmSync(target, { force: true });
  fs.renameSync(temporary, target);
}

function build(options) {
  try {
    fs.accessSync(root, fs.constants.W_OK);
  } catch (error) {
    console.error(`The addon is built in ${root}, which cannot be written to (${error.code}).`);
    return 1;
  }
  const missing = missingTools(options);
  for (const sentence of missing) console.error(sentence);
  if (missing.length > 0) return 1;

  if (!options.verbose) console.log("Compiling the addon; `--verbose` shows how it goes.");
  const tree = treeOf(options);
  const cmake = [
    "-O",
    tree,
    ...Object.entries(definitions(options)).map(([name, value]) => `--CD${name}=${value}`),
  ];
  const jobs = String(os.availableParallelism());
  // Two steps: `cmake-js compile` keeps the options of an earlier configuration.
  if (!runCMakeJs(["configure", ...cmake], options.verbose)) return 1;
  if (options.cuda === "auto" && !options.executor && !options.sanitized) tellOfCuda(tree);
  if (!runCMakeJs(["build", ...cmake, "-p", jobs], options.verbose)) return 1;
  for (const [name, folder] of Object.entries(targetsOf(options))) install(tree, name, folder, options);
  return 0;
}

function main(args) {
  let options;
  try {
    options = readOptions(args);
    return build(options);
  } catch (error) {
    console.error(error.message);
    return options === undefined ? 2 : 1;
  }
}

process.exitCode = main(process.argv.slice(2));
