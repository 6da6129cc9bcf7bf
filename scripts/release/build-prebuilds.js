#!/usr/bin/env node
"use strict";

// npm run build:prebuilds: builds and checks the addon that is shipped for this machine's platform:
// prebuilds/<platform>/mtadam[.<libc>].node, with its debug information in build/debug.
//   --architecture NUMBER  the CUDA device for this one only, such as 90: quicker, not for shipping
//   --glibc VERSION        the oldest glibc that the addon must load with; by default 2.34

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs, promisify } = require("node:util");
const prebuildify = promisify(require("prebuildify"));
const { root } = require("../build/setup");
const { checkPrebuilds } = require("./check-prebuilds");

const OPTIONS = {
  architecture: { type: "string" },
  glibc: { type: "string" },
};

/** prebuildify moves the addon out of its build folder; the checkout's own addon stays in build/Release. */
const STAGE = path.join(root, "build", "prebuild");

const script = path.join(root, "scripts", "build", "native.js");

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  fs.mkdirSync(STAGE, { recursive: true });
  // For the script, which prebuildify calls as if it were node-gyp.
  if (values.architecture !== undefined) process.env.MTADAM_ARCHITECTURE = values.architecture;
  await prebuildify({
    name: "mtadam",
    cwd: STAGE,
    out: root,
    napi: true,
    strip: true,
    tagLibc: process.platform === "linux",
    // On Windows through a shell, since Windows ignores a script's first line.
    nodeGyp: process.platform === "win32" ? `node "${script}"` : script,
  });
  const failures = checkPrebuilds(values);
  for (const failure of failures) console.error(`✗ ${failure}`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}

main().catch((error) => {
  console.error(`build-prebuilds: ${error.message}`);
  process.exitCode = 1;
});
