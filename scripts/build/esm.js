#!/usr/bin/env node
"use strict";

// Writes the ESM entry of the CommonJS build: dist/index.mjs, which names every export, and its declarations.

const fs = require("node:fs");
const path = require("node:path");

const dist = path.join(__dirname, "..", "..", "dist");
const names = Object.keys(require(path.join(dist, "index.js"))).sort();

// If an ES module imports a CommonJS module that throws, Node 20 rejects twice, and the second rejection cannot be
// caught. So the CommonJS module exports its error, and the ES module throws it.
const attempt = `"use strict";
try {
  exports.loaded = require("./index.js");
} catch (error) {
  exports.error = error;
}
`;
const source = `import attempt from "./attempt.js";
if (attempt.error !== undefined) throw attempt.error;
export const { ${names.join(", ")} } = attempt.loaded;
`;
fs.writeFileSync(path.join(dist, "attempt.js"), attempt);
fs.writeFileSync(path.join(dist, "index.mjs"), source);
fs.writeFileSync(path.join(dist, "index.d.mts"), 'export * from "./index.js";\n');
