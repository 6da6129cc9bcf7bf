#!/usr/bin/env node
"use strict";

// npm run demo: sets up what is missing, compiles examples/mnist and runs it with the arguments given.

const path = require("node:path");
const { spawn } = require("node:child_process");
const setup = require("./setup");

setup.build();
const example = path.join("examples", "mnist");
setup.run(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", example]);

const main = path.join(setup.root, "build", example, "main.mjs");
const child = spawn(process.execPath, [main, ...process.argv.slice(2)], { stdio: "inherit" });
// Ctrl-C reaches the whole process group: the example ends by itself, and this waits for it.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : 1);
});
