import { randomFor } from "../../examples/common/random.mjs";
import { ARMS_OF_PINNS } from "./arms.mjs";
import type { Experiment } from "./experiment.mjs";
import { Pinn } from "./pinn.mjs";
import {
  PinnProblem,
  condition,
  equation,
  relativeError,
  type Local,
  type Residual,
  type Term,
} from "./pinn-terms.mjs";
import { VARIANTS, ratesAround, training } from "./problem.mjs";

const HIDDEN = [32, 32];
/** The points of a batch: inside the domain, and for each condition. */
const INSIDE = 128;
const ON_SIDE = 32;

/** u_t + u·u_x = ν·u_xx for x from −1 to 1 (here y is the time, from 0 to 1). */
const VISCOSITY = 0.03;

/** A front that travels to the right at half the speed of its crest. */
export function solution(x: number, t: number): number {
  return 1 / (1 + Math.exp((x - t / 2) / (2 * VISCOSITY)));
}

export function residual({ u, ux, uy, second }: Local): Residual {
  return { value: uy + u * ux - VISCOSITY * second, byU: ux, byUx: u, byUy: 1, bySecond: -VISCOSITY };
}

/** The three terms of the problem: the equation, the initial state, both ends together. */
export function terms(network: Pinn): Term[] {
  return [
    equation(network, {
      rows: INSIDE,
      second: [1, 0],
      draw: (random) => [2 * random() - 1, random()],
      residual,
    }),
    condition(network, { rows: ON_SIDE, draw: (random) => [2 * random() - 1, 0], target: solution }),
    condition(network, {
      rows: ON_SIDE,
      draw: (random) => [random() < 0.5 ? -1 : 1, random()],
      target: solution,
    }),
  ];
}

export function problem(seed: number): PinnProblem {
  const network = new Pinn(HIDDEN, randomFor(1, seed, "burgers parameters"));
  const random = randomFor(1, seed, "burgers points");
  return new PinnProblem(network, terms(network), random, () => relativeError(network, 0, solution));
}

export const burgers: Experiment = {
  key: "burgers",
  measure: "relative L2 error of the solution",
  better: "lower",
  variants: VARIANTS,
  arms: ARMS_OF_PINNS,
  terms: ["equation", "initial state", "ends"],
  grid: {
    exponents: [0, 1, 2],
    describe: (exponent) => `1 for the equation, ${10 ** exponent} for each condition`,
  },
  rates: ratesAround(3e-3),
  tuningSeeds: [101, 102],
  seeds: 10,
  steps: 3000,
  logarithmic: true,
  show: (value) => value.toPrecision(2),
  run: training(problem),
};
