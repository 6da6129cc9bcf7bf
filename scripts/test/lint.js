#!/usr/bin/env node
"use strict";

// npm run lint: eslint, rooms and imports, types of everything, prettier, clang-format, as many at a time as there are cores.
// With --fix (npm run format) they rewrite files, one after another.

const { Buffer } = require("node:buffer");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawn } = require("node:child_process");
const setup = require("../build/setup");

const fix = process.argv.includes("--fix");

function sources(folder) {
  return fs.readdirSync(path.join(setup.root, folder), { recursive: true }).flatMap((name) => {
    return /\.(h|cc|cpp|cu|cuh)$/.test(name) ? [path.join(folder, name)] : [];
  });
}

const types = (folder) => ["typescript/bin/tsc", "--noEmit", "-p", folder];

/** A name, a script (of a package, or an absolute path), and its arguments. The longest comes first. */
const TOOLS = [
  ["eslint", "eslint/bin/eslint.js", "--max-warnings=0", ...(fix ? ["--fix"] : []), "."],
  ["rooms and imports", path.join(__dirname, "rooms.js")],
  ["types of lib", ...types(".")],
  ["types of the report's page", ...types("lib/monitor/page")],
  ["types of test", ...types("test")],
  ["types of examples", ...types("examples")],
  ["types of bench", ...types("bench")],
  ["prettier", "prettier/bin/prettier.cjs", fix ? "--write" : "--check", "--log-level=warn", "."],
  [
    "clang-format",
    "clang-format/index.js",
    ...(fix ? ["-i"] : ["--dry-run", "-Werror"]),
    ...sources("native"),
    ...sources("bench"),
  ],
];

/** Runs a tool, and prints all that it says once it has ended. */
function run([name, script, ...args]) {
  const file = path.resolve(setup.root, "node_modules", script);
  const child = spawn(process.execPath, [file, ...args], {
    cwd: setup.root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => output.push(bytes));
  return new Promise((resolve) => {
    child.once("close", (code) => {
      process.stdout.write(Buffer.concat(output));
      console.log(`${code === 0 ? "✓" : "✗"} ${name}`);
      if (code !== 0) process.exitCode = 1;
      resolve();
    });
  });
}

/** Runs those of the tools that nobody else has taken, one after another. */
async function runRest(tools) {
  for (const tool of tools) await run(tool);
}

setup.build();
const tools = TOOLS.values();
for (let k = fix ? 1 : os.availableParallelism(); k > 0; --k) void runRest(tools);
