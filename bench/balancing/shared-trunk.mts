import type { Random } from "../../examples/common/random.mjs";
import { backward, dense, forward, zeros, type Dense, type Numbers } from "./dense.mjs";
import type { Gradient } from "./gradient.mjs";

/** Sizes of a network for several tasks. */
export interface Shape {
  inputs: number;
  /** Units of each layer that all tasks share. */
  hidden: readonly number[];
  /** Values that each task predicts. */
  outputs: number;
  tasks: number;
}

/** ReLU layers that all tasks share, then one affine layer per task; gradients by backpropagation. */
export class SharedTrunk {
  readonly trunk: readonly Dense[];
  readonly heads: readonly Dense[];
  readonly #rows: number;
  /** The batch and what the layers of the trunk make of it. */
  readonly #values: Numbers[];
  /** Gradients of all but the batch. */
  readonly #back: readonly Numbers[];
  readonly #prediction: Float64Array;
  readonly #dPrediction: Float64Array;

  /** `rows`: samples in every batch. */
  constructor({ inputs, hidden, outputs, tasks }: Shape, rows: number, random: Random) {
    const sizes = [inputs, ...hidden];
    this.trunk = hidden.map((units, i) => dense(sizes[i]!, units, random));
    this.heads = Array.from({ length: tasks }, () => dense(sizes.at(-1)!, outputs, random));
    this.#rows = rows;
    this.#values = sizes.map((size) => new Float64Array(rows * size));
    this.#back = hidden.map((units) => new Float64Array(rows * units));
    this.#prediction = new Float64Array(rows * outputs);
    this.#dPrediction = new Float64Array(rows * outputs);
  }

  get parameters(): Numbers[] {
    return [...this.trunk, ...this.heads].flatMap(({ weight, bias }) => [weight, bias]);
  }

  /** Buffers for a task's gradient; the other tasks' heads have none. */
  gradientOf(task: number): { layers: Dense[]; byParameter: Gradient } {
    const layers = [...this.trunk, this.heads[task]!].map(zeros);
    const head = layers.at(-1)!;
    const byParameter = [
      ...layers.slice(0, -1),
      ...this.heads.map((_, i) => (i === task ? head : { weight: null, bias: null })),
    ].flatMap(({ weight, bias }) => [weight, bias]);
    return { layers, byParameter };
  }

  /** Takes a batch [rows × inputs] through the trunk. */
  forward(batch: Numbers): void {
    this.#values[0] = batch;
    for (const [i, layer] of this.trunk.entries()) {
      const out = this.#values[i + 1]!;
      forward(layer, this.#values[i]!, out);
      for (let k = 0; k < out.length; ++k) out[k] = Math.max(out[k]!, 0);
    }
  }

  /** Mean squared error of a task against `targets` [rows × outputs]. */
  loss(task: number, targets: Numbers): number {
    forward(this.heads[task]!, this.#values.at(-1)!, this.#prediction);
    return (
      this.#prediction.reduce((sum, value, k) => sum + (value - targets[k]!) ** 2, 0) /
      this.#prediction.length
    );
  }

  /** The gradient of the same into `layers`, as {@link gradientOf} gave them. */
  backward(task: number, targets: Numbers, layers: readonly Dense[]): void {
    for (const { weight, bias } of layers) {
      weight.fill(0);
      bias.fill(0);
    }
    const [prediction, dPrediction, values] = [this.#prediction, this.#dPrediction, this.#values];
    const head = this.heads[task]!;
    forward(head, values.at(-1)!, prediction);
    const factor = 2 / prediction.length;
    for (let k = 0; k < prediction.length; ++k) dPrediction[k] = factor * (prediction[k]! - targets[k]!);
    backward(head, values.at(-1)!, dPrediction, { gradient: layers.at(-1)!, dx: this.#back.at(-1) });
    for (let i = this.trunk.length - 1; i >= 0; --i) {
      const [out, dOut] = [values[i + 1]!, this.#back[i]!];
      for (let k = 0; k < dOut.length; ++k) if (out[k]! <= 0) dOut[k] = 0;
      backward(this.trunk[i]!, values[i]!, dOut, { gradient: layers[i]!, dx: this.#back[i - 1] });
    }
  }

  get rows(): number {
    return this.#rows;
  }
}
