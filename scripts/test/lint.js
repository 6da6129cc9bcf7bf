#!/usr/bin/env node
"use strict";

// npm run lint: rooms and imports, types of everything, eslint, prettier, clang-format. With --fix (npm run format) it rewrites.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const setup = require("../build/setup");

const fix = process.argv.includes("--fix");
setup.build();

/** `script`: of a package, or of the checkout as an absolute path. */
function tool(name, script, ...args) {
  const result = spawnSync(process.execPath, [path.resolve(setup.root, "node_modules", script), ...args], {
    cwd: setup.root,
    stdio: "inherit",
  });
  console.log(`${result.status === 0 ? "✓" : "✗"} ${name}`);
  if (result.status !== 0) process.exitCode = 1;
}

function sources(folder) {
  return fs.readdirSync(path.join(setup.root, folder), { recursive: true }).flatMap((name) => {
    return /\.(h|cc|cpp|cu|cuh)$/.test(name) ? [path.join(folder, name)] : [];
  });
}

tool("rooms and imports", path.join(__dirname, "rooms.js"));
const tsc = "typescript/bin/tsc";
tool("types of lib", tsc, "--noEmit", "-p", ".");
tool("types of the report's page", tsc, "--noEmit", "-p", "lib/monitor/page");
tool("types of test", tsc, "--noEmit", "-p", "test");
tool("types of examples", tsc, "--noEmit", "-p", "examples");
tool("types of bench", tsc, "--noEmit", "-p", "bench");
tool("eslint", "eslint/bin/eslint.js", "--max-warnings=0", ...(fix ? ["--fix"] : []), ".");
tool("prettier", "prettier/bin/prettier.cjs", fix ? "--write" : "--check", "--log-level=warn", ".");
const format = fix ? ["-i"] : ["--dry-run", "-Werror"];
tool("clang-format", "clang-format/index.js", ...format, ...sources("native"), ...sources("bench"));
