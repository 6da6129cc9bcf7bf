// Prints the report of bench/speed on a GPU's results as JSON. node bench-gpu-tables.mjs COMPILED

import process from "node:process";

const load = (name) => import(`${process.argv[2]}/bench/speed/${name}.mjs`);

const { compare, differences } = await load("compare");
const { goalTable } = await load("goals");
const { plain, peerTable, roofTable, stepTable } = await load("tables");

const parameters = 30_000_000;
/** A round in which a copy of 2.4 GB takes one millisecond and a step the given number. */
const round = (milliseconds) => ({
  seconds: milliseconds / 1000,
  copy: 2.4e12,
  memcpy: 2.3e12,
  rmw: 2.2e12,
  read: 2.5e12,
});
const rounds = (milliseconds) => [1, 1.01, 0.99].map((factor) => round(factor * milliseconds));
const ours = { parameters, way: "resident", bytesPerParameter: 80, stateBytes: 24 * parameters };
const peer = { parameters, way: "resident" };
const setting = (form, contenders) => ({ subject: "large", terms: 3, form, inputs: "cold", contenders });
const results = {
  gpu: { name: "G", computeCapability: "9.0", driver: "13.0", runtime: "13.0" },
  machine: { cpu: "A", cores: 2, memoryGiB: 8, system: "x" },
  instructionSet: "baseline",
  threads: 0,
  node: "20",
  peers: [],
  settings: [
    setting("perTerm", [
      { name: "step", ...ours, rounds: rounds(1.05) },
      { name: "streamed", ...ours, way: "streamed", bytesPerParameter: 104, rounds: rounds(1.625) },
      { name: "eager", ...peer, rounds: rounds(21) },
      { name: "foreach", ...peer, rounds: rounds(2.1) },
    ]),
    setting("summed", [
      { name: "step", ...ours, bytesPerParameter: 64, rounds: rounds(0.8) },
      { name: "fused", ...peer, rounds: rounds(0.385) },
    ]),
  ],
  host: [
    { key: "prepared", title: "one", unit: "µs", rounds: [5, 6, 7] },
    { key: "wide", title: "many", unit: "µs", rounds: [21, 22, 23] },
    { key: "unchanged", title: "again", unit: "ns", rounds: [8, 9, 10] },
  ],
};

console.log(
  JSON.stringify({
    steps: plain(stepTable(results)),
    roof: plain(roofTable(results)),
    peers: plain(peerTable(results)),
    goals: goalTable(results),
    nothing: goalTable({ ...results, settings: [], host: [] }).slice(1),
    differences: differences(results, { ...results, gpu: { ...results.gpu, name: "H" } }),
    slower: compare(results, {
      ...results,
      settings: [setting("perTerm", [{ name: "step", ...ours, rounds: rounds(2) }])],
    }),
  }),
);
