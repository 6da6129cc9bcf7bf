"use strict";

// Runs npm by the path of its script, so that npm need not be on the PATH.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");

/** The path of npm's script: the one that npm itself sets, or the one that installers use. */
function npmScript() {
  const { npm_execpath: told = "" } = process.env;
  const beside = path.dirname(process.execPath);
  const above = path.dirname(beside);
  // The paths of Node's own installers on Windows and elsewhere, and of Debian's.
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
 * @throws Error if npm fails, with the end of its output
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
