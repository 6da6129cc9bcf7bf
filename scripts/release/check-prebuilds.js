"use strict";

// Checks the addons in prebuilds/ before they are shipped: size, the oldest system that they load on, exports, traces of
// the building machine, and the architectures of their kernels.

const fs = require("node:fs");
const path = require("node:path");
const { capability } = require("../build/architectures");
const { root } = require("../build/setup");
const { check } = require("./checks");
const { architecturesIn } = require("./fat-binary");
const { PLATFORMS, fileOf, here } = require("./platforms");
const { readElf } = require(path.join(root, "dist", "addon", "elf.js"));

/** One line that describes an addon without problems. */
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
 * @param {boolean} [options.all] every platform's addon must exist; by default one is enough
 * @param {string} [options.architecture] the only architecture of the CUDA device, such as 90
 * @param {string} [options.glibc] the oldest glibc that the addon must load with; by default 2.34
 * @returns {string[]} a sentence per problem
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
