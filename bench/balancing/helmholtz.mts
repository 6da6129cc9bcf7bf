import { randomFor } from "../../examples/common/random.mjs";
import { ADAM_AND_BALANCED } from "./arms.mjs";
import { COMMON, ratesAround, type Experiment } from "../common/experiment.mjs";
import { LAPLACIAN, Pinn } from "./pinn.mjs";
import {
  HIDDEN,
  INSIDE,
  ON_SIDE,
  PinnProblem,
  condition,
  equation,
  relativeError,
  type Local,
  type Residual,
  type Term,
} from "./pinn-terms.mjs";
import { USUAL, train, training } from "./problem.mjs";
import { alsoWithWrongWeights } from "./wrong-weights.mjs";

const { PI, sin } = Math;

/**
 * The solution of Δu + u = q on [−1, 1]² with u = 0 on the sides; the more often it changes sign, the harder the
 * problem.
 */
export const solution = (x: number, y: number): number => sin(PI * x) * sin(2 * PI * y);
const source = (x: number, y: number) => (1 - 5 * PI ** 2) * solution(x, y);

export function residual({ x, y, u, second }: Local): Residual {
  return { value: second + u - source(x, y), byU: 1, byUx: 0, byUy: 0, bySecond: 1 };
}

/** The five terms of the problem: the equation inside, then the four sides. */
export function terms(network: Pinn): Term[] {
  const side = (axis: 0 | 1, at: 1 | -1) =>
    condition(network, {
      rows: ON_SIDE,
      draw: (random) => {
        const along = 2 * random() - 1;
        return axis === 0 ? [at, along] : [along, at];
      },
      target: () => 0,
    });
  return [
    equation(network, {
      rows: INSIDE,
      second: LAPLACIAN,
      draw: (random) => [2 * random() - 1, 2 * random() - 1],
      residual,
    }),
    side(0, -1),
    side(0, 1),
    side(1, -1),
    side(1, 1),
  ];
}

/**
 * A physics-informed network for the Helmholtz equation, after "Understanding and Mitigating Gradient Flow
 * Pathologies in Physics-Informed Neural Networks" (Wang, Teng and Perdikaris, 2021) with fewer waves.
 */
function problem(seed: number): PinnProblem {
  const network = new Pinn(HIDDEN, randomFor(1, seed, "parameters"));
  const random = randomFor(1, seed, "points");
  return new PinnProblem(network, terms(network), random, () => relativeError(network, -1, solution));
}

const COMPARED = {
  ...USUAL,
  measure: "relative L2 error of the solution",
  grid: {
    exponents: [0, 1, 2, 3],
    describe: (exponent: number) => `1 for the equation, ${10 ** exponent} for each side`,
  },
  steps: 3000,
} as const;

export const helmholtz: Experiment = {
  ...COMPARED,
  key: "helmholtz",
  variants: ["five terms"],
  arms: COMMON,
  seeds: 3,
  run: async (arm, task) => train(problem(task.seed), arm, task, 3e-3),
};

/** The same with a search for the learning rates. */
export const helmholtzRates: Experiment = alsoWithWrongWeights({
  ...COMPARED,
  key: "helmholtz-rates",
  arms: ADAM_AND_BALANCED,
  terms: ["equation", "left side", "right side", "lower side", "upper side"],
  rates: ratesAround(3e-3),
  seeds: 5,
  run: training(problem),
});
