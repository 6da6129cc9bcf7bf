#!/usr/bin/env node
"use strict";

// Publishes the package with the addons in prebuilds/, after all checks:
//   node scripts/release/publish.js v1.2.3      the tag, which must match the version in package.json
//   node scripts/release/publish.js --dry-run   all checks, without publishing

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { npm } = require("../build/npm");
const setup = require("../build/setup");
const { checkPrebuilds } = require("./check-prebuilds");
const { LARGEST, checkContents, checkManifest, pack } = require("./contents");
const { PLATFORMS, fileOf } = require("./platforms");

/** The oldest glibc that the released addon must load with. */
const OLDEST_GLIBC = "2.28";

/** @returns {string[]} a sentence per problem */
function check(tag, folder) {
  const manifest = JSON.parse(fs.readFileSync(path.join(setup.root, "package.json"), "utf8"));
  const failures = [...checkManifest(manifest), ...checkPrebuilds({ all: true, glibc: OLDEST_GLIBC })];
  if (tag !== undefined && tag !== `v${manifest.version}`) {
    failures.push(`The tag must be v${manifest.version}; got "${tag}".`);
  }
  if (tag !== undefined && manifest.repository === undefined) {
    failures.push("`repository` in package.json must name where the package is built, for its provenance.");
  }
  const { size, names } = pack(folder);
  if (size >= LARGEST)
    failures.push(`The packed file must be smaller than ${LARGEST} bytes; it has ${size}.`);
  const prebuilds = PLATFORMS.map((platform) => `prebuilds/${fileOf(platform)}`);
  return [...failures, ...checkContents(names, prebuilds)];
}

function main(argument) {
  const tag = argument === "--dry-run" ? undefined : argument;
  if (argument === undefined || (tag !== undefined && !/^v\d/.test(tag))) {
    throw new Error(`a tag such as v1.2.3 or --dry-run must be given; got ${argument}`);
  }
  setup.packages();
  setup.npm("run", "--silent", "build:ts");
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-publish-"));
  try {
    const failures = check(tag, folder);
    for (const failure of failures) console.error(`✗ ${failure}`);
    if (failures.length > 0) throw new Error("nothing was published");
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
  const how = tag === undefined ? ["--dry-run"] : ["--provenance"];
  console.log(npm(["publish", "--ignore-scripts", "--access", "public", ...how], { cwd: setup.root }));
}

try {
  main(process.argv[2]);
} catch (error) {
  console.error(`publish: ${error.message}`);
  process.exitCode = 1;
}
