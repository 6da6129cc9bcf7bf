"use strict";

// `npm run bench` on the GPU, within a limit: its figures are for the report, and none decides anything.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { root } = require("../setup");
const { execute } = require("./execute");
const { BENCHMARK } = require("./products");

/** Of the limit, what is left for the setting that is being measured when the time is up. */
const LAST_SETTING = 15;

// What matters most comes first: a run that is cut off has it.
const OPTIONS = [
  ["--device", "cuda"],
  ["--shapes", "large,resnet50,many,layers,mnist"],
  ["--terms", "3,1,10,2"],
  ["--rounds", "5"],
  ["--python", "python3"],
  ["--patience", "45"],
].flat();

/** What the run wrote: how much, and its tables; undefined where it wrote nothing. */
function figures([program, ...first], folder) {
  const file = path.join(folder, "results.json");
  if (!fs.existsSync(file)) return undefined;
  const { settings, left = 0 } = JSON.parse(fs.readFileSync(file, "utf8"));
  const { stdout } = spawnSync(program, [...first, "--tables", "--out", folder], { encoding: "utf8" });
  return { settings: settings.length, left, tables: JSON.parse(stdout) };
}

/**
 * @param {string} folder for results.json; not there yet
 * @param {string[]} command in place of the benchmark, for the tests
 */
async function benchmark(limit, folder, command = [process.execPath, path.join(root, BENCHMARK)]) {
  fs.rmSync(path.join(folder, "results.json"), { force: true }); // an earlier run's
  const seconds = String(Math.max(1, limit - LAST_SETTING));
  const [program, ...first] = command;
  const args = [...first, ...OPTIONS, "--figures", "--seconds", seconds, "--out", folder];
  const { status, timedOut, output: log } = await execute(program, args, limit);
  const found = figures(command, folder);
  const { settings = 0, left = 0, tables = [] } = found ?? {};
  const end = timedOut ? `ended after ${limit} s` : status === 0 ? `${left} left` : `exit code ${status}`;
  const good = settings > 0 && (status === 0 || timedOut);
  return {
    outcome: good ? "passed" : "failed",
    remark: `${settings} settings measured, ${end}`,
    tables,
    log,
  };
}

module.exports = { benchmark };
