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

const { PI, exp, sin } = Math;

/** u_t = c·u_xx for x from −1 to 1 (here y is the time, from 0 to 1): a slow wave and a fast one, which dies out. */
const CONDUCTIVITY = 0.1;

function wave(waves: number, x: number, t: number): number {
  return exp(-CONDUCTIVITY * (waves * PI) ** 2 * t) * sin(waves * PI * x);
}

export function solution(x: number, t: number): number {
  return wave(1, x, t) + wave(3, x, t) / 2;
}

export function residual({ uy, second }: Local): Residual {
  return { value: uy - CONDUCTIVITY * second, byU: 0, byUx: 0, byUy: 1, bySecond: -CONDUCTIVITY };
}

/** The four terms of the problem: the equation, the initial state, the two ends. */
export function terms(network: Pinn): Term[] {
  const end = (x: 1 | -1) =>
    condition(network, { rows: ON_SIDE, draw: (random) => [x, random()], target: solution });
  return [
    equation(network, {
      rows: INSIDE,
      second: [1, 0],
      draw: (random) => [2 * random() - 1, random()],
      residual,
    }),
    condition(network, { rows: ON_SIDE, draw: (random) => [2 * random() - 1, 0], target: solution }),
    end(-1),
    end(1),
  ];
}

export function problem(seed: number): PinnProblem {
  const network = new Pinn(HIDDEN, randomFor(1, seed, "heat parameters"));
  const random = randomFor(1, seed, "heat points");
  return new PinnProblem(network, terms(network), random, () => relativeError(network, 0, solution));
}

export const heat: Experiment = {
  key: "heat",
  measure: "relative L2 error of the solution",
  better: "lower",
  variants: VARIANTS,
  arms: ARMS_OF_PINNS,
  terms: ["equation", "initial state", "left end", "right end"],
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
