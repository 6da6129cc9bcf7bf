import type { Random } from "../../examples/common/random.mjs";
import { backward, dense, forward, zeros, type Dense, type Numbers } from "./dense.mjs";

/**
 * What goes through the network for every point: the value; and where the equation needs them, its first
 * derivatives by x and y and its Laplacian.
 */
type Streams = [value: Numbers, byX?: Numbers, byY?: Numbers, laplacian?: Numbers];

/** A network u(x, y) with tanh layers, its Laplacian by forward mode and the gradients of both by reverse mode. */
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

  /** u, and its Laplacian, in the same `rows` points again and again. */
  points(rows: number, withLaplacian: boolean): Points {
    return new Points(this.layers, this.#sizes, rows, withLaplacian);
  }
}

/** A set of points that a network is evaluated in: buffers for one way forward and back. */
export class Points {
  /** [rows × 2] the points, x and y. */
  readonly inputs: Float64Array;
  /** [rows] for `backward`: the gradients of the loss by u and by its Laplacian. */
  readonly dValue: Float64Array;
  readonly dLaplacian: Float64Array;
  /** Where `backward` writes the gradient, layer by layer. */
  readonly gradient: readonly { weight: Float32Array; bias: Float32Array }[];
  readonly #layers: readonly Dense[];
  /** What comes into each layer. */
  readonly #in: readonly Streams[];
  /** What comes out of each layer, before tanh. */
  readonly #out: readonly Streams[];
  readonly #dIn: readonly Streams[];
  readonly #dOut: readonly Streams[];

  constructor(layers: readonly Dense[], sizes: readonly number[], rows: number, withLaplacian: boolean) {
    const streams = (size: number) =>
      Array.from({ length: withLaplacian ? 4 : 1 }, () => new Float64Array(rows * size)) as Streams;
    this.#layers = layers;
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
    this.dLaplacian = new Float64Array(rows);
  }

  /** [rows] u, and its Laplacian if it was asked for. */
  forward(): { value: Numbers; laplacian: Numbers | undefined } {
    for (const [i, layer] of this.#layers.entries()) {
      if (i > 0) tanhForward(this.#out[i - 1]!, this.#in[i]!);
      this.#in[i]!.forEach((stream, s) => forward(layer, stream!, this.#out[i]![s]!, s > 0));
    }
    const [value, , , laplacian] = this.#out.at(-1)!;
    return { value, laplacian };
  }

  /** The gradient of a loss whose gradients by u and by its Laplacian are `dValue` and `dLaplacian`. */
  backward(): void {
    for (const { weight, bias } of this.gradient) {
      weight.fill(0);
      bias.fill(0);
    }
    const [dValue, , , dLaplacian] = this.#dOut.at(-1)!;
    dValue.set(this.dValue);
    dLaplacian?.set(this.dLaplacian);
    for (let i = this.#layers.length - 1; i >= 0; --i) {
      this.#in[i]!.forEach((stream, s) => {
        const dx = i > 0 ? this.#dIn[i]![s] : undefined;
        const options = { gradient: this.gradient[i]!, dx, isDerivative: s > 0 };
        backward(this.#layers[i]!, stream!, this.#dOut[i]![s]!, options);
      });
      if (i > 0) tanhBackward(this.#out[i - 1]!, this.#in[i]!, this.#dIn[i]!, this.#dOut[i - 1]!);
    }
  }
}

// With t = tanh z and its slope s = 1 − t²: t's derivatives are s·zₓ and s·z_y, its Laplacian is
// s·Δz − 2ts·(zₓ² + z_y²).

function tanhForward([z, zx, zy, zl]: Streams, [t, tx, ty, tl]: Streams): void {
  for (let k = 0; k < z.length; ++k) {
    t[k] = Math.tanh(z[k]!);
    if (!zx) continue;
    const slope = 1 - t[k]! ** 2;
    tx![k] = slope * zx[k]!;
    ty![k] = slope * zy![k]!;
    tl![k] = slope * zl![k]! - 2 * t[k]! * slope * (zx[k]! ** 2 + zy![k]! ** 2);
  }
}

/** From the gradients by tanh's streams to those by z's. `t` is what `tanhForward` made of z. */
function tanhBackward(
  [, zx, zy, zl]: Streams,
  [t]: Streams,
  [dt, dtx, dty, dtl]: Streams,
  [dz, dzx, dzy, dzl]: Streams,
): void {
  for (let k = 0; k < t.length; ++k) {
    const slope = 1 - t[k]! ** 2;
    dz[k] = dt[k]! * slope;
    if (!zx) continue;
    const curvature = -2 * t[k]! * slope;
    const squares = zx[k]! ** 2 + zy![k]! ** 2;
    dz[k]! +=
      curvature * (dtx![k]! * zx[k]! + dty![k]! * zy![k]! + dtl![k]! * zl![k]!) -
      2 * slope * (slope - 2 * t[k]! ** 2) * squares * dtl![k]!;
    dzx![k] = slope * dtx![k]! + 2 * curvature * zx[k]! * dtl![k]!;
    dzy![k] = slope * dty![k]! + 2 * curvature * zy![k]! * dtl![k]!;
    dzl![k] = slope * dtl![k]!;
  }
}
