"use strict";

// Which commit a checkout is at: by git, or by what the build wrote down where there is no git.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const setup = require("../setup");
const { COMMIT } = require("./products");

function git(root, ...args) {
  const { status, stdout } = spawnSync("git", args, { cwd: root, encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

/** The commit of the files as they are; undefined without git. */
function head(root = setup.root) {
  const top = git(root, "rev-parse", "--show-toplevel");
  // The checkout may lie, without a history of its own, within another project's.
  if (top === undefined || fs.realpathSync(top) !== fs.realpathSync(root)) return undefined;
  const hash = git(root, "rev-parse", "HEAD");
  if (hash === undefined) return undefined;
  // A report that was just written changes nothing of what it reports on.
  return git(root, "status", "--porcelain", "--", ".", ":!docs/gpu") === ""
    ? hash
    : `${hash} and changes that are not committed`;
}

function builtCommit(root) {
  const file = path.join(root, COMMIT);
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8").trim() : undefined;
}

/** In words, for a report. */
function commit(root = setup.root) {
  const now = head(root);
  const built = builtCommit(root);
  if (now === undefined) return built ?? "unknown: there is no git and no build/commit";
  return built === undefined || built === now ? now : `${now}; built from ${built}`;
}

module.exports = { head, commit };
