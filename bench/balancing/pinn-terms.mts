import type { Random } from "../../examples/common/random.mjs";
import type { Outcome } from "../common/experiment.mjs";
import type { Pinn, Points, Second } from "./pinn.mjs";
import type { Problem } from "./problem.mjs";

/** The hidden layers of the network that solves an equation. */
export const HIDDEN: readonly number[] = [32, 32];
/** The points of a batch: inside the domain, and for each condition. */
export const INSIDE = 128;
export const ON_SIDE = 32;

/** A loss term: the mean square of a residual in random points. Its gradient is in the points' buffers. */
export interface Term {
  points: Points;
  /** New random points. */
  draw(random: Random): void;
  lossAndGradient(): number;
}

/** A point of the domain. */
export type Draw = (random: Random) => readonly [x: number, y: number];

/** u and its derivatives in a point. */
export interface Local {
  x: number;
  y: number;
  u: number;
  ux: number;
  uy: number;
  /** The second derivative in the equation. */
  second: number;
}

/** The residual of an equation and its derivatives with respect to u, ux, uy and the second derivative. */
export interface Residual {
  value: number;
  byU: number;
  byUx: number;
  byUy: number;
  bySecond: number;
}

/** The term of the equation, in `rows` points inside the domain. */
export function equation(
  network: Pinn,
  {
    rows,
    second,
    draw,
    residual,
  }: { rows: number; second: Second; draw: Draw; residual: (at: Local) => Residual },
): Term {
  const points = network.points(rows, second);
  const { inputs, dValue, dByX, dByY, dSecond } = points;
  return {
    points,
    draw: (random) => drawInto(inputs, draw, random),
    lossAndGradient: () => {
      const out = points.forward();
      let sum = 0;
      for (let k = 0; k < rows; ++k) {
        const { value, byU, byUx, byUy, bySecond } = residual({
          x: inputs[2 * k]!,
          y: inputs[2 * k + 1]!,
          u: out.value[k]!,
          ux: out.byX![k]!,
          uy: out.byY![k]!,
          second: out.second![k]!,
        });
        sum += value ** 2;
        const factor = (2 * value) / rows;
        dValue[k] = factor * byU;
        dByX[k] = factor * byUx;
        dByY[k] = factor * byUy;
        dSecond[k] = factor * bySecond;
      }
      points.backward();
      return sum / rows;
    },
  };
}

/** The term of a condition u = `target` in `rows` points, for example on a side of the domain. */
export function condition(
  network: Pinn,
  { rows, draw, target }: { rows: number; draw: Draw; target: (x: number, y: number) => number },
): Term {
  const points = network.points(rows);
  const { inputs, dValue } = points;
  return {
    points,
    draw: (random) => drawInto(inputs, draw, random),
    lossAndGradient: () => {
      const { value } = points.forward();
      let sum = 0;
      for (let k = 0; k < rows; ++k) {
        const difference = value[k]! - target(inputs[2 * k]!, inputs[2 * k + 1]!);
        sum += difference ** 2;
        dValue[k] = (2 * difference) / rows;
      }
      points.backward();
      return sum / rows;
    },
  };
}

function drawInto(inputs: Float64Array, draw: Draw, random: Random): void {
  for (let k = 0; k < inputs.length; k += 2) inputs.set(draw(random), k);
}

/** The error is computed on a grid with this many points per side. */
const GRID = 50;

/** ‖u − solution‖₂ / ‖solution‖₂ over a grid in the domain x from −1 to 1, y from `low` to 1. */
export function relativeError(
  network: Pinn,
  low: number,
  solution: (x: number, y: number) => number,
): number {
  const points = network.points(GRID * GRID);
  const middle = (index: number, from: number) => from + ((1 - from) * (2 * index + 1)) / (2 * GRID);
  for (let k = 0; k < GRID * GRID; ++k) {
    points.inputs.set([middle(k % GRID, -1), middle(Math.floor(k / GRID), low)], 2 * k);
  }
  const { value } = points.forward();
  let [difference, norm] = [0, 0];
  for (let k = 0; k < value.length; ++k) {
    const exact = solution(points.inputs[2 * k]!, points.inputs[2 * k + 1]!);
    difference += (value[k]! - exact) ** 2;
    norm += exact ** 2;
  }
  return Math.sqrt(difference / norm);
}

/** A differential equation as a training problem: the equation first, then conditions. */
export class PinnProblem implements Problem {
  readonly parameters: readonly Float32Array[];
  readonly gradients: readonly Float32Array[][];
  readonly #terms: readonly Term[];
  readonly #random: Random;
  readonly #error: () => number;

  constructor(network: Pinn, terms: readonly Term[], random: Random, error: () => number) {
    this.parameters = network.parameters as Float32Array[];
    this.gradients = terms.map(({ points }) => points.gradient.flatMap(({ weight, bias }) => [weight, bias]));
    this.#terms = terms;
    this.#random = random;
    this.#error = error;
  }

  draw(): void {
    for (const term of this.#terms) term.draw(this.#random);
  }

  backward(): number[] {
    return this.#terms.map((term) => term.lossAndGradient());
  }

  /** 1 for the equation, 10 to the power of the exponent for each condition. */
  weights(exponent: number): readonly number[] {
    return this.#terms.map((_, term) => (term === 0 ? 1 : 10 ** exponent));
  }

  outcome(): Outcome {
    return { value: this.#error() };
  }
}
