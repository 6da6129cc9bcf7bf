"use strict";

// NVIDIA's compute-sanitizer: where it is, how its tools are called, and what they say.

const fs = require("node:fs");
const path = require("node:path");

/** Options by tool: what kernels read and write, races in shared memory, reads of what nobody wrote, barriers. */
const TOOLS = {
  memcheck: ["--tool", "memcheck", "--leak-check", "full", "--error-exitcode", "86"],
  racecheck: ["--tool", "racecheck", "--error-exitcode", "86"],
  initcheck: ["--tool", "initcheck", "--error-exitcode", "86"],
  synccheck: ["--tool", "synccheck", "--error-exitcode", "86"],
};

const NAME = "compute-sanitizer";

/** On the PATH or in the toolkit; undefined where it is in neither. */
function findSanitizer() {
  const { PATH = "", CUDA_PATH, CUDA_HOME } = process.env;
  const toolkits = [CUDA_PATH, CUDA_HOME, "/usr/local/cuda"].filter((folder) => folder !== undefined);
  const folders = [
    ...PATH.split(path.delimiter),
    ...toolkits.flatMap((folder) => [path.join(folder, "bin"), path.join(folder, NAME)]),
  ];
  // Some toolkits have a folder of that name.
  const isFile = (file) => fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
  return folders.map((folder) => path.join(folder, NAME)).find(isFile);
}

/** Why it does not watch this device; undefined where it does. */
function refusal(output) {
  return /^=+ Error: (Device not supported)/m.exec(output)?.[1];
}

/** What each tool closes with when it found nothing. */
const CLEAN = {
  memcheck: [/^=+ LEAK SUMMARY: 0 bytes leaked in 0 allocations\b/m, /^=+ ERROR SUMMARY: 0 errors\b/m],
  racecheck: [/^=+ RACECHECK SUMMARY: 0 hazards displayed\b/m],
  initcheck: [/^=+ ERROR SUMMARY: 0 errors\b/m],
  synccheck: [/^=+ ERROR SUMMARY: 0 errors\b/m],
};

/** What a tool found, in one line; undefined where it found nothing. One that sums up nothing has not watched. */
function findings(tool, output) {
  if (CLEAN[tool].every((line) => line.test(output))) return undefined;
  const summaries = Array.from(output.matchAll(/^=+ (\w+ SUMMARY: .*)$/gm), ([, summary]) => summary);
  return summaries.length > 0 ? summaries.join("; ") : `${tool} did not say what it found`;
}

module.exports = { TOOLS, findSanitizer, refusal, findings };
