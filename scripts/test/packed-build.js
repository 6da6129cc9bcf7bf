#!/usr/bin/env node
"use strict";

// Tests that `npx mtadam build` works in an installed package with the files of the tarball only: packs the package,
// unpacks it in an empty folder beside the packages that a user installs, builds the CPU device there, and takes a step.

const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const setup = require("../build/setup");

/** The packages that a user has beside this one: its dependency, and those that `mtadam build` asks for. */
const DEPENDENCIES = ["node-gyp-build"];
const TOOLS = ["cmake-js", "node-addon-api"];

const PROGRAM = `
const parameter = new Float32Array(1);
new (require("mtadam").MTAdam)([parameter], { terms: 1, lr: 0.5 }).step([[Float32Array.of(4)]]);
if (parameter[0].toFixed(3) !== "-0.500") throw new Error("a step of 0.5 went to " + parameter[0]);
`;

function unpack(folder) {
  setup.npm("pack", "--silent", "--ignore-scripts", `--pack-destination=${folder}`);
  const [tarball] = fs.readdirSync(folder);
  const place = path.join(folder, "node_modules", "mtadam");
  fs.mkdirSync(place, { recursive: true });
  setup.run("tar", ["-xzf", path.join(folder, tarball), "-C", place, "--strip-components=1"]);
  // The addon to be built must not exist yet.
  fs.rmSync(path.join(place, "prebuilds"), { recursive: true, force: true });
  return place;
}

function link(folder, names) {
  for (const name of names) {
    fs.symlinkSync(
      path.join(setup.root, "node_modules", name),
      path.join(folder, "node_modules", name),
      "junction",
    );
  }
}

/** Runs Node in the folder, and checks its exit code. */
function expectCode(code, folder, ...args) {
  // A compiler cache that knows the checkout's sources finds them in the package, which has the same ones.
  const env = { ...process.env, CCACHE_BASEDIR: path.join(folder, "node_modules", "mtadam", "native") };
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: folder,
    env,
    encoding: "utf8",
  });
  if (status === code) return;
  throw new Error(`\`node ${args.join(" ")}\` ended with ${status}, not ${code}:\n${stdout}${stderr}`);
}

function check(folder) {
  const place = unpack(folder);
  link(folder, DEPENDENCIES);
  const command = path.join(place, require(path.join(place, "package.json")).bin.mtadam);
  expectCode(1, folder, command, "inspect"); // there is no addon
  expectCode(1, folder, command, "build", "--cuda", "off"); // the tools are missing
  link(folder, TOOLS);
  expectCode(0, folder, command, "build", "--cuda", "off");
  expectCode(0, folder, command, "inspect");
  expectCode(0, folder, "-e", PROGRAM);
}

function main() {
  setup.build();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-packed-"));
  try {
    check(folder);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
  console.log("The packed sources build in an empty folder, and what they build takes a step.");
}

main();
