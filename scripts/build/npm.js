"use strict";

// npm, run by its script, so that it needs no PATH.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");

/** npm's script: where npm itself says, or where installers put it. */
function npmScript() {
  const { npm_execpath: told = "" } = process.env;
  const beside = path.dirname(process.execPath);
  const above = path.dirname(beside);
  // Of Node's own installers on Windows and elsewhere, and of Debian's.
  const folders = [path.join(beside, "node_modules"), path.join(above, "lib", "node_modules")];
  const places = [...folders, path.join(above, "share", "nodejs")].map((folder) =>
    path.join(folder, "npm", "bin", "npm-cli.js"),
  );
  const script = [...(told.endsWith("npm-cli.js") ? [told] : []), ...places].find((file) =>
    fs.existsSync(file),
  );
  if (script === undefined) throw new Error(`npm must be beside ${process.execPath}.`);
  return script;
}

/**
 * @param {string[]} args
 * @param {import("node:child_process").SpawnSyncOptions} options
 * @returns {string} what npm printed
 * @throws Error where it fails, with the end of what it said
 */
function npm(args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [npmScript(), ...args], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    ...options,
  });
  if (status === 0) return stdout;
  const said = error?.message ?? `${stdout}${stderr}`.trimEnd().split("\n").slice(-20).join("\n");
  throw new Error(`npm ${args[0]} failed: ${said}`);
}

module.exports = { npm, npmScript };
