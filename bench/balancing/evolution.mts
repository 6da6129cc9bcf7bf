import { randomFor, type Random } from "../../examples/common/random.mjs";
import { ARMS_OF_PINNS } from "./arms.mjs";
import { ratesAround, type Experiment } from "../common/experiment.mjs";
import { Pinn } from "./pinn.mjs";
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
import { USUAL, training } from "./problem.mjs";
import { alsoWithWrongWeights } from "./wrong-weights.mjs";

/** An equation for u(x, t), x from −1 to 1 and t from 0 to 1; t takes the place of y. */
export interface Evolution {
  /** The name of the results, and the prefix of the random streams' names. */
  key: string;
  residual: (at: Local) => Residual;
  solution: (x: number, t: number) => number;
  /** The terms of the ends by their names: the x of each term's points. */
  ends: Readonly<Record<string, (random: Random) => number>>;
}

/** The terms of the problem: the equation, the initial state, the ends. */
export function termsOf({ residual, solution, ends }: Evolution, network: Pinn): Term[] {
  return [
    equation(network, {
      rows: INSIDE,
      second: [1, 0],
      draw: (random) => [2 * random() - 1, random()],
      residual,
    }),
    condition(network, { rows: ON_SIDE, draw: (random) => [2 * random() - 1, 0], target: solution }),
    ...Object.values(ends).map((x) =>
      condition(network, { rows: ON_SIDE, draw: (random) => [x(random), random()], target: solution }),
    ),
  ];
}

export function evolution(own: Evolution): Experiment {
  return alsoWithWrongWeights({
    ...USUAL,
    key: own.key,
    measure: "relative L2 error of the solution",
    arms: ARMS_OF_PINNS,
    terms: ["equation", "initial state", ...Object.keys(own.ends)],
    grid: {
      exponents: [0, 1, 2],
      describe: (exponent) => `1 for the equation, ${10 ** exponent} for each condition`,
    },
    rates: ratesAround(3e-3),
    seeds: 10,
    steps: 3000,
    run: training((seed) => {
      const network = new Pinn(HIDDEN, randomFor(1, seed, `${own.key} parameters`));
      const random = randomFor(1, seed, `${own.key} points`);
      const error = (): number => relativeError(network, 0, own.solution);
      return new PinnProblem(network, termsOf(own, network), random, error);
    }),
  });
}
