#!/usr/bin/env node
"use strict";

// npm run demo, npm run example:gan: sets up what is missing, compiles the examples and runs one with the arguments given.
//   node scripts/example.js mnist …

const path = require("node:path");
const { spawn } = require("node:child_process");
const setup = require("./setup");

const [name, ...args] = process.argv.slice(2);
setup.build();
setup.run(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", "examples"]);

const main = path.join(setup.root, "build", "examples", name, "main.mjs");
const child = spawn(process.execPath, [main, ...args], { stdio: "inherit" });
// Ctrl-C reaches the whole process group: the example ends by itself, and this waits for it.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : 1);
});
