"use strict";

// Builds and runs the native tests with plain CMake, in a build folder per sanitizer:
//   node scripts/test/native-tests.js                        those that `npm test` runs
//   node scripts/test/native-tests.js address,undefined      the engine's and the CPU device's tests under sanitizers
//   node scripts/test/native-tests.js executor               the other tests on the host executor of CUDA kernels: the CUDA
//                                                       device under each checker, the executor's own
//   node scripts/test/native-tests.js planted                programs with planted bugs, which the tests must find
//   node scripts/test/native-tests.js ptx                    the CUDA device's tests with the kernels as nvcc compiles them, for
//                                                       compute capability 9.0, executed on the CPU; needs nvcc
//   node scripts/test/native-tests.js ptx 75,90,100          the same for these capabilities, with all rounds of each test

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { root, run } = require("../build/setup");
const { hasNvcc } = require("./cuda-gates");

const jobs = String(os.availableParallelism());

/** Tests that only MTADAM_SIMT_TESTS builds, by name: they take minutes. */
const ON_EXECUTOR = "^(cuda\\.(asan|tsan|access)|planted|simt|toy)\\.";

/** Tests without concurrency, which take minutes under the thread sanitizer. */
const ON_ONE_THREAD =
  "^(Oracle|Loops|Optimizer\\.(RollsBackAStepWithANormThatIsNotFinite|StepsAsAccumulatingAndUpdatingDoes)$)";

/**
 * @param {string} folder below build/
 * @param {string[]} options for CMake
 * @param {string[]} selection for ctest
 * @param {string} target what to build
 * @returns {{ name: string, status: string }[]} every test: status "run", "fail", "notrun" or "disabled"
 */
function ctest(folder, options, selection = [], target = "all") {
  const build = path.join("build", folder);
  const common = [
    "-DMTADAM_TESTS=ON",
    "-DMTADAM_WERROR=ON",
    "-DMTADAM_CUDA=OFF",
    "-DMTADAM_PTX_TESTS=",
    "-DMTADAM_PLANTED_TESTS=OFF",
  ];
  run("cmake", ["-S", ".", "-B", build, ...common, ...options], { stdio: ["ignore", "ignore", "inherit"] });
  run("cmake", ["--build", build, "--target", target, "--parallel", jobs], {
    stdio: ["ignore", "ignore", "inherit"],
  });

  const report = path.join(root, build, "report.xml");
  fs.rmSync(report, { force: true });
  const args = ["--test-dir", build, "--output-on-failure", "--no-tests=error", "--output-junit", report];
  spawnSync("ctest", [...args, ...selection, "--parallel", jobs], { cwd: root, stdio: "inherit" });
  const cases = fs.readFileSync(report, "utf8").matchAll(/<testcase name="([^"]*)"[^>]*\bstatus="([^"]*)"/g);
  return Array.from(cases, ([, name, status]) => ({ name, status }));
}

function counts(tests) {
  const of = (...statuses) => tests.filter(({ status }) => statuses.includes(status)).length;
  // No test skips itself: one that was not run could not be started.
  const [passed, skipped] = [of("run"), of("disabled")];
  return { passed, failed: tests.length - passed - skipped, skipped };
}

/**
 * @param {string} sanitize for -fsanitize=, or "" for none
 * @returns {{ [suite: string]: { passed: number, failed: number, skipped: number } }}
 */
function nativeTests(sanitize = "") {
  const folder = sanitize === "" ? "native" : `native-${sanitize.replace(",", "-")}`;
  const options = [`-DMTADAM_SANITIZE=${sanitize}`, "-DMTADAM_SIMT_TESTS=OFF"];
  // A sanitizer costs more than the optimiser saves; the loops are optimised all the same.
  if (sanitize !== "") options.push("-DCMAKE_CXX_FLAGS_RELEASE=-O1");
  const tests = ctest(folder, options, sanitize === "thread" ? ["-E", ON_ONE_THREAD] : []);
  const onExecutor = ({ name }) => name.startsWith("cuda.");
  const suites = { "engine and CPU device": counts(tests.filter((test) => !onExecutor(test))) };
  if (tests.some(onExecutor)) suites["CUDA device on executor"] = counts(tests.filter(onExecutor));
  return suites;
}

/** The tests on the host executor that `nativeTests` leaves out. */
function executorTests() {
  const tests = ctest("native", ["-DMTADAM_SANITIZE=", "-DMTADAM_SIMT_TESTS=ON"], ["-R", ON_EXECUTOR]);
  const suite = (prefix) => counts(tests.filter(({ name }) => prefix.test(name)));
  return {
    "CUDA device, checked": suite(/^cuda\./),
    "the executor itself": suite(/^(planted|simt|toy)\./),
  };
}

function plantedTests() {
  const options = ["-DMTADAM_SANITIZE=", "-DMTADAM_SIMT_TESTS=ON", "-DMTADAM_PLANTED_TESTS=ON"];
  return { "planted bugs": counts(ctest("native", options, ["-R", "^planted\\.(cpu|cuda)_"])) };
}

/**
 * The CUDA device's tests on PTX.
 * @param {string[]} [capabilities] compute capabilities, with all rounds; by default one, with few rounds
 * @returns null where there is no nvcc
 */
function ptxTests(capabilities) {
  if (!hasNvcc()) return null;
  if (capabilities !== undefined) process.env.MTADAM_PTX_ALL_ROUNDS = "1";
  const compiled = capabilities ?? ["90"];
  const options = [
    "-DMTADAM_SANITIZE=",
    "-DMTADAM_SIMT_TESTS=OFF",
    `-DMTADAM_PTX_TESTS=${compiled.join(";")}`,
  ];
  const tests = ctest("native", options, ["-R", "^ptx\\."], "mtadam_ptx_all");
  const suite = (each) => counts(tests.filter(({ name }) => name.startsWith(`ptx.${each}.`)));
  return Object.fromEntries(compiled.map((each) => [`PTX for ${each}, executed`, suite(each)]));
}

/** Prints a line per suite and a total; returns whether all tests passed. */
function summarise(suites) {
  const total = { passed: 0, failed: 0 };
  console.log();
  for (const [name, { passed, failed, skipped, bound, note }] of Object.entries(suites)) {
    const remark = bound === undefined ? note : `${bound} bound to the device`;
    const counts = `${passed} passed, ${failed} failed, ${skipped} skipped`;
    console.log(`${name.padEnd(24)} ${counts}${remark === undefined ? "" : ` (${remark})`}`);
    total.passed += passed;
    total.failed += failed;
  }
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 && total.passed > 0;
}

module.exports = { nativeTests, summarise };

if (require.main === module) {
  const [what = "", capabilities] = process.argv.slice(2);
  const kinds = {
    executor: executorTests,
    planted: plantedTests,
    ptx: () => ptxTests(capabilities?.split(",")),
  };
  const suites = kinds[what] === undefined ? nativeTests(what) : kinds[what]();
  if (suites === null)
    console.log("the PTX is not executed, since there is no nvcc here\n0 passed, 0 failed");
  else process.exitCode = summarise(suites) ? 0 : 1;
}
