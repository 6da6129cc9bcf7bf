#!/usr/bin/env node
"use strict";

// Writes the ESM entries of the CommonJS build, one per subpath of the package: a file beside index.js that names every
// export, and its declarations.

const fs = require("node:fs");
const path = require("node:path");
const { exports: subpaths } = require("../../package.json");

const root = path.join(__dirname, "..", "..");

// If an ES module imports a CommonJS module that throws, Node 20 rejects twice, and the second rejection cannot be
// caught. So the CommonJS module exports its error, and the ES module throws it.
const attempt = `"use strict";
try {
  exports.loaded = require("./index.js");
} catch (error) {
  exports.error = error;
}
`;

// The package's own entry comes last: the setup takes it as the sign that all are there.
for (const { require: commonjs } of Object.values(subpaths).reverse()) {
  if (commonjs === undefined) continue;
  const entry = path.join(root, commonjs.default);
  const names = Object.keys(require(entry)).sort();
  const source = `import attempt from "./attempt.js";
if (attempt.error !== undefined) throw attempt.error;
export const { ${names.join(", ")} } = attempt.loaded;
`;
  const folder = path.dirname(entry);
  fs.writeFileSync(path.join(folder, "attempt.js"), attempt);
  fs.writeFileSync(path.join(folder, "index.mjs"), source);
  fs.writeFileSync(path.join(folder, "index.d.mts"), 'export * from "./index.js";\n');
}
