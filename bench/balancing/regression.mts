import { randomFor, type Random } from "../../examples/common/random.mjs";
import { ADAM_AND_TAGGED, ARMS_WITH_HEADS } from "./arms.mjs";
import { forward, type Dense } from "./dense.mjs";
import { normal } from "./draws.mjs";
import { COMMON, ratesAround, type Experiment, type Outcome } from "../common/experiment.mjs";
import type { Gradient } from "../common/gradient.mjs";
import { squaredError } from "./losses.mjs";
import { USUAL, train, training, type Problem } from "./problem.mjs";
import { SharedTrunk } from "./shared-trunk.mjs";
import { mean } from "../common/statistics.mjs";
import { alsoWithWrongWeights } from "./wrong-weights.mjs";

const INPUTS = 20;
const OUTPUTS = 5;
const HIDDEN = [50, 50];
const ROWS = 50;
/** The number of test batches. */
const TESTS = 40;

const RUNS = new Map([
  ["2 tasks, lr 0.003", { tasks: 2, lr: 0.003 }],
  ["2 tasks, lr 0.01", { tasks: 2, lr: 0.01 }],
  ["10 tasks, lr 0.01", { tasks: 10, lr: 0.01 }],
]);

/** Scales σ of the tasks: from 1 to 100 in equal ratios. */
function scales(tasks: number): number[] {
  return Array.from({ length: tasks }, (_, i) => 100 ** (i / (tasks - 1)));
}

/**
 * The tasks of "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks" (Chen,
 * Badrinarayanan, Lee and Rabinovich, ICML 2018), smaller: fᵢ(x) = σᵢ·tanh((B + εᵢ)·x), the elements of B and εᵢ are
 * normal, with deviations in the ratio 10 : 3.5, scaled so that B·x has deviation 1.
 */
class Tasks {
  readonly scales: readonly number[];
  readonly #maps: readonly Dense[];
  readonly inputs = new Float64Array(ROWS * INPUTS);
  readonly targets: readonly Float64Array[];

  constructor(tasks: number, random: Random) {
    this.scales = scales(tasks);
    const matrix = (deviation: number) =>
      Float64Array.from({ length: INPUTS * OUTPUTS }, () => (deviation * normal(random)) / Math.sqrt(INPUTS));
    const common = matrix(1);
    this.#maps = this.scales.map(() => {
      const own = matrix(0.35);
      return { weight: common.map((value, k) => value + own[k]!), bias: new Float64Array(OUTPUTS) };
    });
    this.targets = this.scales.map(() => new Float64Array(ROWS * OUTPUTS));
  }

  /** The next batch, in `inputs` and `targets`. */
  draw(random: Random): void {
    for (let k = 0; k < this.inputs.length; ++k) this.inputs[k] = normal(random);
    for (const [task, targets] of this.targets.entries()) {
      forward(this.#maps[task]!, this.inputs, targets);
      for (let k = 0; k < targets.length; ++k) targets[k] = this.scales[task]! * Math.tanh(targets[k]!);
    }
  }
}

/** A problem with new samples in every step. */
class RegressionProblem implements Problem {
  readonly #tasks: Tasks;
  readonly #network: SharedTrunk;
  readonly #buffers: readonly ReturnType<SharedTrunk["gradientOf"]>[];
  readonly #dPrediction = new Float64Array(ROWS * OUTPUTS);
  readonly #random: Random;
  readonly #seed: number;

  constructor(tasks: number, seed: number) {
    this.#tasks = new Tasks(tasks, randomFor(1, seed, "tasks"));
    this.#network = new SharedTrunk(
      { inputs: INPUTS, hidden: HIDDEN, outputs: this.#tasks.scales.map(() => OUTPUTS) },
      ROWS,
      randomFor(1, seed, "parameters"),
    );
    this.#buffers = this.#tasks.scales.map((_, task) => this.#network.gradientOf(task));
    this.#random = randomFor(1, seed, "batches");
    this.#seed = seed;
  }

  get parameters(): readonly Float32Array[] {
    return this.#network.parameters as Float32Array[];
  }

  get gradients(): readonly Gradient[] {
    return this.#buffers.map(({ byParameter }) => byParameter);
  }

  draw(): void {
    this.#tasks.draw(this.#random);
  }

  backward(): number[] {
    this.#network.forward(this.#tasks.inputs);
    return this.#buffers.map(({ layers }, task) => {
      const loss = squaredError(this.#network.predict(task), this.#tasks.targets[task]!, this.#dPrediction);
      this.#network.backward(task, this.#dPrediction, layers);
      return loss;
    });
  }

  /** σ to the power of −2 times the exponent. */
  weights(exponent: number): readonly number[] {
    return this.#tasks.scales.map((scale) => scale ** (-2 * exponent));
  }

  /** The test loss of each task divided by σ², its mean over tasks. */
  outcome(): Outcome {
    const { scales, inputs, targets } = this.#tasks;
    const random = randomFor(1, this.#seed, "test");
    const sums = scales.map(() => 0);
    for (let test = 0; test < TESTS; ++test) {
      this.#tasks.draw(random);
      this.#network.forward(inputs);
      for (const [task, scale] of scales.entries())
        sums[task]! += squaredError(this.#network.predict(task), targets[task]!) / scale ** 2;
    }
    const losses = sums.map((sum) => sum / TESTS);
    return { value: mean(losses), details: { losses: losses.map((loss) => Number(loss.toPrecision(4))) } };
  }
}

const COMPARED = {
  ...USUAL,
  measure: "test loss over σ², mean over tasks",
  grid: {
    exponents: [0, 0.25, 0.5, 0.75, 1],
    describe: (exponent: number) => (exponent === 0 ? "1 each" : `σ to the power of ${-2 * exponent}`),
  },
  steps: 1000,
} as const;

export const regression: Experiment = {
  ...COMPARED,
  key: "regression",
  variants: [...RUNS.keys()],
  arms: COMMON,
  seeds: 3,
  run: async (arm, task) => {
    const { tasks, lr } = RUNS.get(task.variant)!;
    return train(new RegressionProblem(tasks, task.seed), arm, task, lr);
  },
};

/** Two of the tasks with all methods and a search for the learning rates. */
export const twoTasks: Experiment = alsoWithWrongWeights({
  ...COMPARED,
  key: "two-tasks",
  arms: ARMS_WITH_HEADS,
  terms: ["task of σ = 1", "task of σ = 100"],
  rates: ratesAround(0.01),
  seeds: 10,
  run: training((seed) => new RegressionProblem(2, seed)),
});

/** Ten of the tasks with a search for the learning rates. */
export const tenTasks: Experiment = alsoWithWrongWeights({
  ...COMPARED,
  key: "ten-tasks",
  arms: ADAM_AND_TAGGED,
  terms: scales(10).map((scale) => `task of σ = ${scale.toPrecision(3)}`),
  rates: ratesAround(0.01),
  seeds: 5,
  run: training((seed) => new RegressionProblem(10, seed)),
});
