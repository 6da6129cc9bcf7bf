#!/usr/bin/env node
"use strict";

// npm run bench:balancing: sets up what is missing, compiles bench/balancing and runs it with the arguments given.

const path = require("node:path");
const setup = require("./setup");

setup.build();
const bench = path.join("bench", "balancing");
setup.run(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", bench]);
setup.run(process.execPath, [path.join("build", bench, "main.mjs"), ...process.argv.slice(2)]);
