import type { Random } from "../../../examples/common/random.mjs";
import type { Gradient } from "../gradient.mjs";

/** One step, as a method sees it. */
export interface StepView {
  /** By term, then by parameter; null where the term does not reach it. */
  gradients: readonly Gradient[];
  /** Of the terms, on the batch of the step. */
  losses: readonly number[];
  /** The learning rate of the step. */
  lr: number;
}

/** A method that makes one gradient of the terms' gradients, for Adam. */
export interface Combiner {
  /** Writes the gradient by parameter to `sum`. */
  combine(step: StepView, sum: readonly Float32Array[]): void;
  /** For those who look at the losses once more after the step, on the same batch. */
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
  /** Adam for each term by itself; the step is the sum of theirs, or the mean. */
  | { kind: "own denominators"; of: "sum" | "mean"; betas?: readonly [number, number] };
