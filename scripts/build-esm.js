#!/usr/bin/env node
"use strict";

// Writes the ESM face of the CommonJS build: dist/index.mjs, which names every export, and its declarations.

const fs = require("node:fs");
const path = require("node:path");

const dist = path.join(__dirname, "..", "dist");
const names = Object.keys(require(path.join(dist, "index.js"))).sort();
const source = `import mtadam from "./index.js";\nexport const { ${names.join(", ")} } = mtadam;\n`;
fs.writeFileSync(path.join(dist, "index.mjs"), source);
fs.writeFileSync(path.join(dist, "index.d.mts"), 'export * from "./index.js";\n');
