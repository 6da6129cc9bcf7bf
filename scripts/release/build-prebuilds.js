#!/usr/bin/env node
"use strict";

// npm run build:prebuilds: the addon as it is shipped, for this machine's platform:
// prebuilds/<platform>/mtadam[.<libc>].node, and its debug information in build/debug. Checks what was built.
//   --architecture NUMBER  the CUDA device for that one alone, such as 90: quicker, not for shipping
//   --glibc VERSION        the oldest glibc that it must load with; else 2.34

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

/** prebuildify moves the addon away from where it is built; that of the checkout stays in build/Release. */
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
    // On Windows through a shell, which knows no script by its first line.
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
