import { randomFor, type Random } from "../../examples/common/random.mjs";
import { forward, type Dense } from "./dense.mjs";
import { normal } from "./draws.mjs";
import { COMMON, type Arm, type Experiment, type Outcome, type Task } from "./experiment.mjs";
import { squaredError } from "./losses.mjs";
import { SharedTrunk } from "./shared-trunk.mjs";
import { mean } from "./statistics.mjs";
import { Trainer } from "./trainer.mjs";

const INPUTS = 20;
const OUTPUTS = 5;
const HIDDEN = [50, 50];
const ROWS = 50;
/** Batches of the test set. */
const TESTS = 40;

const VARIANTS = new Map([
  ["2 tasks, lr 0.003", { tasks: 2, lr: 0.003 }],
  ["2 tasks, lr 0.01", { tasks: 2, lr: 0.01 }],
  ["10 tasks, lr 0.01", { tasks: 10, lr: 0.01 }],
]);

/** Scales σ of the tasks: from 1 to 100 in equal ratios. */
function scales(tasks: number): number[] {
  return Array.from({ length: tasks }, (_, i) => 100 ** (i / (tasks - 1)));
}

/**
 * The tasks of "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks"
 * (Chen, Badrinarayanan, Lee and Rabinovich, ICML 2018), smaller: fᵢ(x) = σᵢ·tanh((B + εᵢ)·x), the
 * elements of B and εᵢ normal, their deviations as 10 to 3.5, and such that B·x has deviation 1.
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

/** Fresh samples in every step, then the test loss of each task divided by σ², its mean over tasks. */
async function run(arm: Arm, { variant, seed, steps }: Task): Promise<Outcome> {
  const { tasks: count, lr } = VARIANTS.get(variant)!;
  const tasks = new Tasks(count, randomFor(1, seed, "tasks"));
  const network = new SharedTrunk(
    { inputs: INPUTS, hidden: HIDDEN, outputs: tasks.scales.map(() => OUTPUTS) },
    ROWS,
    randomFor(1, seed, "parameters"),
  );
  const gradients = tasks.scales.map((_, task) => network.gradientOf(task));
  const dPrediction = new Float64Array(ROWS * OUTPUTS);
  const trainer = new Trainer(
    arm,
    network.parameters as Float32Array[],
    gradients.map(({ byParameter }) => byParameter),
    { lr, weights: tasks.scales.map((scale) => scale ** (-2 * (arm.exponent ?? 0))) },
  );
  const random = randomFor(1, seed, "batches");
  for (let step = 0; step < steps; ++step) {
    tasks.draw(random);
    network.forward(tasks.inputs);
    for (const [task, { layers }] of gradients.entries()) {
      squaredError(network.predict(task), tasks.targets[task]!, dPrediction);
      network.backward(task, dPrediction, layers);
    }
    trainer.step();
  }
  trainer.dispose();
  const losses = testLosses(network, tasks, randomFor(1, seed, "test"));
  return { value: mean(losses), details: { losses: losses.map((loss) => Number(loss.toPrecision(4))) } };
}

function testLosses(network: SharedTrunk, tasks: Tasks, random: Random): number[] {
  const sums = tasks.scales.map(() => 0);
  for (let test = 0; test < TESTS; ++test) {
    tasks.draw(random);
    network.forward(tasks.inputs);
    for (const [task, scale] of tasks.scales.entries())
      sums[task]! += squaredError(network.predict(task), tasks.targets[task]!) / scale ** 2;
  }
  return sums.map((sum) => sum / TESTS);
}

export const regression: Experiment = {
  key: "regression",
  measure: "test loss over σ², mean over tasks",
  better: "lower",
  variants: [...VARIANTS.keys()],
  arms: COMMON,
  grid: {
    exponents: [0, 0.25, 0.5, 0.75, 1],
    describe: (exponent) => (exponent === 0 ? "1 each" : `σ to the power of ${-2 * exponent}`),
  },
  tuningSeeds: [101, 102],
  seeds: 3,
  steps: 1000,
  logarithmic: true,
  show: (value) => value.toPrecision(2),
  run,
};
