"use strict";

// Runs tests of the TypeScript suite on an addon under AddressSanitizer (with its leak checker) and
// UndefinedBehaviorSanitizer, which has the CPU device and the host executor. Linux with GCC.
//   node scripts/test/sanitized.js                            random calls, a minute in all
//   node scripts/test/sanitized.js test/api/golden-test.ts …  these tests
// Addons with a planted bug are tested first: the run proves nothing if a bug is not found.

const fs = require("node:fs");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const setup = require("../build/setup");
const { jestCounts, runJest } = require("./jest");
const { summarise } = require("./native-tests");

const RANDOM_CALLS = "test/api/random-calls-test.ts";
/** On each device. */
const SECONDS = "25";

/** The file that the compiler links for a library. */
function library(name) {
  const { stdout } = spawnSync(process.env.CXX ?? "c++", [`-print-file-name=${name}`], { encoding: "utf8" });
  return stdout.trim();
}

/** The variables for a process with the addon below `folder`. */
function environment(folder) {
  return {
    ...process.env,
    // Node is not linked with the sanitizers. They must come before the C++ library, whose exceptions they follow.
    LD_PRELOAD: ["libasan.so", "libubsan.so", "libstdc++.so"].map(library).join(" "),
    MTADAM_PREBUILD: path.join(setup.root, "build", folder),
    ASAN_OPTIONS: [
      "detect_leaks=1",
      "detect_stack_use_after_return=0", // the executor's fibers change the stack
      "allocator_may_return_null=1", // memory that cannot be had must be an error of the call
      // The tests' addon frees with its own operator delete (failing_new.cpp) what the C++ library has allocated.
      "alloc_dealloc_mismatch=0",
    ].join(":"),
    LSAN_OPTIONS: `suppressions=${path.join(setup.root, "test", "support", "leaks.txt")}:print_suppressions=0`,
    UBSAN_OPTIONS: "print_stacktrace=1",
  };
}

const reportOf = (folder) => path.join(setup.root, "build", `jest-${folder}.json`);

/** Runs tests in one process, which ends as the sanitizers decide. */
function jest(folder, device, files, options) {
  const args = ["--runInBand", "--", ...files];
  return runJest(device, reportOf(folder), { args, env: environment(folder), ...options });
}

/** What a run must print with each planted bug: native/test/planted_addon.cmake. */
const PLANTED = {
  overrun: [/AddressSanitizer: heap-buffer-overflow/, /CallOptions::groups/],
  leak: [/LeakSanitizer: detected memory leaks/, /CallOptions::weights/],
};

/** Whether a test finds every planted bug. */
function plantedBugs() {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [bug, texts] of Object.entries(PLANTED)) {
    const { status, stdout, stderr } = jest(`planted-${bug}`, "cpu", ["test/api/one-term-test.ts"], {
      stdio: ["ignore", "pipe", "pipe"],
      encoding: "utf8",
    });
    const found = status !== 0 && texts.every((text) => text.test(stderr));
    if (!found) console.error(`The planted bug "${bug}" was not found:\n${stdout}${stderr}`);
    counts[found ? "passed" : "failed"] += 1;
  }
  return counts;
}

/** The counts of tests on one kind of device. */
function sanitized(device, files) {
  const env = { MTADAM_RANDOM_SECONDS: SECONDS, ...environment("sanitized") };
  const { status } = jest("sanitized", device, files, { env, stdio: ["ignore", "inherit", "inherit"] });
  const report = reportOf("sanitized");
  const counts = fs.existsSync(report) ? jestCounts(report) : { passed: 0, failed: 0, skipped: 0 };
  // Leaks, and the sanitizers' other reports, are failures of their own.
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

function main() {
  const args = process.argv.slice(2);
  const files = args.length === 0 ? [RANDOM_CALLS] : args;
  setup.typescript();
  setup.sanitized();
  const suites = { "planted bugs": plantedBugs() };
  for (const device of ["cpu", "executor"]) suites[device] = sanitized(device, files);
  process.exitCode = summarise(suites) ? 0 : 1;
}

main();
