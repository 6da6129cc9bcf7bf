#!/usr/bin/env node
"use strict";

// Before `npm pack` and `npm publish` of a checkout: refuses a package without its types, its JavaScript or this machine's
// addon, which nobody could load.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { checkContents, pack } = require("./contents");
const { fileOf, here } = require("./platforms");

function main() {
  const platform = here();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-pack-"));
  try {
    const prebuilds = platform === undefined ? [] : [`prebuilds/${fileOf(platform)}`];
    const problems = checkContents(pack(folder).names, prebuilds);
    if (problems.length === 0) return;
    console.error("The package is not complete; `npm run build:prebuilds` builds what is missing:");
    for (const problem of problems) console.error(`  ${problem}`);
    process.exitCode = 1;
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

main();
