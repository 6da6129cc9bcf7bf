// Prints results of bench/balancing, with the expected values, as JSON. The bench must have been compiled. node
// balancing.mjs FOLDER an empty folder for results

import process from "node:process";
import { rivals } from "./balancing-rivals.mjs";
import { wrongWeights } from "./balancing-wrong.mjs";
import { batches, gradientErrors, layeredProblems, losses, pictures, widen } from "./balancing-problems.mjs";

const [folder] = process.argv.slice(2);
const load = (name) => import(`../../build/bench/${name}.mjs`);

const { fixed, weighted, TUNED } = await load("common/experiment");
const equations = {
  helmholtz: { ...(await load("balancing/helmholtz")), second: [1, 1] },
  heat: { ...(await load("balancing/heat")), second: [1, 0] },
  burgers: { ...(await load("balancing/burgers")), second: [1, 0] },
};
const { parseOptions } = await load("common/options");
const { LAPLACIAN, Pinn } = await load("balancing/pinn");
const { relativeError } = await load("balancing/pinn-terms");
const { report } = await load("common/report");
const { results, run } = await load("common/runner");
const { squaredError } = await load("balancing/losses");
const { SharedTrunk } = await load("balancing/shared-trunk");
const { REMEDIES, SILENCE, stepLengths } = await load("balancing/silent-anchor");
const { Store } = await load("common/store");
const { table } = await load("common/table");
const { distanceToParetoSet, objectives, paretoSet } = await load("balancing/toy");
const { fill } = await import("../../build/bench/common/text.mjs");
const { randomFor } = await import("../../build/examples/common/random.mjs");

const random = randomFor(1, 1, "balancing-test");
const inSquare = () => [20 * random() - 10, 20 * random() - 10];

/** Largest error of a term's gradient, which reaches every parameter. */
function gradientError(parameters, gradient, loss, h) {
  return gradientErrors(parameters, [gradient], () => [loss()], h)[0];
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

/** How many of many points are better in both objectives than a point of the Pareto set. */
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
  const network = new SharedTrunk({ inputs: 3, hidden: [5, 4], outputs: [2, 3] }, 6, random);
  widen(network.layers);
  const batch = Float64Array.from({ length: 18 }, () => 2 * random() - 1);
  const targets = [12, 18].map((length) => Float64Array.from({ length }, () => 4 * random()));
  const buffers = targets.map((_, task) => network.gradientOf(task));
  const backward = () => {
    network.forward(batch);
    return buffers.map(({ layers }, task) => {
      const d = new Float64Array(targets[task].length);
      const loss = squaredError(network.predict(task), targets[task], d);
      network.backward(task, d, layers);
      return loss;
    });
  };
  backward();
  const gradients = buffers.map(({ byParameter }) => byParameter.map((values) => values && values.slice()));
  return gradientErrors(network.parameters, gradients, backward);
}

function pinnGradients() {
  return Object.values(equations).map(({ terms }) => {
    const network = new Pinn([5, 4], random);
    widen(network.layers);
    return terms(network).map((term) => {
      term.draw(random);
      term.lossAndGradient();
      const gradient = term.points.gradient.flatMap(({ weight, bias }) => [weight.slice(), bias.slice()]);
      return gradientError(network.parameters, gradient, () => term.lossAndGradient());
    });
  });
}

/** The derivatives of a function in a point, by differences. */
function local(u, [x, y], [a, b], h) {
  const byX = [u(x + h, y), u(x - h, y)];
  const byY = [u(x, y + h), u(x, y - h)];
  const curvature = ([above, below]) => (above - 2 * u(x, y) + below) / h ** 2;
  return {
    ...{ x, y, u: u(x, y), ux: (byX[0] - byX[1]) / (2 * h), uy: (byY[0] - byY[1]) / (2 * h) },
    second: a * curvature(byX) + b * curvature(byY),
  };
}

/** The errors, by differences, of each solution in its equation and of each residual's derivatives. */
function solutionErrors() {
  const points = [
    [0.3, 0.2],
    [-0.6, 0.7],
    [0.05, 0.1],
  ];
  return Object.values(equations).map(({ solution, residual, second }) => {
    const left = points.map((point) => Math.abs(residual(local(solution, point, second, 1e-4)).value));
    const at = { x: 0.3, y: 0.2, u: 0.7, ux: -1.3, uy: 0.4, second: 2.1 };
    const { byU, byUx, byUy, bySecond } = residual(at);
    const derivatives = { u: byU, ux: byUx, uy: byUy, second: bySecond };
    const slopes = Object.entries(derivatives).map(([key, by]) => {
      const [above, below] = [1e-4, -1e-4].map((h) => residual({ ...at, [key]: at[key] + h }).value);
      return Math.abs((above - below) / 2e-4 - by);
    });
    return Math.max(...left, ...slopes);
  });
}

/**
 * A network's derivatives in one point, computed and by differences: first order, Laplacian, and others of second
 * order.
 */
function derivatives() {
  const network = new Pinn([5, 4], random);
  const u = network.points(1);
  const point = [0.3, -0.6];
  const value = (...at) => {
    u.inputs.set(at);
    return u.forward().value[0];
  };
  return [LAPLACIAN, [1, 0], [2, -3]].map((second) => {
    const at = network.points(1, second);
    at.inputs.set(point);
    const out = at.forward();
    const expected = local(value, point, second, 1e-3);
    const differences = [out.byX[0] - expected.ux, out.byY[0] - expected.uy, out.second[0] - expected.second];
    return Math.max(...differences.map(Math.abs));
  });
}

