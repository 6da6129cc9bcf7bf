// Runs what bench/paper computes without PyTorch, for paper-test.ts.

import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";

const load = (name) => import(`../../build/test/paper/bench/${name}.mjs`);

const { frechetDistance, moments } = await load("paper/frechet");
const { hyperband, searchByHyperband } = await load("common/hyperband");
const { report } = await load("common/report");
const { run } = await load("common/runner");
const { Store } = await load("common/store");
const { curves } = await load("paper/curves");
const { datasetOf } = await import("../../build/test/paper/examples/mnist/data.mjs");
const { strip } = await import("../../build/test/paper/examples/common/strip.mjs");
const { sourcesOf } = await load("paper/python");
const { lastMoments, weightsOf } = await load("paper/training");

const folder = process.argv[2];
const CONDITIONS = { again: false, deadline: Infinity, log: () => undefined };

/** The same numbers as in frechet.py. */
function samples(seed, count, features, factor, shift, constant = 0) {
  let state = seed;
  const rows = new Float64Array(count * features);
  for (let row = 0; row < count; ++row) {
    let before = 0;
    for (let k = 0; k < features; ++k) {
      state = (state * 48271) % (2 ** 31 - 1);
      before = factor * (state / (2 ** 31 - 1)) + 0.3 * before + shift;
      rows[row * features + k] = k < features - constant ? before : shift;
    }
  }
  return moments(rows, features);
}

function distances() {
  const one = samples(1, 300, 32, 1, 0);
  return {
    general: frechetDistance(one, samples(2, 250, 32, 3, 0.5)),
    singular: frechetDistance(samples(3, 200, 16, 2, 0, 4), samples(4, 200, 16, 5, 1, 4)),
    itself: frechetDistance(one, one),
    notFinite: String(frechetDistance(one, moments(new Float64Array(64).fill(NaN), 32))),
  };
}

/** A search whose best configuration is near 0.5 after full trainings; shorter ones cost less, the least at 0.7. */
async function search() {
  const log = [];
  const full = [];
  let drawn = 0;
  const best = await searchByHyperband(
    hyperband(9, 3),
    () => {
      drawn += 1;
      return (drawn * 0.7) % 1;
    },
    async (x, resource) => {
      log.push(resource);
      if (resource < 9) return x < 0.2 ? NaN : Math.abs(x - 0.7) - 1;
      full.push(x);
      return Math.abs(x - 0.5);
    },
  );
  const counts = Object.fromEntries([1, 3, 9].map((r) => [r, log.filter((one) => one === r).length]));
  const expected = full.sort((a, b) => Math.abs(a - 0.5) - Math.abs(b - 0.5))[0];
  return { best, expected, drawn, counts, resource: log.reduce((a, b) => a + b, 0) };
}

