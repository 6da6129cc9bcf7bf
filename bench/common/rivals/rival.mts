import type { Random } from "../../../examples/common/random.mjs";
import type { Gradient } from "../gradient.mjs";

/** The inputs of a method in one step. */
export interface StepView {
  /** By term, then by parameter; null where the term does not reach it. */
  gradients: readonly Gradient[];
  /** The losses of the terms on the batch of the step. */
  losses: readonly number[];
  /** The learning rate of the step. */
  lr: number;
}

/** A method that combines the terms' gradients into one gradient for Adam. */
export interface Combiner {
  /** Writes the gradient by parameter to `sum`. */
  combine(step: StepView, sum: readonly Float32Array[]): void;
  /** For methods that use the losses on the same batch after the step. */
  look?(losses: readonly number[]): void;
}

/** What a training starts with. */
export interface Start {
  terms: number;
  /** Whether several terms reach a parameter. */
  shared: readonly boolean[];
  random: Random;
}

/** A method to compare with. */
export type Rival =
  | { kind: "combine"; start: (start: Start) => Combiner }
  /** A separate Adam for each term; the step is the sum or the mean of their steps. */
  | { kind: "own denominators"; of: "sum" | "mean"; betas?: readonly [number, number] };
