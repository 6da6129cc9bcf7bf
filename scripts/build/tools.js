"use strict";

// Finds the tools that build the addon, and says how to get a missing one. An installed package comes without cmake-js
// and node-addon-api, which few users need; those who build install them beside it.

const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const root = path.resolve(__dirname, "..", "..");
const { devDependencies } = require(path.join(root, "package.json"));

const PACKAGES = ["cmake-js", "node-addon-api"];
const CMAKE = [3, 22];
const CUDA_TOOLKIT = "12.8";

/** The folder of an npm package; undefined if neither this package nor the current folder can resolve it. */
function packageFolder(name) {
  try {
    return path.dirname(require.resolve(`${name}/package.json`, { paths: [root, process.cwd()] }));
  } catch {
    return undefined;
  }
}

/** The script of cmake-js. */
function cmakeJs() {
  return path.join(packageFolder("cmake-js"), "bin", "cmake-js");
}

function output(command, args, input = "") {
  const { status, stdout } = spawnSync(command, args, {
    encoding: "utf8",
    input,
    stdio: ["pipe", "pipe", "ignore"],
  });
  return status === 0 ? stdout : undefined;
}

function missingPackages() {
  const missing = PACKAGES.filter((name) => packageFolder(name) === undefined);
  if (missing.length === 0) return [];
  const versions = missing.map((name) => `${name}@${devDependencies[name]}`).join(" ");
  return [
    `The npm package${missing.length > 1 ? "s" : ""} ${missing.join(" and ")} ${missing.length > 1 ? "are" : "is"} missing: ` +
      `\`npm install --no-save ${versions}\`.`,
  ];
}

function missingCMake() {
  const get = "`apt-get install cmake`, `brew install cmake`, or the installer from cmake.org";
  const version = /version (\d+)\.(\d+)/.exec(output("cmake", ["--version"]) ?? "");
  if (version === null) return [`CMake is missing: ${get}.`];
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major > CMAKE[0] || (major === CMAKE[0] && minor >= CMAKE[1])) return [];
  return [`CMake ${CMAKE.join(".")} or newer is needed, and this is ${major}.${minor}: ${get}.`];
}

/** On Windows CMake's search for a compiler is too complex to repeat here; CMake itself reports a missing one. */
function missingCompiler() {
  if (process.platform === "win32") return [];
  const get =
    process.platform === "darwin"
      ? "`xcode-select --install`"
      : "`apt-get install g++`, or the like of it elsewhere";
  // CXX may contain arguments, as CMake allows.
  const names = process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"];
  const run = (name, args, input) => {
    const [command, ...own] = name.trim().split(/\s+/);
    return output(command, [...own, ...args], input);
  };
  const compiler = names.find((name) => run(name, ["--version"]) !== undefined);
  if (compiler === undefined) {
    return [
      `A C++ compiler is missing (${names.join(", ")}): ${get}; the environment variable CXX names another.`,
    ];
  }
  // A test of the C++20 language and of its library.
  if (run(compiler, ["-std=c++20", "-fsyntax-only", "-x", "c++", "-"], "#include <span>\n") !== undefined)
    return [];
  return [`The C++ compiler ${compiler} does not know C++20 (GCC 11 and Clang 14 do): ${get}.`];
}

function missingCudaCompiler({ cuda }) {
  if (cuda !== "on") return [];
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  if (process.env.CUDA_PATH) folders.push(path.join(process.env.CUDA_PATH, "bin"));
  const name = process.platform === "win32" ? "nvcc.exe" : "nvcc";
  if (process.env.CUDACXX || folders.some((folder) => fs.existsSync(path.join(folder, name)))) return [];
  return [
    `The CUDA compiler nvcc is missing: install NVIDIA's CUDA Toolkit ${CUDA_TOOLKIT} or newer, and put its folder bin on ` +
      "the PATH or name nvcc in the environment variable CUDACXX.",
  ];
}

/** A sentence per missing tool: its name, and how to get it. */
function missingTools(options) {
  return [...missingPackages(), ...missingCMake(), ...missingCompiler(), ...missingCudaCompiler(options)];
}

module.exports = { CUDA_TOOLKIT, cmakeJs, missingTools };
