#!/usr/bin/env node
"use strict";

// Whether what lies in prebuilds/ may be shipped: size, the oldest system it loads on, what it exports, what it tells of
// the machine that built it, and for which architectures it holds kernels.
//   --all                  every platform's addon must be there; else one of them
//   --architecture NUMBER  the CUDA device was built for that one alone, such as 90
//   --glibc VERSION        the oldest glibc that it must load with; else 2.34

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");
const { root } = require("./setup");
const { check, isElf } = require("./package/checks");
const { newestVersions, readElf } = require("./package/elf");
const { architecturesIn } = require("./package/fat-binary");
const { PLATFORMS, fileOf, here } = require("./package/platforms");

const OPTIONS = {
  all: { type: "boolean", default: false },
  architecture: { type: "string" },
  glibc: { type: "string" },
};

/** One line: what a reader wants to know of an addon that is in order. */
function description(file) {
  const bytes = fs.readFileSync(file);
  const parts = [`${(bytes.length / 1e6).toFixed(2)} MB`];
  if (isElf(bytes)) {
    const newest = Object.entries(newestVersions(readElf(file).symbols));
    parts.push(...newest.map(([library, version]) => `${library} ${version}`));
  }
  const architectures = architecturesIn(bytes);
  parts.push(architectures.length === 0 ? "no CUDA" : `CUDA for ${architectures.join(" ")}`);
  return parts.join(", ");
}

/**
 * @param {{ all?: boolean, architecture?: string, glibc?: string }} options as on the command line
 * @returns {string[]} a sentence for all that does not hold
 */
function checkPrebuilds({ all = false, architecture, glibc } = {}) {
  const folder = path.join(root, "prebuilds");
  const there = PLATFORMS.filter((platform) => fs.existsSync(path.join(folder, fileOf(platform))));
  const failures = [];
  if (all) {
    const missing = PLATFORMS.filter((platform) => !there.includes(platform));
    failures.push(...missing.map((platform) => `${fileOf(platform)} must be there.`));
  } else if (there.length === 0) {
    failures.push("`npm run build:prebuilds` must build an addon first.");
  }
  for (const platform of there) {
    const name = fileOf(platform);
    const found = check(path.join(folder, name), platform, {
      floors: glibc === undefined ? {} : { GLIBC: glibc },
      expected:
        architecture === undefined ? undefined : [`${architecture.slice(0, -1)}.${architecture.slice(-1)}`],
      loads: platform === here(),
    });
    if (found.length === 0) console.log(`✓ ${name}: ${description(path.join(folder, name))}`);
    failures.push(...found.map((failure) => `${name}: ${failure}.`));
  }
  return failures;
}

module.exports = { checkPrebuilds };

if (require.main === module) {
  const { values } = parseArgs({ options: OPTIONS });
  const failures = checkPrebuilds(values);
  for (const failure of failures) console.error(`✗ ${failure}`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}
