import type { Random } from "../../examples/common/random.mjs";
import { zeros, type Dense, type Numbers } from "./dense.mjs";
import type { Gradient } from "../common/gradient.mjs";
import { Stack, clear, tensors } from "./stack.mjs";

/** Sizes of a network for several tasks. */
export interface Shape {
  inputs: number;
  /** Units of each layer that all tasks share. */
  hidden: readonly number[];
  /** Values that each task predicts. */
  outputs: readonly number[];
}

/** ReLU layers that all tasks share, then one affine layer per task; gradients by backpropagation. */
export class SharedTrunk {
  readonly #trunk: Stack;
  readonly #heads: readonly Stack[];
  /** The gradient with respect to the trunk's output. */
  readonly #dShared: Float64Array;
  #shared: Numbers;

  /** `rows`: samples in every batch. */
  constructor({ inputs, hidden, outputs }: Shape, rows: number, random: Random) {
    const width = hidden.at(-1)!;
    this.#trunk = new Stack([inputs, ...hidden], rows, random, { lastRelu: true });
    this.#heads = outputs.map((size) => new Stack([width, size], rows, random));
    this.#shared = new Float64Array(rows * width);
    this.#dShared = new Float64Array(rows * width);
  }

  /** The layers of the trunk, then those of the heads. */
  get layers(): readonly Dense[] {
    return [...this.#trunk.layers, ...this.#heads.flatMap(({ layers }) => layers)];
  }

  /** Buffers for a task's gradient; the other tasks' heads have none. */
  gradientOf(task: number): { layers: Dense[]; byParameter: Gradient } {
    const layers = [...this.#trunk.layers, ...this.#heads[task]!.layers].map(zeros);
    const head = layers.at(-1)!;
    const byParameter = [
      ...layers.slice(0, -1),
      ...this.#heads.map((_, i) => (i === task ? head : { weight: null, bias: null })),
    ].flatMap(({ weight, bias }) => [weight, bias]);
    return { layers, byParameter: byParameter };
  }

  /** Runs a batch [rows × inputs] through the trunk. */
  forward(batch: Numbers): void {
    this.#shared = this.#trunk.forward(batch);
  }

  /** [rows × outputs] of a task, for the batch. */
  predict(task: number): Numbers {
    return this.#heads[task]!.forward(this.#shared);
  }

  /**
   * Writes the gradient of a task's loss to `layers`, the result of {@link gradientOf}. `dPrediction` is the gradient
   * with respect to the result of {@link predict}.
   */
  backward(task: number, dPrediction: Numbers, layers: readonly Dense[]): void {
    clear(layers);
    this.#heads[task]!.backward(dPrediction, layers.slice(-1), this.#dShared);
    this.#trunk.backward(this.#dShared, layers.slice(0, -1));
  }

  get parameters(): Numbers[] {
    return tensors(this.layers);
  }
}
