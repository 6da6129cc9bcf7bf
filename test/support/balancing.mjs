// What bench/balancing computes, beside what it should be: prints the measurements as JSON. It must have been compiled.
//   node balancing.mjs FOLDER     an empty folder for results

import process from "node:process";

const [folder] = process.argv.slice(2);
const load = (name) => import(`../../build/bench/balancing/${name}.mjs`);

const { fixed, TUNED } = await load("experiment");
const { relativeError, terms } = await load("helmholtz");
const { parseOptions } = await load("options");
const { Pinn } = await load("pinn");
const { report } = await load("report");
const { chosenExponent, results, run } = await load("runner");
const { SharedTrunk } = await load("shared-trunk");
const { REMEDIES, SILENCE, stepLengths } = await load("silent-anchor");
const { Store } = await load("store");
const { table } = await load("table");
const { distanceToParetoSet, objectives, paretoSet } = await load("toy");
const { fill } = await import("../../build/bench/common/text.mjs");
const { randomFor } = await import("../../build/examples/common/random.mjs");

const random = randomFor(1, 1, "balancing-test");
const inSquare = () => [20 * random() - 10, 20 * random() - 10];

/** Largest difference between `gradient`, arrays, and the central differences of `loss` by the values of `parameters`. */
function gradientError(parameters, gradient, loss, h = 1e-5) {
  let [worst, largest] = [0, 0];
  for (const [i, values] of parameters.entries()) {
    for (let k = 0; k < values.length; ++k) {
      const held = values[k];
      values[k] = held + h;
      const above = loss();
      values[k] = held - h;
      const below = loss();
      values[k] = held;
      worst = Math.max(worst, Math.abs((above - below) / (2 * h) - gradient[i][k]));
      largest = Math.max(largest, Math.abs(gradient[i][k]));
    }
  }
  return worst / largest;
}

/** Central differences need more digits than the parameters have. */
function widen(layers) {
  for (const layer of layers) {
    layer.weight = Float64Array.from(layer.weight);
    layer.bias = Float64Array.from(layer.bias);
  }
}

function toyGradients() {
  const points = Array.from({ length: 200 }, inSquare).filter(([, x2]) => Math.abs(x2) > 0.01);
  const errors = points.flatMap((point) =>
    [0, 1].map((term) => {
      const gradient = objectives(point).gradients[term];
      return gradientError([point], [gradient], () => objectives(point).losses[term], 1e-7);
    }),
  );
  return errors.sort((a, b) => a - b).at(-1);
}

/** How often one of many points is better than one of the Pareto set in both objectives. */
function dominations() {
  const losses = paretoSet(29).map((point) => objectives(point).losses);
  const points = [
    ...Array.from({ length: 20_000 }, inSquare),
    ...paretoSet(281).flatMap(([x1, x2]) => [-0.05, 0, 0.05].map((d) => [x1, x2 + d])),
  ];
  return points.reduce((count, point) => {
    const [a, b] = objectives(point).losses;
    return count + losses.filter(([first, second]) => a < first - 1e-9 && b < second - 1e-9).length;
  }, 0);
}

function trunkGradients() {
  const network = new SharedTrunk({ inputs: 3, hidden: [5, 4], outputs: 2, tasks: 2 }, 6, random);
  widen([...network.trunk, ...network.heads]);
  const batch = Float64Array.from({ length: 18 }, () => 2 * random() - 1);
  const targets = Float64Array.from({ length: 12 }, () => 4 * random());
  return [0, 1].map((task) => {
    const { layers, byParameter } = network.gradientOf(task);
    network.forward(batch);
    network.backward(task, targets, layers);
    const gradient = network.parameters.map(({ length }, i) => byParameter[i] ?? new Float32Array(length));
    return gradientError(network.parameters, gradient, () => {
      network.forward(batch);
      return network.loss(task, targets);
    });
  });
}

function pinnGradients() {
  const network = new Pinn([5, 4], random);
  widen(network.layers);
  return terms(network).map((term) => {
    term.draw(random);
    term.lossAndGradient();
    const gradient = term.points.gradient.flatMap(({ weight, bias }) => [weight.slice(), bias.slice()]);
    return gradientError(network.parameters, gradient, () => term.lossAndGradient());
  });
}

