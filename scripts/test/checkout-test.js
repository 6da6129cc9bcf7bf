#!/usr/bin/env node
"use strict";

// Tests a checkout on a machine without CUDA: copies the files under version control to an empty folder and builds there
// with `npm ci` and `npm run build`, with no nvcc on the PATH. The build must say that it is for the CPU alone and how to
// get CUDA, and the folder must load. The last line counts passes and failures.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { npm, npmScript } = require("../build/npm");
const { root } = require("../build/setup");

/** The programs that a build needs besides Node. */
const PROGRAMS = [
  "ar",
  "as",
  "c++",
  "cc",
  "cmake",
  "dirname",
  "env",
  "g++",
  "gcc",
  "ld",
  "make",
  "ranlib",
  "sed",
  "sh",
  "uname",
];

/** Files under version control, with their changes. */
function files() {
  const { status, stdout, stderr } = spawnSync(
    "git",
    ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    {
      cwd: root,
      encoding: "utf8",
    },
  );
  if (status !== 0) throw new Error(stderr);
  return stdout.split("\0").filter((name) => name !== "" && fs.existsSync(path.join(root, name)));
}

function find(name) {
  const folders = process.env.PATH.split(path.delimiter);
  return folders.map((folder) => path.join(folder, name)).find((file) => fs.existsSync(file));
}

/** A folder with links to these programs only. A compiler finds its own parts beside the target of its link. */
function pathOf(folder) {
  fs.mkdirSync(folder);
  for (const name of PROGRAMS) {
    const file = find(name);
    if (file === undefined) throw new Error(`${name} must be on the PATH.`);
    fs.symlinkSync(file, path.join(folder, name));
  }
  fs.symlinkSync(process.execPath, path.join(folder, "node"));
  fs.symlinkSync(npmScript(), path.join(folder, "npm"));
  return folder;
}

function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-checkout-"));
  try {
    const checkout = path.join(folder, "checkout");
    for (const name of files()) fs.cpSync(path.join(root, name), path.join(checkout, name));
    const env = { ...process.env, PATH: pathOf(path.join(folder, "bin")) };
    for (const name of ["CUDACXX", "CUDA_PATH", "CUDA_HOME"]) delete env[name];
    npm(["ci", "--no-audit", "--no-fund"], { cwd: checkout });
    const said = npm(["run", "build"], { cwd: checkout, env });
    console.log(said.trim());

    const program = 'const { cuda } = require(".").describeDevices(); console.log(JSON.stringify(cuda))';
    const { stdout, stderr } = spawnSync(process.execPath, ["-e", program], {
      cwd: checkout,
      encoding: "utf8",
    });
    const results = {
      "the build says that it is for the CPU alone, and how to get CUDA":
        /CPU alone.*CUDA Toolkit 12\.8/.test(said),
      "the folder loads, and has no CUDA": stdout.includes("has no CUDA"),
    };
    for (const [name, good] of Object.entries(results)) console.log(`${good ? "✓" : "✗"} ${name}`);
    if (!results["the folder loads, and has no CUDA"]) console.log(stdout + stderr);
    const failed = Object.values(results).filter((good) => !good).length;
    console.log(`${Object.keys(results).length - failed} passed, ${failed} failed`);
    process.exitCode = failed === 0 ? 0 : 1;
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

main();
