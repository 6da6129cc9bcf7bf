"use strict";

// Builds and runs the native tests with plain CMake, in a build folder per sanitizer.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { root, run } = require("./setup");

/**
 * @param {string} sanitize for -fsanitize=, or "" for none
 * @returns {{ passed: number, failed: number, skipped: number }}
 */
function nativeTests(sanitize = "") {
  const folder = path.join("build", sanitize === "" ? "native" : `native-${sanitize.replace(",", "-")}`);
  const jobs = String(os.availableParallelism());
  const options = [
    "-DMTADAM_TESTS=ON",
    "-DMTADAM_WERROR=ON",
    "-DMTADAM_CUDA=OFF",
    `-DMTADAM_SANITIZE=${sanitize}`,
  ];
  run("cmake", ["-S", ".", "-B", folder, ...options], { stdio: ["ignore", "ignore", "inherit"] });
  run("cmake", ["--build", folder, "--parallel", jobs], { stdio: ["ignore", "ignore", "inherit"] });

  const report = path.join(root, folder, "report.xml");
  fs.rmSync(report, { force: true });
  const args = ["--test-dir", folder, "--output-on-failure", "--no-tests=error", "--output-junit", report];
  spawnSync("ctest", [...args, "--parallel", jobs], { cwd: root, stdio: "inherit" });
  return counts(fs.readFileSync(report, "utf8"));
}

function counts(report) {
  const of = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(report)?.[1] ?? NaN);
  const [tests, failed, skipped] = [of("tests"), of("failures"), of("skipped") + of("disabled")];
  return { passed: tests - failed - skipped, failed, skipped };
}

module.exports = { nativeTests };

if (require.main === module) {
  const { failed } = nativeTests(process.argv[2] ?? "");
  process.exitCode = failed === 0 ? 0 : 1;
}