/** An experiment that takes no time, with everything that a report may have. Adam's best weights are 1 : 10. */
async function pretended() {
  const trained = [];
  const base = { key: "base", name: "MTAdam", options: {} };
  const experiment = {
    key: "pretended",
    measure: "distance",
    better: "lower",
    variants: ["given", "wrong"],
    arms: [
      { key: "adam", name: "Adam" },
      { key: "hyperband", name: "Hyperband", hyperband: true, variants: ["given"] },
      base,
      { key: "dial", name: "Dial", dialOf: base, variants: ["given"] },
    ],
    terms: ["one", "two"],
    rates: [0.1, 0.2, 0.4],
    tuningSeeds: [101],
    seeds: 2,
    steps: 9,
    show: (value) => value.toFixed(1),
    further: [{ detail: "l1", measure: "error", better: "lower", show: (value) => value.toFixed(0) }],
    remark: () => "A remark.",
    curves: { caption: "curves", draw: (results) => curves(results, { measure: "distance", show: String }) },
    run: async (arm, { variant, seed, steps }) => {
      trained.push({ key: arm.key, variant, seed, steps, weights: arm.fixedWeights, rate: arm.rate });
      const [one, two] = arm.fixedWeights ?? [1, 1];
      const value = 1 + Math.abs(Math.log10(two / one) - 1) + 1 / steps;
      const png = seed === 1 && variant === "given" ? strip([new Float32Array(1024)]) : undefined;
      const l1 = variant === "given" ? seed : NaN;
      const records = seed === 1 && variant === "given" && arm.options ? { jsonl: "records" } : {};
      return { value, details: { l1, curve: [3, 2, NaN, value] }, ...(png && { png }), ...records };
    },
  };
  const extent = { seeds: 2, steps: 9 };
  const attempt = async () => {
    const store = await Store.open(folder, experiment);
    return { store, choices: await run(experiment, store, extent, CONDITIONS) };
  };
  await attempt();
  const [first] = [trained.splice(0)];
  const { store, choices } = await attempt();
  await report(experiment, store, choices, extent, folder);
  const ofHyperband = first.filter(({ key, seed }) => key.startsWith("hyperband") && seed === 101);
  const [searched, atRates] = [false, true].map((isOneOfThree) =>
    ofHyperband.filter(({ rate }) => experiment.rates.includes(rate) === isOneOfThree),
  );
  const chosen = choices(experiment.arms[1], "given");
  return {
    again: trained.length,
    searched: searched.map(({ steps }) => steps),
    atRates: atRates.map(({ steps, weights, rate }) => [steps, weights.join(), rate]),
    chosenWeights: chosen.fixedWeights.join(),
    ranges: {
      weights: [Math.min, Math.max].map((of) => of(...searched.flatMap(({ weights }) => weights))),
      rates: [Math.min, Math.max].map((of) => of(...searched.map(({ rate }) => rate))),
    },
    best: Math.min(
      ...searched.map(({ steps, weights: [a, b] }) => 1 / steps + Math.abs(Math.log10(b / a) - 1)),
    ),
    chosen: 1 / 9 + Math.abs(Math.log10(chosen.fixedWeights[1] / chosen.fixedWeights[0]) - 1),
    reportedInWrong: [
      ...new Set(
        first.filter(({ variant, seed }) => variant === "wrong" && seed < 100).map(({ key }) => key),
      ),
    ],
  };
}

/** Factors of wrong weights: over a thousand pairs of seeds. */
function wrongWeights() {
  const one = { key: "one", terms: ["a", "b"] };
  const wrong = (seed, subject = one) => weightsOf(subject, { variant: "wrong weights", seed });
  const logarithms = Array.from({ length: 1000 }, (_, pair) => wrong(2 * pair + 1).map(Math.log10)).flat();
  const quarters = [0, 0, 0, 0];
  for (const value of logarithms) quarters[Math.floor(value + 2)] += 1;
  return {
    given: weightsOf(one, { variant: "weights of 1", seed: 1 }),
    quarters: quarters.map((count) => count / logarithms.length),
    products: [1, 101].flatMap((seed) => wrong(seed).map((factor, i) => factor * wrong(seed + 1)[i])),
    pairs: [wrong(1), wrong(3)],
    again: wrong(1),
    other: wrong(1, { ...one, key: "other" }),
  };
}

/** The learning rates that an arm is trained with, whose best is `best`, and the rate that it gets. */
async function furtherRates(best) {
  const rates = new Set();
  const experiment = {
    ...{ key: `rates-${best}`, arms: [{ key: "adam", name: "Adam" }], variants: ["given"], better: "lower" },
    ...{ rates: [0.1, 0.3, 0.9], furtherRates: 2, tuningSeeds: [101], seeds: 1, steps: 1, show: String },
    run: async (arm) => {
      rates.add(arm.rate);
      return { value: Math.abs(Math.log(arm.rate / best)) };
    },
  };
  const store = await Store.open(folder, experiment);
  const choices = await run(experiment, store, experiment, CONDITIONS);
  return { rates: [...rates], chosen: choices(experiment.arms[0], "given").rate };
}

/** How often a training is repeated: for the same version and options, another version, other options. */
async function versions() {
  let trained = 0;
  const experiment = (version, options) => ({
    ...{
      key: "versions",
      version: () => version,
      arms: [{ key: "one", name: "One", options }],
      variants: ["given"],
    },
    ...{ better: "lower", seeds: 1, steps: 1, show: String, run: async () => ({ value: ++trained }) },
  });
  const counts = [];
  for (const own of [
    ["a", {}],
    ["a", {}],
    ["b", {}],
    ["b", { eps: 1 }],
    ["b", { eps: 1 }],
  ]) {
    const one = experiment(...own);
    await run(one, await Store.open(folder, one), one, CONDITIONS);
    counts.push(trained);
  }
  return counts;
}

