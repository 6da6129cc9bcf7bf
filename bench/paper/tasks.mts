import type { PythonValue } from "mtadam/torch";
import { draws, randomFor, type Random } from "../../examples/common/random.mjs";
import { ratesAround, type Experiment } from "../common/experiment.mjs";
import { mean } from "../common/statistics.mjs";
import { CLASSES } from "../../examples/mnist/data.mjs";
import { TUNING_SEEDS, VARIANTS, armsFor, isTuning } from "./arms.mjs";
import { FURTHER_RATES, factorsOf, recoveredOf, versionOf } from "./protocol.mjs";
import { curves } from "./curves.mjs";
import { bytes, choose, drawn, loadData, type ByteTensor, type Data } from "./data.mjs";
import { openModel } from "./python.mjs";
import { train, type Subject } from "./training.mjs";

const BATCH = 32;
const MNIST_BATCH = 64;
const BETA1 = 0.9;

/** Images that judge a model during the training. */
const FEW = 2000;

/** Images of the training set whose classes the soft experiment knows. */
const LABELLED = 1000;

/** An experiment that names classes and turns. */
interface Kind {
  key: string;
  measure: string;
  terms: readonly string[];
  seeds: number;
  steps: number;
  rate: number;
  draw(train: Data["train"], random: Random): Record<string, PythonValue>;
  /** Whether the judged images are turned. */
  turned: boolean;
  /** The figures whose mean is the value, in percent. */
  figures: readonly string[];
}

const hard: Kind = {
  key: "hard",
  measure: "mean of the errors and the unexplained variance in %",
  terms: ["class", "turn", "picture"],
  seeds: 4,
  steps: 400,
  rate: 1e-3,
  draw: (train, random) => ({ ...drawn(train, BATCH, random), turns: turns(BATCH, random) }),
  turned: true,
  figures: ["class", "turn", "picture"],
};

const soft: Kind = {
  key: "soft",
  measure: "mean of the errors in %",
  terms: ["class", "turn", "similar"],
  seeds: 4,
  steps: 400,
  rate: 1e-3,
  draw: (train, random) => {
    const known = choose(train, draws(BATCH, LABELLED, random));
    const { images } = drawn(train, BATCH, random);
    return { labelled: known.images, classes: known.classes, images, turns: turns(BATCH, random) };
  },
  turned: true,
  figures: ["class", "turn"],
};

const mnist: Kind = {
  key: "mnist",
  measure: "test error in %",
  terms: Array.from({ length: CLASSES }, (_, digit) => `digit ${digit}`),
  seeds: 10,
  steps: 200,
  rate: 5e-4,
  draw: (train, random) => {
    // In one batch of a hundred a digit is missing: its term has no loss then.
    let batch = drawn(train, MNIST_BATCH, random);
    while (new Set(batch.classes.data).size < CLASSES) batch = drawn(train, MNIST_BATCH, random);
    return { ...batch };
  },
  turned: false,
  figures: ["class"],
};

/** The experiments with several tasks, and MNIST. */
export const taskExperiments: readonly Experiment[] = [hard, soft, mnist].map(experimentOf);

function experimentOf(kind: Kind): Experiment {
  const { key, measure, terms, seeds, steps, rate, turned, figures } = kind;
  const show = (value: number) => value.toPrecision(3);
  return {
    key,
    measure,
    better: "lower",
    variants: VARIANTS,
    arms: armsFor(BETA1, steps),
    rates: ratesAround(rate),
    furtherRates: FURTHER_RATES,
    version: () => versionOf([key], { BATCH, MNIST_BATCH, BETA1, LABELLED, terms, turned, figures }),
    tuningSeeds: TUNING_SEEDS,
    terms,
    seeds,
    steps,
    logarithmic: true,
    show,
    remark: (results) => `${factorsOf({ key, terms }, results)} ${recoveredOf(results)}`,
    further:
      figures.length > 1
        ? figures.map((detail) => ({
            detail,
            measure:
              detail === "picture"
                ? "unexplained variance of the picture in %"
                : `error of the ${detail} in %`,
            better: "lower" as const,
            show,
          }))
        : [],
    curves: {
      caption: `${measure} over the training`,
      draw: (results) => curves(results, { measure, show }),
    },
    run: async (arm, task) => {
      const data = await loadData("digits");
      const set = isTuning(task) ? data.validation : data.test;
      const [all, few] = [judgedOf(set, set.count, kind), judgedOf(set, FEW, kind)];
      const subject: Subject = {
        key,
        open: (seed) => openModel(key, { seed }),
        terms,
        beta1: BETA1,
        judgements: 1,
        draw: (random) => kind.draw(data.train, random),
        judge: async (model, isLast) => {
          const details = (await model.call("evaluate", isLast ? all : few)) as Record<string, number>;
          return { value: mean(figures.map((figure) => details[figure]!)), details };
        },
      };
      return train(subject, arm, task);
    },
  };
}

/** The arguments of `evaluate`: the first `count` images, classes, and turns where the experiment has them. */
function judgedOf(set: Data["test"], count: number, { turned }: Kind): Record<string, PythonValue> {
  const examples = choose(
    set,
    Array.from({ length: count }, (_, k) => k),
  );
  return { ...examples, ...(turned && { turns: turns(count, randomFor(1, 1, "judged turns")) }) };
}

/** Quarter turns, 0 to 3. */
function turns(count: number, random: Random): ByteTensor {
  return bytes(draws(count, 4, random));
}
