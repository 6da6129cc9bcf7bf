import { randomFor, type Random } from "../../examples/common/random.mjs";
import { COMMON, type Arm, type Experiment, type Outcome, type Task } from "./experiment.mjs";
import { Pinn, type Points } from "./pinn.mjs";
import { Trainer } from "./trainer.mjs";

const HIDDEN = [32, 32];
/** Points of every batch: inside, and on each side. */
const INSIDE = 128;
const ON_SIDE = 32;
/** The error is taken on a grid of so many points squared. */
const GRID = 50;

const { PI, sin } = Math;

/** The solution of Δu + u = q on [−1, 1]² with u = 0 on the sides; how often it changes sign sets the difficulty. */
const solution = (x: number, y: number) => sin(PI * x) * sin(2 * PI * y);
const source = (x: number, y: number) => (1 - 5 * PI ** 2) * solution(x, y);

/** A loss term: the mean square of what should be 0 in the points, and its gradient in the points' buffers. */
interface Term {
  points: Points;
  /** New random points. */
  draw(random: Random): void;
  lossAndGradient(): number;
}

function inside(network: Pinn): Term {
  const points = network.points(INSIDE, true);
  const { inputs, dValue, dLaplacian } = points;
  return {
    points,
    draw: (random) => inputs.forEach((_, k) => (inputs[k] = 2 * random() - 1)),
    lossAndGradient: () => {
      const { value, laplacian } = points.forward();
      let sum = 0;
      for (let k = 0; k < INSIDE; ++k) {
        const residual = laplacian![k]! + value[k]! - source(inputs[2 * k]!, inputs[2 * k + 1]!);
        sum += residual ** 2;
        dValue[k] = dLaplacian[k] = (2 * residual) / INSIDE;
      }
      points.backward();
      return sum / INSIDE;
    },
  };
}

/** The side on which the coordinate `axis` is `at`. */
function side(network: Pinn, axis: 0 | 1, at: 1 | -1): Term {
  const points = network.points(ON_SIDE, false);
  const { inputs, dValue } = points;
  return {
    points,
    draw: (random) => inputs.forEach((_, k) => (inputs[k] = k % 2 === axis ? at : 2 * random() - 1)),
    lossAndGradient: () => {
      const { value } = points.forward();
      let sum = 0;
      for (let k = 0; k < ON_SIDE; ++k) {
        sum += value[k]! ** 2;
        dValue[k] = (2 * value[k]!) / ON_SIDE;
      }
      points.backward();
      return sum / ON_SIDE;
    },
  };
}

/** The five terms of the problem: the equation inside, then the four sides. */
export function terms(network: Pinn): Term[] {
  return [
    inside(network),
    side(network, 0, -1),
    side(network, 0, 1),
    side(network, 1, -1),
    side(network, 1, 1),
  ];
}

/** ‖u − solution‖₂ / ‖solution‖₂ over the grid. */
export function relativeError(network: Pinn): number {
  const points = network.points(GRID * GRID, false);
  const at = (index: number) => -1 + (2 * index + 1) / GRID;
  points.inputs.forEach((_, k) => {
    const point = k >> 1;
    points.inputs[k] = at(k % 2 === 0 ? point % GRID : Math.floor(point / GRID));
  });
  const { value } = points.forward();
  let [difference, norm] = [0, 0];
  for (let k = 0; k < value.length; ++k) {
    const exact = solution(points.inputs[2 * k]!, points.inputs[2 * k + 1]!);
    difference += (value[k]! - exact) ** 2;
    norm += exact ** 2;
  }
  return Math.sqrt(difference / norm);
}

/**
 * A physics-informed network for the Helmholtz equation, after "Understanding and Mitigating Gradient Flow
 * Pathologies in Physics-Informed Neural Networks" (Wang, Teng and Perdikaris, 2021) with fewer waves.
 */
async function run(arm: Arm, { seed, steps }: Task): Promise<Outcome> {
  const network = new Pinn(HIDDEN, randomFor(1, seed, "parameters"));
  const all = terms(network);
  const trainer = new Trainer(
    arm,
    network.parameters as Float32Array[],
    all.map(({ points }) => points.gradient.flatMap(({ weight, bias }) => [weight, bias])),
    { lr: 3e-3, weights: all.map((_, term) => (term === 0 ? 1 : 10 ** (arm.exponent ?? 0))) },
  );
  const random = randomFor(1, seed, "points");
  for (let step = 0; step < steps; ++step) {
    for (const term of all) {
      term.draw(random);
      term.lossAndGradient();
    }
    trainer.step();
  }
  trainer.dispose();
  return { value: relativeError(network) };
}

export const helmholtz: Experiment = {
  key: "helmholtz",
  measure: "relative L2 error of the solution",
  better: "lower",
  variants: ["five terms"],
  arms: COMMON,
  grid: {
    exponents: [0, 1, 2, 3],
    seeds: [101, 102],
    describe: (exponent) => `1 for the equation, ${10 ** exponent} for each side`,
  },
  seeds: 3,
  steps: 3000,
  logarithmic: true,
  show: (value) => value.toPrecision(2),
  run,
};
