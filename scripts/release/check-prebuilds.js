"use strict";

// Whether what lies in prebuilds/ may be shipped: size, the oldest system it loads on, what it exports, what it tells of
// the machine that built it, and for which architectures it holds kernels.

const fs = require("node:fs");
const path = require("node:path");
const { capability } = require("../build/architectures");
const { root } = require("../build/setup");
const { check } = require("./checks");
const { architecturesIn } = require("./fat-binary");
const { PLATFORMS, fileOf, here } = require("./platforms");
const { readElf } = require(path.join(root, "dist", "addon", "elf.js"));

/** One line: what a reader wants to know of an addon that is in order. */
function description(file) {
  const bytes = fs.readFileSync(file);
  const parts = [`${(bytes.length / 1e6).toFixed(2)} MB`];
  const versions = readElf(bytes)?.needs ?? [];
  parts.push(...Array.from(versions, ([library, version]) => `${library} ${version}`));
  const architectures = architecturesIn(bytes);
  parts.push(architectures.length === 0 ? "no CUDA" : `CUDA for ${architectures.join(" ")}`);
  return parts.join(", ");
}

/**
 * @param {object} [options]
 * @param {boolean} [options.all] every platform's addon must be there; else one of them
 * @param {string} [options.architecture] the CUDA device was built for that one alone, such as 90
 * @param {string} [options.glibc] the oldest glibc that it must load with; else 2.34
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
      expected: architecture === undefined ? undefined : [capability(architecture)],
      loads: platform === here(),
    });
    if (found.length === 0) console.log(`✓ ${name}: ${description(path.join(folder, name))}`);
    failures.push(...found.map((failure) => `${name}: ${failure}.`));
  }
  return failures;
}

module.exports = { checkPrebuilds };
