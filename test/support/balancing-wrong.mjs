// Wrong weights and the summary of bench/balancing: what balancing.mjs prints of them.

import { MTAdam } from "mtadam";

const load = (name) => import(`../../build/bench/${name}.mjs`);

const { TUNED } = await load("common/experiment");
const { report } = await load("common/report");
const { run } = await load("common/runner");
const { Store } = await load("common/store");
const { Trainer } = await load("common/trainer");
const { recovered } = await load("common/recovered");
const { columnsOf, summarize, summaryOf } = await load("balancing/summary");
const { alsoWithWrongWeights, WRONG, WronglyWeighted } = await load("balancing/wrong-weights");

const CONDITIONS = { again: false, deadline: Infinity, log: () => undefined };

/** A problem of two terms with the factors 4 and 1/2: losses, gradients, weights. */
function factors() {
  const [shared, head] = [new Float32Array([1, 2]), new Float32Array([3])];
  const gradients = [
    [shared, null],
    [new Float32Array([5, 6]), head],
  ];
  const problem = {
    parameters: [],
    gradients,
    backward: () => [7, 8],
    weights: (exponent) => [1, 10 ** exponent],
  };
  const wrong = new WronglyWeighted(problem, [4, 0.5]);
  const losses = wrong.backward();
  return { losses, gradients: gradients.flat().map((part) => part && [...part]), weights: wrong.weights(1) };
}

/** An experiment that takes no time: Adam's error is 9 with wrong weights, 3 else; tuned weights' 1; MTAdam's 2. */
function experiment(key, rival) {
  const arms = [
    { key: "adam", name: key === "a" ? "Adam" : "Adam, as it comes" },
    TUNED,
    { key: "default", name: "MTAdam", options: {} },
    ...(rival ? [{ key: "other", name: "Other", rival: {} }] : []),
  ];
  return {
    ...{
      key,
      arms,
      measure: "error",
      better: "lower",
      rates: [1, 2],
      tuningSeeds: [101],
      seeds: 2,
      steps: 3,
    },
    variants: ["constant rate"],
    grid: { exponents: [0, 1], describe: String },
    show: (value) => value.toFixed(1),
    run: async (arm, { variant }) => {
      if (arm.key.startsWith("adam")) return { value: variant === WRONG ? 9 : 3 };
      if (arm.exponent !== undefined) return { value: 2 - arm.exponent };
      return { value: arm.key.startsWith("other") ? 8 : 2 };
    },
  };
}

/** Parameters after two steps of two terms with a head of two tensors each, of which the first term's may have a tag. */
function heads() {
  const options = { preset: "recommended" };
  const start = () => [0.5, 1, 1.5, 2, 2.5].map((value) => new Float32Array([value, -value]));
  const ones = (factor) => (k) => new Float32Array([factor * (k + 1), factor]);
  const gradients = [
    [0, 1, 2].map(ones(1)).concat([null, null]),
    [ones(100)(0), null, null, ones(100)(3), ones(100)(4)],
  ];
  const trained = (own) => {
    const parameters = start();
    const trainer = new Trainer({ options, ...own }, parameters, gradients, { lr: 0.1, weights: [1, 1] });
    for (let step = 0; step < 2; ++step) trainer.step();
    trainer.dispose();
    return parameters.map((values) => [...values]);
  };
  const tagged = start();
  const layers = [undefined, "one", "one", "two", "two"];
  const optimizer = new MTAdam(
    tagged.map((data, k) => ({ data, shape: [2], ...(layers[k] && { layer: layers[k] }) })),
    { ...options, lr: 0.1, terms: 2 },
  );
  for (let step = 0; step < 2; ++step) optimizer.step(gradients);
  return { plain: trained({}), byTrainer: trained({ tagsHeads: true }), byHand: tagged.map((v) => [...v]) };
}

/** What is recovered where more is better: of the values of Adam with wrong weights, MTAdam, and tuned weights. */
function recoveredOf(adam, balanced, tuned) {
  const row = (key, name, value) => ({ arm: { key, name }, outcomes: [{ value }] });
  const results = new Map([
    [
      "wrong",
      [row("adam", "Adam", adam), row("default", "MTAdam", balanced), { arm: { key: "x" }, outcomes: [] }],
    ],
    ["right", [row("tuned", "Adam, tuned", tuned)]],
  ]);
  return recovered(results, {
    better: "higher",
    wrong: "wrong",
    right: "right",
    ends: { tuned: "tuned weights" },
  });
}

/** Writes the tables of two problems and their summary; a third lacks its trainings. */
export async function wrongWeights(folder) {
  const experiments = [alsoWithWrongWeights(experiment("a", true)), experiment("b", false)];
  for (const own of experiments) {
    const store = await Store.open(folder, own);
    const choices = await run(own, store, own, CONDITIONS);
    await report(own, store, choices, own, folder);
  }
  await summarize([...experiments, experiment("missing", false)], folder);
  const columns = columnsOf(experiments[0], new Map([[WRONG, []]]));
  const column = { name: "x", hasRivals: true, ratios: new Map([["lost", 150.4]]) };
  const names = new Map([["lost", new Set(["Lost"])]]);
  const large = summaryOf([column], names).split("\n").at(-1);
  const values = [[1, 2, 3], [3, 2, 3], [NaN, 2, 3], [1, NaN, 3]]; // prettier-ignore
  const found = values.map((three) => recoveredOf(...three));
  return { large, recovered: found, factors: factors(), heads: heads(), ofWrong: columns.length };
}