/** The Laplacian in one point, and by differences of u. */
function laplacians() {
  const network = new Pinn([5, 4], random);
  const [at, u] = [network.points(1, true), network.points(1, false)];
  const [x, y, h] = [0.3, -0.6, 1e-3];
  at.inputs.set([x, y]);
  const value = (...point) => {
    u.inputs.set(point);
    return u.forward().value[0];
  };
  const around = value(x + h, y) + value(x - h, y) + value(x, y + h) + value(x, y - h);
  return [at.forward().laplacian[0], (around - 4 * value(x, y)) / h ** 2];
}

/** Of a network that gives 0 everywhere. */
function errorOfNothing() {
  const network = new Pinn([2], random);
  for (const { weight, bias } of network.layers) [weight, bias].forEach((values) => values.fill(0));
  return relativeError(network);
}

/** An experiment that takes no time, whose best fixed weight is exponent 2 for "b", and 1 or 0 for "a". */
async function pretended() {
  const trained = [];
  const experiment = {
    key: "pretended",
    measure: "error",
    better: "lower",
    variants: ["a", "b"],
    arms: [TUNED, { key: "x", name: 'anchor: "max", β₃ = 0.5', options: {} }],
    grid: { exponents: [0, 1, 2], seeds: [101], describe: (exponent) => `exponent ${exponent}` },
    seeds: 2,
    steps: 3,
    show: (value) => value.toFixed(1),
    run: async (arm, { variant, seed }) => {
      trained.push(`${arm.key} ${variant} ${seed}`);
      const errors = { a: [1, 1, 3], b: [3, 2, 1] };
      return { value: arm.exponent === undefined ? 2 + seed : errors[variant][arm.exponent] };
    },
  };
  const extent = { seeds: 2, steps: 3 };
  const conditions = (more) => ({ again: false, deadline: Infinity, log: () => undefined, ...more });
  const counts = [];
  const attempt = async (more) => {
    trained.length = 0;
    const store = await Store.open(folder, "pretended");
    const done = await run(experiment, store, extent, conditions(more));
    counts.push([done, trained.length]);
    return store;
  };
  await attempt({ deadline: 0 });
  const store = await attempt({});
  await attempt({});
  await attempt({ again: true });
  await report(experiment, store, extent, folder);
  return {
    counts,
    chosen: ["a", "b"].map((variant) => chosenExponent(experiment, store, variant, 3)),
    onlyOfTuning: trained.filter((line) => line.endsWith(" 101")).length,
    fixedInTable: trained.filter((line) => line.startsWith("fixed") && !line.endsWith(" 101")),
    otherSteps: store.find(fixed(0), { variant: "a", seed: 101, steps: 4 }) ?? null,
    table: table(experiment, results(experiment, store, extent)).split("\n"),
  };
}

function silences() {
  return REMEDIES.map((remedy) => {
    const lengths = stepLengths(remedy);
    const during = lengths.slice(SILENCE.from - 1, SILENCE.to);
    const least = Math.min(...during);
    return { name: remedy.name, least, after: during.indexOf(least) + 1, last: during.at(-1) };
  });
}

/** What is said to a command line that cannot be followed. */
function refusal(...args) {
  try {
    parseOptions(args, ["a", "b"]);
    return "";
  } catch (error) {
    return error.message;
  }
}

console.log(
  JSON.stringify({
    toyGradients: toyGradients(),
    dominations: dominations(),
    distances: [
      [0, -8.3551],
      [0, -5.3551],
      [10, -8.4345],
      [-7, -8.4345],
    ].map(distanceToParetoSet),
    trunkGradients: trunkGradients(),
    pinnGradients: pinnGradients(),
    laplacians: laplacians(),
    errorOfNothing: errorOfNothing(),
    pretended: await pretended(),
    filled: fill("before\n<!-- results of a -->old<!-- end of a -->\nafter", "a", "new"),
    appended: fill("before\n", "a", "new"),
    silences: silences(),
    refusals: [
      refusal("--steps", "2"),
      refusal("--experiment", "x"),
      refusal("--seeds", "0"),
      refusal("--seeds", "1", "--experiment", "b"),
    ],
  }),
);