/** The relative error of a network that is 0 everywhere. */
function errorOfNothing() {
  const network = new Pinn([2], random);
  for (const { weight, bias } of network.layers) [weight, bias].forEach((values) => values.fill(0));
  return relativeError(network, -1, equations.helmholtz.solution);
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
    grid: { exponents: [0, 1, 2], describe: (exponent) => `exponent ${exponent}` },
    tuningSeeds: [101],
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
    const store = await Store.open(folder, experiment);
    const choices = await run(experiment, store, extent, conditions(more));
    counts.push([choices !== undefined, trained.length]);
    return { store, choices };
  };
  await attempt({ deadline: 0 });
  const { store, choices } = await attempt({});
  await attempt({});
  await attempt({ again: true });
  await report(experiment, store, choices, extent, folder);
  return {
    counts,
    chosen: ["a", "b"].map((variant) => choices(TUNED, variant).exponent),
    onlyOfTuning: trained.filter((line) => line.endsWith(" 101")).length,
    fixedInTable: trained.filter((line) => line.startsWith("fixed") && !line.endsWith(" 101")),
    otherSteps: store.find(fixed(0), { variant: "a", seed: 101, steps: 4 }) ?? null,
    table: table(experiment, results(experiment, store, choices, extent)).split("\n"),
  };
}

/** An experiment that takes no time with rates, two schedules and weights to find: the best rate is 0.3, weights 1 : 0.1. */
async function searched() {
  const trained = [];
  const base = { key: "base", name: "MTAdam", options: { anchor: "max" } };
  const experiment = {
    key: "searched",
    measure: "accuracy",
    better: "higher",
    variants: ["constant", "decaying"],
    arms: [
      { key: "adam", name: "Adam" },
      { key: "lost", name: "Lost" },
      base,
      { key: "dial", name: "MTAdam, found weights", dialOf: base },
    ],
    terms: ["one", "two"],
    rates: [0.1, 0.3, 0.9],
    tuningSeeds: [101, 102],
    seeds: 2,
    steps: 9,
    show: (value) => value.toFixed(3),
    run: async (arm, { variant, seed, steps }) => {
      trained.push(`${arm.key} ${variant} ${seed}`);
      if (arm.rate === 0.9 || arm.key.startsWith("lost")) return { value: NaN };
      const [first, second] = arm.options?.weights ?? [1, 1];
      const fit = Math.abs(Math.log10(second / first) + 1) + Math.abs(Math.log(arm.rate / 0.3));
      return { value: 1 / (1 + fit) + steps / 1000 - (seed % 100) / 10_000 };
    },
  };
  const extent = { seeds: 2, steps: 9 };
  const conditions = { again: false, deadline: Infinity, log: () => undefined };
  const [counts, keys] = [[], []];
  let last;
  // Interrupts the search of weights; the trainings finished by then are kept.
  let left = 3 * 3 * 2 + 2;
  const runWhole = experiment.run;
  experiment.run = async (...args) => {
    if (left === 0) throw new Error("interrupted");
    --left;
    return runWhole(...args);
  };
  const interrupted = await run(experiment, await Store.open(folder, experiment), extent, {
    ...conditions,
    again: false,
  }).catch((error) => error.message);
  counts.push(trained.length);
  experiment.run = runWhole;
  for (const again of [false, false, true]) {
    trained.length = 0;
    const store = await Store.open(folder, experiment);
    const choices = await run(experiment, store, extent, { ...conditions, again });
    counts.push(trained.length);
    last = { store, choices };
  }
  for (const arm of experiment.arms) keys.push(last.choices(arm, "decaying").key);
  await report(experiment, last.store, last.choices, extent, folder);
  const diverged = last.store.find({ key: "adam lr 0.9" }, { variant: "constant", seed: 101, steps: 9 });
  return {
    counts,
    keys,
    interrupted,
    twice: trained.length - new Set(trained).size,
    diverged: String(diverged.value),
    table: table(experiment, results(experiment, last.store, last.choices, extent)).split("\n"),
    weighted: weighted(base, [1, 2]).key,
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

/** The messages for invalid command lines. */
function refusal(...args) {
  try {
    parseOptions(args, { keys: ["a", "b"], out: "results" });
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
    layered: await layeredProblems(),
    batches: await batches(),
    pictures: await pictures(),
    losses: await losses(),
    solutionErrors: solutionErrors(),
    derivatives: derivatives(),
    errorOfNothing: errorOfNothing(),
    pretended: await pretended(),
    searched: await searched(),
    wrong: await wrongWeights(`${folder}/wrong`),
    rivals: await rivals(),
    filled: fill("before\n<!-- results of a -->old<!-- end of a -->\nafter", "a", "new"),
    appended: fill("before\n", "a", "new"),
    silences: silences(),
    refusals: [
      refusal("--steps", "2"),
      refusal("--experiment", "x"),
      refusal("--seeds", "0", "--out", "x"),
      refusal("--seeds", "1"),
      refusal("--again", "--minutes", "1"),
      refusal("--seeds", "1", "--experiment", "b", "--out", "x"),
    ],
  }),
);
