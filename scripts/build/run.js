#!/usr/bin/env node
"use strict";

// npm run demo, example:*, bench, bench:*: sets up what is missing, compiles a program and runs it with the arguments
// given.
//   node scripts/build/run.js examples/mnist …

const fs = require("node:fs");
const path = require("node:path");
const { spawn } = require("node:child_process");
const setup = require("./setup");

const [folder, ...args] = process.argv.slice(2);
setup.build();
// Programs that share code are one project.
const project = [folder, path.dirname(folder)].find((place) => {
  return fs.existsSync(path.join(setup.root, place, "tsconfig.json"));
});
if (fs.existsSync(path.join(setup.root, folder, "CMakeLists.txt"))) setup.program(folder);
setup.run(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", project]);

const main = path.join(setup.root, "build", folder, "main.mjs");
const child = spawn(process.execPath, [main, ...args], { stdio: "inherit" });
// Ctrl-C reaches the whole process group: the program ends by itself, and this script waits for it.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : 1);
});
