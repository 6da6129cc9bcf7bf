"use strict";

// What GoogleTest's JSON reports say (--gtest_output=json:…).

const fs = require("node:fs");

function tests(report) {
  const { testsuites } = JSON.parse(fs.readFileSync(report, "utf8"));
  return testsuites.flatMap(({ testsuite }) => testsuite);
}

/** A test that did not run to its end is no pass. */
function googleTestCounts(report) {
  const all = tests(report);
  const skipped = all.filter(({ result }) => result === "SKIPPED" || result === "SUPPRESSED").length;
  const passed = all.filter(
    ({ result, failures }) => result === "COMPLETED" && failures === undefined,
  ).length;
  return { passed, failed: all.length - passed - skipped, skipped };
}

/** A property that a test recorded (RecordProperty). */
function recorded(report, property) {
  return tests(report).find((test) => test[property] !== undefined)?.[property];
}

/**
 * What it printed of a run that may not have come to its end.
 *
 * @returns {{ passed: number, running: string | undefined, rest: string }} `running`: the test in which it is; `rest`: the
 *     output without the tests that passed and had nothing to say
 */
function progress(output) {
  const passed = output.match(/^\[ {7}OK \] /gm)?.length ?? 0;
  const rest = output.replace(/^\[ RUN {6}\] (\S+)\n\[ {7}OK \] \1 .*\n/gm, "");
  const [, what, test] =
    Array.from(output.matchAll(/^\[( RUN | {7}OK| {2}FAILED| {2}SKIPPED) *\] (\S+)/gm)).at(-1) ?? [];
  return { passed, running: what === " RUN " ? test : undefined, rest };
}

module.exports = { googleTestCounts, progress, recorded };
