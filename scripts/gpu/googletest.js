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

module.exports = { googleTestCounts, recorded };
