"use strict";

// scripts/gpu-check: everything that only a GPU can show, in one command, and a report of it under docs/gpu, beside a folder
// for the benchmark's results.
//   --built                 with what --prepare built, here or elsewhere: needs Node and the driver alone
//   --report PATH           writes the report there
//   --prepare               only builds, which needs no GPU but nvcc
//   --architecture NUMBER   what to build for, such as 90; else what the GPU of this machine is, else all
// Exits with 0 where all that ran passed, 1 where something failed, 2 where there is no GPU.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { parseArgs } = require("node:util");
const { root } = require("../setup");
const { TRAVELS, missing } = require("./products");
const { commit } = require("./commit");
const machine = require("./machine");
const { parts, runPart } = require("./parts");
const { reportName, render } = require("./report");

const FAILED = 1;
const NO_GPU = 2;

const OPTIONS = {
  built: { type: "boolean", default: false },
  prepare: { type: "boolean", default: false },
  architecture: { type: "string" },
  report: { type: "string" },
};

/** @throws Error a sentence for whoever called */
function readOptions(args) {
  const { values } = parseArgs({ args, options: OPTIONS });
  if (values.built && values.prepare) throw new Error("`--built` and `--prepare` exclude each other.");
  if (values.architecture !== undefined && !/^\d{2,3}$/.test(values.architecture)) {
    throw new Error(`\`--architecture\` must be a number such as 90; got "${values.architecture}".`);
  }
  return values;
}

/** In a process of its own, whose exit codes mean what they please. */
function build(architecture) {
  const args = architecture === undefined ? [] : [architecture];
  const { status } = spawnSync(process.execPath, [path.join(__dirname, "build.js"), ...args], {
    cwd: root,
    stdio: "inherit",
  });
  if (status !== 0) throw new Error("The build failed.");
}

function outcomeLine({ name, outcome, passed, failed, seconds, remark }) {
  const counts = passed === undefined ? "" : `, ${passed} passed, ${failed} failed`;
  return `${name}: ${outcome}${counts}${remark ? ` (${remark})` : ""}, ${seconds.toFixed(1)} s`;
}

/**
 * Runs them and writes the report after each: a run that is cut off leaves what it found.
 *
 * @param {import("./parts").Part[]} all
 * @param {string} file for the report
 * @param {object} run what else the report says: see render()
 */
async function runParts(all, file, run) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const results = [];
  const write = () => {
    const remark = "the check was cut off before it had an outcome";
    const missing = all.slice(results.length).map(({ name }) => ({ name, outcome: "not run", remark }));
    fs.writeFileSync(file, render({ ...run, parts: [...results, ...missing] }));
  };
  write();
  for (const part of all) {
    const result = await runPart(part);
    results.push(result);
    write();
    console.log(outcomeLine(result));
    if (result.outcome === "failed") console.log(result.log);
  }
  return results;
}

async function check(report) {
  const found = machine.describe();
  const date = new Date().toISOString().slice(0, 10);
  const file = path.resolve(report ?? path.join(root, "docs", "gpu", reportName(date, found.device)));
  const figures = `${file.replace(/\.md$/, "")}-speed`;
  const results = await runParts(parts(figures), file, { date, ...found, commit: commit() });
  console.log(`The report is ${file}`);
  return results.some(({ outcome }) => outcome === "failed") ? FAILED : 0;
}

/** @returns {Promise<number>} the exit code */
async function run(args) {
  const options = readOptions(args);
  if (options.prepare) {
    build(options.architecture);
    console.log(
      `What a machine with a GPU needs of this checkout besides its files:\n  ${TRAVELS.join("\n  ")}`,
    );
    return 0;
  }
  if (!machine.hasGpu()) {
    console.error("There is no NVIDIA GPU on this machine, so nothing was checked.");
    return NO_GPU;
  }
  if (!options.built) build(options.architecture ?? machine.architecture());
  const absent = missing();
  if (absent.length > 0)
    throw new Error(`\`scripts/gpu-check --prepare\` must build ${absent.join(", ")} first.`);
  return check(options.report);
}

async function main(args) {
  try {
    process.exitCode = await run(args);
  } catch (error) {
    console.error(`gpu-check: ${error.message}`);
    process.exitCode = FAILED;
  }
}

module.exports = { main, runParts };
