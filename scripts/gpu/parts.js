"use strict";

// What scripts/gpu-check runs, in this order, and how long each part may take. All limits together leave half a minute
// of ten for the rest.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { performance } = require("node:perf_hooks");
const { root } = require("../setup");
const { jestArguments, jestCounts } = require("../jest");
const { benchmark } = require("./benchmark");
const { execute } = require("./execute");
const { googleTestCounts, progress, recorded } = require("./googletest");
const { NATIVE_TESTS } = require("./products");
const { TOOLS, findSanitizer, refusal, findings } = require("./sanitizer");

/** Tests whose digests are the same on every machine. */
const DIGESTS = "Digest*";
/** All others. */
const DEVICE_TESTS = `-${DIGESTS}`;

/** A checker that watches each access of a kernel needs up to so many times as long. */
const SLOWER = 48;

/** Processes take turns on a GPU, and each has memory of its own there. */
const JEST_WORKERS = 2;

/**
 * @typedef {object} Part
 * @property {string} name
 * @property {number} limit seconds
 * @property {(limit: number, report: string) => Promise<Found>} run `report`: where a tool may write what it found
 *
 * @typedef {object} Found
 * @property {"passed" | "failed" | "not run"} outcome
 * @property {number} [passed] tests, as `failed` and `skipped`
 * @property {number} [failed]
 * @property {number} [skipped]
 * @property {string} [remark] one line; why it did not run
 * @property {string} [log] the end of what it printed
 * @property {[title: string, rows: string[][]][]} [tables] figures for the report, the first row of each the head
 */

/** What came of a program that writes a report of its tests. Without the report it has failed, whatever it says. */
function outcomeOf(execution, limit, report, countsOf) {
  const { status, timedOut, output: log } = execution;
  if (timedOut) return { outcome: "failed", remark: `ended after ${limit} s`, log };
  if (!fs.existsSync(report)) return { outcome: "failed", remark: `no report, exit code ${status}`, log };
  const counts = countsOf(report);
  const good = status === 0 && counts.failed === 0 && counts.passed > 0;
  return { outcome: good ? "passed" : "failed", ...counts, log };
}

/** The same of GoogleTest. Where it was ended, and so reports nothing, what it printed says how far it came. */
function googleTestOutcome(execution, limit, report) {
  const found = outcomeOf(execution, limit, report, googleTestCounts);
  const { passed, running, rest } = progress(execution.output);
  if (!execution.timedOut || running === undefined) return { ...found, log: rest };
  return { ...found, passed, failed: 1, remark: `${found.remark} in ${running}`, log: rest };
}

function googleTestArguments(filter, report) {
  return [`--gtest_filter=${filter}`, `--gtest_output=json:${report}`];
}

const nativeTests = path.join(root, NATIVE_TESTS);

/**
 * @typedef {object} Tools what the parts call: for the tests, others
 * @property {typeof execute} execute
 * @property {typeof benchmark} benchmark
 * @property {string | undefined} sanitizer
 */

async function native(filter, limit, report, { execute }) {
  const execution = await execute(nativeTests, googleTestArguments(filter, report), limit);
  return googleTestOutcome(execution, limit, report);
}

async function digests(limit, report, tools) {
  const found = await native(DIGESTS, limit, report, tools);
  return found.outcome === "passed" ? { ...found, remark: `digest ${recorded(report, "digest")}` } : found;
}

async function typeScript(limit, report, { execute }) {
  const args = jestArguments("cuda", report, [`--maxWorkers=${JEST_WORKERS}`]);
  return outcomeOf(await execute(process.execPath, args, limit), limit, report, (file) => {
    const { passed, failed, skipped } = jestCounts(file);
    return { passed, failed, skipped };
  });
}

/** The native tests, shortened, under a tool of compute-sanitizer. */
async function sanitized(tool, limit, report, { execute, sanitizer }) {
  if (sanitizer === undefined) return { outcome: "not run", remark: "there is no compute-sanitizer here" };
  const args = [...googleTestArguments(DEVICE_TESTS, report), `--divide-rounds=${SLOWER}`];
  const execution = await execute(sanitizer, [...TOOLS[tool], nativeTests, ...args], limit);
  const refused = refusal(execution.output);
  if (refused !== undefined) return { outcome: "not run", remark: refused };
  const found = googleTestOutcome(execution, limit, report);
  if (found.outcome === "failed") return found;
  const remark = findings(tool, execution.output);
  return remark === undefined ? found : { ...found, outcome: "failed", remark };
}

/**
 * @param {string} figures the folder for the benchmark's results
 * @param {Tools} tools
 * @returns {Part[]}
 */
function parts(figures, tools = { execute, benchmark, sanitizer: findSanitizer() }) {
  return [
    {
      name: "native tests",
      limit: 90,
      run: (limit, report) => native(DEVICE_TESTS, limit, report, tools),
    },
    { name: "the bits of the host executor", limit: 30, run: (...given) => digests(...given, tools) },
    { name: "TypeScript suite", limit: 150, run: (...given) => typeScript(...given, tools) },
    ...Object.keys(TOOLS).map((tool) => ({
      name: `compute-sanitizer ${tool}`,
      limit: 45,
      run: (...given) => sanitized(tool, ...given, tools),
    })),
    { name: "benchmark", limit: 120, run: (limit) => tools.benchmark(limit, figures) },
  ];
}

/** A part that breaks off has failed, and the others go on. */
async function foundBy({ limit, run }, report) {
  try {
    return await run(limit, report);
  } catch (error) {
    return { outcome: "failed", remark: "broke off", log: error.stack };
  }
}

/** @returns {Promise<Found & { name: string, seconds: number }>} */
async function runPart(part) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gpu-check-"));
  const begin = performance.now();
  try {
    const result = await foundBy(part, path.join(folder, "report.json"));
    return { name: part.name, ...result, seconds: (performance.now() - begin) / 1000 };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

module.exports = { parts, runPart, sanitized };
