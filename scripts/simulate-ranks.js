#!/usr/bin/env node
"use strict";

// Prints the table of docs/distributed.md: how long the exchange of a step takes on R ranks, simulated, not measured. A
// collective takes (R − 1)·latency + bytes·(R − 1)/R / bandwidth on every rank, as a ring does.
//   --parameters 7e9  --terms 3  --bandwidth 12.5e9 (bytes per second and rank)  --latency 10e-6 (seconds)

const { parseArgs } = require("node:util");

const number = (value) => ({ type: "string", default: String(value) });
const { values } = parseArgs({
  options: {
    parameters: number(7e9),
    terms: number(3),
    bandwidth: number(12.5e9),
    latency: number(10e-6),
  },
});
const [parameters, terms, bandwidth, latency] = ["parameters", "terms", "bandwidth", "latency"].map((key) =>
  Number(values[key]),
);

/** Collectives and bytes per parameter of a step. The squares' sums add 8 bytes per 4,096 elements and term. */
const WAYS = [
  { name: "Adam", collectives: 2, bytes: 8 },
  { name: '`shard: "none"`', collectives: 2 * terms, bytes: 8 * terms },
  { name: '`shard: "state"`', collectives: 2 * terms + 1, bytes: 4 * terms + 4 + (8 * terms) / 4096 },
  { name: '… `wire: "bfloat16"`', collectives: 2 * terms + 1, bytes: 2 * terms + 4 + (8 * terms) / 4096 },
];

const seconds = (ranks, { collectives, bytes }) =>
  collectives * (ranks - 1) * latency + (bytes * parameters * (ranks - 1)) / ranks / bandwidth;

const rows = [
  ["R", ...WAYS.map(({ name }) => name)],
  ["---", ...WAYS.map(() => "---")],
  ...[8, 64, 1024].map((ranks) => [ranks, ...WAYS.map((way) => `${seconds(ranks, way).toFixed(2)} s`)]),
];
const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
for (const [index, row] of rows.entries()) {
  const cells = row.map((cell, column) => String(cell).padEnd(widths[column], index === 1 ? "-" : " "));
  console.log(`| ${cells.join(" | ")} |`);
}
