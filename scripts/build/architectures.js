"use strict";

// The architectures that the kernels are compiled for. The list is in CMakeLists.txt and nowhere else: this reads it.

const fs = require("node:fs");
const path = require("node:path");

/** @returns {string[]} in CMake's form, such as "90-real" for machine code and "120-virtual" for PTX; oldest first */
function shippedArchitectures() {
  const file = path.join(__dirname, "..", "..", "CMakeLists.txt");
  const text = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
  const [, list] = /^set\(MTADAM_CUDA_ARCHITECTURES ([^"]*?)\s+CACHE /m.exec(text) ?? [];
  if (list === undefined) throw new Error(`${file} must set MTADAM_CUDA_ARCHITECTURES.`);
  return list.split(/\s+/);
}

/** @returns {string} in the addon's form, such as "9.0" for "90", "90-real" and 90, and "12.0+PTX" for "120-virtual" */
function capability(architecture) {
  const number = Number.parseInt(architecture, 10);
  const isPtx = String(architecture).endsWith("-virtual");
  return `${Math.floor(number / 10)}.${number % 10}${isPtx ? "+PTX" : ""}`;
}

module.exports = { capability, shippedArchitectures };
