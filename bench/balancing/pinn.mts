import type { Random } from "../../examples/common/random.mjs";
import { backward, dense, forward, zeros, type Dense, type Numbers } from "./dense.mjs";

/** a and b of the second derivative a·u_xx + b·u_yy that an equation needs. */
export type Second = readonly [a: number, b: number];

/** The Laplacian. */
export const LAPLACIAN: Second = [1, 1];

/**
 * The quantities that pass through the network for every point: the value and, if the equation needs them, its first
 * derivatives with respect to x and y and its second derivative.
 */
type Streams = [value: Numbers, byX?: Numbers, byY?: Numbers, second?: Numbers];

/** A network u(x, y) with tanh layers, its derivatives by forward mode and the gradients of all by reverse mode. */
export class Pinn {
  readonly layers: readonly Dense[];
  readonly #sizes: readonly number[];

  constructor(hidden: readonly number[], random: Random) {
    this.#sizes = [2, ...hidden, 1];
    this.layers = this.#sizes.slice(1).map((units, i) => dense(this.#sizes[i]!, units, random));
  }

  get parameters(): Numbers[] {
    return this.layers.flatMap(({ weight, bias }) => [weight, bias]);
  }

  /** Buffers for u and, with `second`, its derivatives in `rows` points. They can be used repeatedly. */
  points(rows: number, second?: Second): Points {
    return new Points(this.layers, this.#sizes, rows, second);
  }
}

/** A set of points that a network is evaluated in: buffers for one forward and one backward pass. */
export class Points {
  /** [rows × 2] the points, x and y. */
  readonly inputs: Float64Array;
  /** [rows] for `backward`: the gradients of the loss by u and by its derivatives. */
  readonly dValue: Float64Array;
  readonly dByX: Float64Array;
  readonly dByY: Float64Array;
  readonly dSecond: Float64Array;
  /** Where `backward` writes the gradient, layer by layer. */
  readonly gradient: readonly { weight: Float32Array; bias: Float32Array }[];
  readonly #layers: readonly Dense[];
  readonly #second: Second;
  /** The inputs of each layer. */
  readonly #in: readonly Streams[];
  /** The outputs of each layer, before tanh. */
  readonly #out: readonly Streams[];
  readonly #dIn: readonly Streams[];
  readonly #dOut: readonly Streams[];

  constructor(layers: readonly Dense[], sizes: readonly number[], rows: number, second?: Second) {
    const streams = (size: number) =>
      Array.from({ length: second ? 4 : 1 }, () => new Float64Array(rows * size)) as Streams;
    this.#layers = layers;
    this.#second = second ?? LAPLACIAN;
    this.#in = sizes.slice(0, -1).map(streams);
    this.#dIn = sizes.slice(0, -1).map(streams);
    this.#out = sizes.slice(1).map(streams);
    this.#dOut = sizes.slice(1).map(streams);
    this.gradient = layers.map(zeros);
    const [inputs, byX, byY] = this.#in[0]!;
    this.inputs = inputs as Float64Array;
    byX?.forEach((_, k) => (byX[k] = k % 2 === 0 ? 1 : 0));
    byY?.forEach((_, k) => (byY[k] = k % 2));
    this.dValue = new Float64Array(rows);
    this.dByX = new Float64Array(rows);
    this.dByY = new Float64Array(rows);
    this.dSecond = new Float64Array(rows);
  }

  /** [rows] u and, with `second`, its derivatives. */
  forward(): { value: Numbers; byX?: Numbers; byY?: Numbers; second?: Numbers } {
    for (const [i, layer] of this.#layers.entries()) {
      if (i > 0) tanhForward(this.#out[i - 1]!, this.#in[i]!, this.#second);
      this.#in[i]!.forEach((stream, s) => forward(layer, stream!, this.#out[i]![s]!, s > 0));
    }
    const [value, byX, byY, second] = this.#out.at(-1)!;
    return byX && byY && second ? { value, byX, byY, second } : { value };
  }

  /** The gradient of a loss whose gradients by u and by its derivatives are `dValue` and so on. */
  backward(): void {
    for (const { weight, bias } of this.gradient) {
      weight.fill(0);
      bias.fill(0);
    }
    const [dValue, dByX, dByY, dSecond] = this.#dOut.at(-1)!;
    dValue.set(this.dValue);
    dByX?.set(this.dByX);
    dByY?.set(this.dByY);
    dSecond?.set(this.dSecond);
    for (let i = this.#layers.length - 1; i >= 0; --i) {
      this.#in[i]!.forEach((stream, s) => {
        const dx = i > 0 ? this.#dIn[i]![s] : undefined;
        const options = { gradient: this.gradient[i]!, dx, isDerivative: s > 0 };
        backward(this.#layers[i]!, stream!, this.#dOut[i]![s]!, options);
      });
      if (i > 0) {
        const [z, t] = [this.#out[i - 1]!, this.#in[i]!];
        tanhBackward(z, t, this.#dIn[i]!, this.#dOut[i - 1]!, this.#second);
      }
    }
  }
}

// With t = tanh z and its slope s = 1 − t²: t's derivatives are s·zₓ and s·z_y, its second derivative Dt = a·t_xx + b·t_yy is
// s·Dz − 2ts·(a·zₓ² + b·z_y²).

function tanhForward([z, zx, zy, zl]: Streams, [t, tx, ty, tl]: Streams, [a, b]: Second): void {
  for (let k = 0; k < z.length; ++k) {
    t[k] = Math.tanh(z[k]!);
    if (!zx) continue;
    const slope = 1 - t[k]! ** 2;
    tx![k] = slope * zx[k]!;
    ty![k] = slope * zy![k]!;
    tl![k] = slope * zl![k]! - 2 * t[k]! * slope * (a * zx[k]! ** 2 + b * zy![k]! ** 2);
  }
}

/** Backpropagates gradients from the streams of tanh to those of z. `t` is the result of `tanhForward` for z. */
function tanhBackward(
  [, zx, zy, zl]: Streams,
  [t]: Streams,
  [dt, dtx, dty, dtl]: Streams,
  [dz, dzx, dzy, dzl]: Streams,
  [a, b]: Second,
): void {
  for (let k = 0; k < t.length; ++k) {
    const slope = 1 - t[k]! ** 2;
    dz[k] = dt[k]! * slope;
    if (!zx) continue;
    const curvature = -2 * t[k]! * slope;
    const squares = a * zx[k]! ** 2 + b * zy![k]! ** 2;
    dz[k]! +=
      curvature * (dtx![k]! * zx[k]! + dty![k]! * zy![k]! + dtl![k]! * zl![k]!) -
      2 * slope * (slope - 2 * t[k]! ** 2) * squares * dtl![k]!;
    dzx![k] = slope * dtx![k]! + 2 * a * curvature * zx[k]! * dtl![k]!;
    dzy![k] = slope * dty![k]! + 2 * b * curvature * zy![k]! * dtl![k]!;
    dzl![k] = slope * dtl![k]!;
  }
}
