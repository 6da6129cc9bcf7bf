#!/usr/bin/env node
"use strict";

// Tests that the addon that is shipped has the same bytes when it is built in another folder: builds it here and in a
// copy of the checkout, whose path has another length, and compares. Linux only.
//   --architecture NUMBER  kernels for this one only, such as 90: quicker

const crypto = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { parseArgs } = require("node:util");
const setup = require("../build/setup");
const { fileOf, here } = require("./platforms");

const COPIED = ["CMakeLists.txt", "package.json", "dist", "native", "scripts", "node_modules"];

function build(folder, args) {
  // A compiler cache would return the objects of the other folder's build.
  const env = { ...process.env, CCACHE_DISABLE: "1" };
  const script = path.join(folder, "scripts", "release", "build-prebuilds.js");
  const { status } = spawnSync(process.execPath, [script, ...args], { cwd: folder, env, stdio: "inherit" });
  if (status !== 0) throw new Error(`the build in ${folder} failed`);
  const bytes = fs.readFileSync(path.join(folder, "prebuilds", fileOf(here())));
  return crypto.createHash("sha256").update(bytes).digest("hex");
}

function main() {
  const { architecture } = parseArgs({ options: { architecture: { type: "string" } } }).values;
  const args = architecture === undefined ? [] : ["--architecture", architecture];
  setup.typescript();
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-in-a-folder-of-another-name-"));
  try {
    for (const name of COPIED)
      fs.cpSync(path.join(setup.root, name), path.join(copy, name), { recursive: true });
    fs.rmSync(path.join(setup.root, "build", "cmake-prebuild"), { recursive: true, force: true });
    const digests = [setup.root, copy].map((folder) => build(folder, args));
    const same = digests[0] === digests[1];
    console.log(`${digests.join("\n")}\n${same ? "1 passed, 0 failed" : "0 passed, 1 failed"}`);
    process.exitCode = same ? 0 : 1;
  } finally {
    fs.rmSync(copy, { recursive: true });
  }
}

main();
