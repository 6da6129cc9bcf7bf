"use strict";

// The platforms that the package has an addon for, and the results on each.

/**
 * @typedef {object} Platform
 * @property {string} name
 * @property {string} os as process.platform
 * @property {string} arch as process.arch
 * @property {"glibc" | "musl"} [libc]
 * @property {boolean} cuda whether the addon has the CUDA device
 */

/** @type {Platform[]} */
const PLATFORMS = [
  { name: "linux-x64 (glibc)", os: "linux", arch: "x64", libc: "glibc", cuda: true },
  { name: "linux-x64 (musl)", os: "linux", arch: "x64", libc: "musl", cuda: false },
  { name: "linux-arm64 (glibc)", os: "linux", arch: "arm64", libc: "glibc", cuda: false },
  { name: "darwin-arm64", os: "darwin", arch: "arm64", cuda: false },
  { name: "darwin-x64", os: "darwin", arch: "x64", cuda: false },
  { name: "win32-x64", os: "win32", arch: "x64", cuda: false },
];

/** The addon's path in prebuilds/, where node-gyp-build looks for it. */
function fileOf({ os, arch, libc }) {
  return `${os}-${arch}/mtadam${libc === undefined ? "" : `.${libc}`}.node`;
}

/** Node's report has the version of glibc, and none of musl. */
function isMusl() {
  return process.platform === "linux" && process.report.getReport().header.glibcVersionRuntime === undefined;
}

/** @returns {Platform | undefined} this machine's */
function here() {
  const libc = process.platform === "linux" ? (isMusl() ? "musl" : "glibc") : undefined;
  return PLATFORMS.find(
    (platform) =>
      platform.os === process.platform && platform.arch === process.arch && platform.libc === libc,
  );
}

const NOT_RUN = "not run";

/**
 * The results of a run as a readable table. A platform without results was not run.
 *
 * @param {{ [name: string]: { built?: string, tested?: string } }} facts by the platform's name
 */
function table(facts) {
  const unknown = Object.keys(facts).find((name) => !PLATFORMS.some((platform) => platform.name === name));
  if (unknown !== undefined) throw new Error(`"${unknown}" is no platform.`);
  const rows = PLATFORMS.map(({ name, cuda }) => {
    const { built = NOT_RUN, tested = NOT_RUN } = facts[name] ?? {};
    return [name, cuda ? "CPU, CUDA" : "CPU", built, tested];
  });
  const all = [["platform", "devices", "built", "tested"], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

module.exports = { PLATFORMS, fileOf, here, table };
