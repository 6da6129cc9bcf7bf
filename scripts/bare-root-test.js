#!/usr/bin/env node
"use strict";

// The package on a system that has Node and nothing else: a fresh Debian made by debootstrap, in which Node's program and
// npm are put, and then the packed file is installed, without scripts, a network or a compiler, and the README's first
// example is run. Needs Linux, root and debootstrap; takes a minute or two. What is packed is in prebuilds/ and dist/.
//   --suite NAME  a release of Debian: bookworm (12) unless told otherwise

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { parseArgs } = require("node:util");
const { npm } = require("./npm");
const setup = require("./setup");
const { pack } = require("./package/contents");

const OPTIONS = { suite: { type: "string", default: "bookworm" } };

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    ...options,
  });
  if (status === 0) return stdout;
  const said = `${stdout ?? ""}${stderr ?? ""}`.trimEnd().split("\n").slice(-20).join("\n");
  throw new Error(`\`${command} ${args.join(" ")}\` failed: ${error?.message ?? said}`);
}

/** The first TypeScript of the README, which is JavaScript, too. */
function firstExample() {
  const readme = fs.readFileSync(path.join(setup.root, "README.md"), "utf8");
  const [, example] = /^```ts\n([^]*?)^```$/m.exec(readme) ?? [];
  if (example === undefined) throw new Error("The README must have an example.");
  return example;
}

/** Node and npm of this machine, where they would be installed. */
function installNode(system) {
  fs.copyFileSync(process.execPath, path.join(system, "usr", "bin", "node"));
  const packages = npm(["root", "--global"]).trim();
  fs.cpSync(path.join(packages, "npm"), path.join(system, "usr", "lib", "npm"), { recursive: true });
}

function main() {
  const { suite } = parseArgs({ options: OPTIONS }).values;
  if (process.platform !== "linux" || process.getuid() !== 0) throw new Error("this needs Linux and root");
  setup.packages();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-bare-"));
  const system = path.join(folder, "root");
  const inside = (command, ...args) =>
    run("chroot", [system, command, ...args], {
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/home", PREBUILDS_ONLY: "1" },
    });
  try {
    run("debootstrap", ["--variant=minbase", suite, system]);
    console.log(
      `✓ a fresh root: Debian ${fs.readFileSync(path.join(system, "etc", "debian_version"), "utf8").trim()}`,
    );
    installNode(system);
    console.log(`✓ Node ${inside("node", "--version").trim()}, and neither ${absent(inside).join(", nor ")}`);

    const home = path.join(system, "home");
    const dependency = npm(["pack", "--ignore-scripts", "--pack-destination", home], {
      cwd: path.join(setup.root, "node_modules", "node-gyp-build"),
    }).trim();
    const { file } = pack(home);
    fs.writeFileSync(path.join(home, "package.json"), '{ "name": "bare", "private": true }\n');
    const options = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", "/home"];
    const tarballs = [path.basename(file), dependency].map((name) => `/home/${name}`);
    inside("node", "/usr/lib/npm/bin/npm-cli.js", "install", ...options, ...tarballs);
    console.log(`✓ installed ${path.basename(file)}`);

    fs.writeFileSync(path.join(home, "example.mjs"), firstExample());
    const output = inside("node", "/home/example.mjs").trim();
    if (!output.includes("MTAdam ends at 0.50, 0.50")) throw new Error(`the example printed: ${output}`);
    console.log("✓ the README's first example");
    console.log("4 passed, 0 failed");
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** @throws Error where a compiler is there */
function absent(inside) {
  const programs = ["c++", "gcc", "cmake", "make", "python3"];
  const found = inside("sh", "-c", `command -v ${programs.join(" ")} || true`).trim();
  if (found !== "") throw new Error(`the root is not bare: ${found}`);
  return programs;
}

try {
  main();
} catch (error) {
  console.error(`bare-root-test: ${error.message}`);
  process.exitCode = 1;
}