/** The names of the functions that sources define, sorted; a source that is there twice has them twice. */
function definitions(sources) {
  return [...sources.matchAll(/^def (\w+)/gm)].map(([, name]) => name).sort();
}

/** The error of a training during which the sources change, and how many results are kept. */
async function changedMeanwhile() {
  let version = "a";
  const experiment = {
    ...{ key: "changed", version: () => version, arms: [{ key: "one", name: "One" }], variants: ["given"] },
    ...{ better: "lower", seeds: 2, steps: 1, show: String },
    run: async (_, { seed }) => {
      if (seed === 2) version = "b";
      return { value: 1 };
    },
  };
  const store = await Store.open(folder, experiment);
  const error = await run(experiment, store, experiment, CONDITIONS).catch(({ message }) => message);
  const { runs } = JSON.parse(readFileSync(`${folder}/changed.json`, "utf8"));
  return { error, kept: runs.length };
}

/** What a file has after two processes, or two stores, have added to it at the same time; and what each counts as its own. */
async function twoAtOnce() {
  const experiment = { key: "two-at-once" };
  const stores = [await Store.open(folder, experiment), await Store.open(folder, experiment)];
  const add = async (store, k) => {
    for (const seed of [1, 2]) {
      const task = { variant: "given", seed, steps: 1 };
      await store.add({ key: `arm ${k}` }, task, { value: 10 * k + seed }, 30);
    }
  };
  await Promise.all(stores.map(add));
  const { runs } = JSON.parse(readFileSync(`${folder}/two-at-once.json`, "utf8"));
  return { values: runs.map(({ value }) => value), costs: stores.map(({ cost }) => cost) };
}

/** The errors of files that are not what a data set needs. */
function refusedFiles() {
  const header = (...numbers) => Buffer.from(Uint32Array.from(numbers).map(swapped).buffer);
  const swapped = (value) => new DataView(Uint32Array.of(value).buffer).getUint32(0);
  const images = Buffer.concat([header(0x803, 1, 28, 28), Buffer.alloc(784)]);
  const labels = Buffer.concat([header(0x801, 1), Buffer.alloc(1)]);
  const two = Buffer.concat([header(0x801, 2), Buffer.alloc(2)]);
  const attempts = [
    [images, labels],
    [labels, labels],
    [images.subarray(0, 500), labels],
    [images, images],
    [images, two],
  ];
  return attempts.map((files) => {
    try {
      return datasetOf("A set", ...files).count;
    } catch (error) {
      return error.message;
    }
  });
}

/** A strip of two rows of one picture: black and, with one bright pixel, grey. */
async function stripOfTwo() {
  const { decode } = await import("fast-png");
  const grey = new Float32Array(1024);
  grey[33] = 7;
  const { width, height, channels, data } = decode(strip([new Float32Array(1024).fill(-1), grey]));
  return { size: [width, height, channels], values: [0, 1023, 1024, 1024 + 33].map((k) => data[k]) };
}

console.log(
  JSON.stringify({
    distances: distances(),
    brackets: [hyperband(81, 3), hyperband(9, 3), hyperband(1, 3)].map((brackets) =>
      brackets.map((rungs) => rungs.map(({ configurations, resource }) => [configurations, resource])),
    ),
    search: await search(),
    pretended: await pretended(),
    wrongWeights: wrongWeights(),
    furtherRates: [await furtherRates(0.3), await furtherRates(9), await furtherRates(0.01)],
    versions: await versions(),
    sources: [sourcesOf("soft"), sourcesOf("hard", "nets", "soft")].map(definitions),
    moments: [lastMoments(1500, 5), lastMoments(4, 5), lastMoments(400, 1)],
    strip: await stripOfTwo(),
    twoAtOnce: await twoAtOnce(),
    changedMeanwhile: await changedMeanwhile(),
    refusedFiles: refusedFiles(),
  }),
);
