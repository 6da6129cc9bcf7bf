import type { Random } from "../../examples/common/random.mjs";
import { backward, dense, forward, type Dense, type Numbers } from "./dense.mjs";

/** Affine layers with a ReLU between each two, and after the last if asked for; gradients by backpropagation. */
export class Stack {
  readonly layers: readonly Dense[];
  /** The input of the first layer, then the output of each layer. */
  readonly #values: Numbers[];
  /** The gradients with respect to the inputs of all layers but the first. */
  readonly #back: readonly Float64Array[];
  readonly #lastRelu: boolean;

  /** `sizes`: of the input, then of each layer. `rows`: samples in every batch. */
  constructor(
    sizes: readonly number[],
    rows: number,
    random: Random,
    { lastRelu = false }: { lastRelu?: boolean } = {},
  ) {
    this.layers = sizes.slice(1).map((units, i) => dense(sizes[i]!, units, random));
    this.#values = sizes.map((size) => new Float64Array(rows * size));
    this.#back = sizes.slice(1, -1).map((size) => new Float64Array(rows * size));
    this.#lastRelu = lastRelu;
  }

  /** [rows × outputs] for a batch [rows × inputs]; valid until the next call. */
  forward(batch: Numbers): Numbers {
    this.#values[0] = batch;
    for (const [i, layer] of this.layers.entries()) {
      const out = this.#values[i + 1]!;
      forward(layer, this.#values[i]!, out);
      if (this.#hasRelu(i)) for (let k = 0; k < out.length; ++k) out[k] = Math.max(out[k]!, 0);
    }
    return this.#values.at(-1)!;
  }

  /**
   * Backpropagates `dOut`, the gradient of a loss with respect to the result of `forward`, and overwrites it: adds the
   * gradient of the layers to `gradient` and writes the gradient of the batch to `dBatch`.
   */
  backward(dOut: Numbers, gradient: readonly Dense[], dBatch?: Numbers): void {
    let d = dOut;
    for (let i = this.layers.length - 1; i >= 0; --i) {
      if (this.#hasRelu(i)) {
        const out = this.#values[i + 1]!;
        for (let k = 0; k < d.length; ++k) if (out[k]! <= 0) d[k] = 0;
      }
      const dx = i > 0 ? this.#back[i - 1]! : dBatch;
      backward(this.layers[i]!, this.#values[i]!, d, { gradient: gradient[i]!, dx });
      if (dx) d = dx;
    }
  }

  #hasRelu(layer: number): boolean {
    return this.#lastRelu || layer < this.layers.length - 1;
  }
}

/** Sets all values of the layers' gradient to 0. */
export function clear(gradient: readonly Dense[]): void {
  for (const { weight, bias } of gradient) {
    weight.fill(0);
    bias.fill(0);
  }
}

/** Weight and bias of each layer. */
export function tensors(layers: readonly Dense[]): Numbers[] {
  return layers.flatMap(({ weight, bias }) => [weight, bias]);
}
