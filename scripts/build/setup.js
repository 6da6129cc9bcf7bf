"use strict";

// Makes the files that `npm test` and `npm run demo` need, if they are missing or out of date: the npm packages, the
// addon, the compiled TypeScript, and GoogleTest for the native tests. Needs only Node itself.

const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const { npmScript } = require("./npm");

const root = path.resolve(__dirname, "..", "..");

/** Runs a command in the checkout; ends this process if it fails. */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (result.status === 0) return;
  console.error(
    `\`${[command, ...args].join(" ")}\` failed${result.error ? `: ${result.error.message}` : ""}`,
  );
  process.exit(result.status ?? 1);
}

/** Runs npm in the checkout; ends this process if it fails. */
function npm(...args) {
  run(process.execPath, [npmScript(), ...args]);
}

function succeeds(command, args) {
  return spawnSync(command, args, { cwd: root, stdio: "ignore" }).status === 0;
}

function modified(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? -Infinity;
}

/** The time of the latest change of a file, or in a folder. */
function newest(place) {
  const full = path.join(root, place);
  if (!fs.statSync(full).isDirectory()) return modified(full);
  return Math.max(...fs.readdirSync(full).map((name) => newest(path.join(place, name))));
}

function isStale(product, ...sources) {
  return modified(path.join(root, product)) < Math.max(...sources.map(newest));
}

function packages() {
  if (isStale("node_modules/.package-lock.json", "package-lock.json")) npm("ci");
}

const NATIVE = [
  "native/math",
  "native/engine",
  "native/cpu",
  "native/cuda",
  "native/mpi",
  "native/nccl",
  "native/addon",
  "CMakeLists.txt",
  "package.json", // the version is compiled in
  "scripts/build/native.js",
];

function typescript() {
  packages();
  if (isStale("dist/index.mjs", "lib", "tsconfig.json", "package.json", "scripts/build/esm.js")) {
    console.log("Compiling the TypeScript …");
    npm("run", "--silent", "build:ts");
  }
}

function build() {
  packages();
  if (isStale("build/Release/mtadam.node", ...NATIVE)) {
    console.log("Building the addon …");
    // The kernels take longer to compile than all the rest, so only where a GPU can run them; as PTX, which compiles a
    // minute faster than machine code and runs on every device.
    const kernels = succeeds("nvidia-smi", ["--list-gpus"]) ? ["--ptx"] : ["--cuda", "off"];
    npm("run", "--silent", "build:native", "--", ...kernels);
  }
  typescript();
}

/**
 * The native programs that a folder's CMakeLists.txt describes, built into build/<folder>/native. `options` are CMake's, and
 * persist until other options are given.
 */
function program(folder, options = []) {
  const build = path.join("build", folder, "native");
  run("cmake", ["-S", folder, "-B", build, "-DCMAKE_BUILD_TYPE=Release", ...options], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  run("cmake", ["--build", build, "--config", "Release"], { stdio: ["ignore", "ignore", "inherit"] });
}

/** The sources of the tests' addon. */
const TEST_ADDON = [
  ...NATIVE,
  "native/test/simt",
  "native/test/simt_addon.cpp",
  "native/test/failing_new.cpp",
  "native/test/failing_new.h",
];

/** The tests' addon, whose CUDA device is the host executor. Linux only. */
function executor() {
  if (process.platform !== "linux") return false;
  if (isStale("build/executor/mtadam.node", ...TEST_ADDON)) {
    console.log("Building the addon of the tests …");
    npm("run", "--silent", "build:native", "--", "--executor");
  }
  return true;
}

/** The tests' addon under sanitizers, and two more with a planted bug each. */
function sanitized() {
  packages();
  const addon = "build/sanitized/build/Release/mtadam.node";
  if (isStale(addon, ...TEST_ADDON, "native/test/planted_addon.cmake")) {
    console.log("Building the addon of the tests under sanitizers …");
    npm("run", "--silent", "build:native", "--", "--sanitized");
  }
}

const INSTALL_GTEST = ["apt-get", "install", "-y", "libgtest-dev"];

/** Whether the compiler finds GoogleTest's header. */
function hasGoogleTest() {
  const input = "#include <gtest/gtest.h>\n";
  return (
    spawnSync(process.env.CXX ?? "c++", ["-E", "-x", "c++", "-"], {
      input,
      stdio: ["pipe", "ignore", "ignore"],
    }).status === 0
  );
}

/** Installs GoogleTest if this user may; otherwise prints the command and ends. */
function googleTest() {
  if (hasGoogleTest()) return;
  const mayInstall =
    process.platform === "linux" && process.getuid() === 0 && succeeds("apt-get", ["--version"]);
  if (mayInstall) {
    console.log("Installing GoogleTest (libgtest-dev) …");
    run("apt-get", ["update", "-qq"]);
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    run(INSTALL_GTEST[0], [...INSTALL_GTEST.slice(1), "-qq"], { env });
    return;
  }
  console.error(
    `The native tests need GoogleTest. On Debian and Ubuntu: sudo ${INSTALL_GTEST.join(" ")}; ` +
      "with Homebrew: brew install googletest.",
  );
  process.exit(1);
}

module.exports = { root, run, npm, packages, typescript, build, program, executor, sanitized, googleTest };
