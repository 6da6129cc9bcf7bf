/** Weights as the terms were given: by name, or in order where `terms` is their number. */
export type WeightsOf<T extends number | readonly string[]> = T extends readonly (infer Name extends string)[]
  ? Record<Name, number>
  : number[];

/** Lets a training continue where the last one with the same weights stopped. One object per combination. */
export interface Resume<State = unknown> {
  /** Steps of that last training: 0 the first time. */
  readonly steps: number;
  /** A name for the combination, fit for a file and the same in every process. */
  readonly key: string;
  /**
   * Yours: kept until the combination is out of the search. Undefined the first time, and the first time after an
   * interrupted search is resumed.
   */
  state: State | undefined;
}

/**
 * Trains with these weights until `steps` steps have been taken in all, and returns the figure to minimise. NaN and the
 * infinities count as the worst figure.
 *
 * A training may start anew, or continue from `resume` with the remaining `steps - resume.steps` steps.
 */
export type Train<T extends number | readonly string[] = number | readonly string[], State = unknown> = (
  weights: WeightsOf<T>,
  steps: number,
  context: { resume: Resume<State> },
) => number | Promise<number>;

/** One training. */
export interface TuningRow<T extends number | readonly string[] = number | readonly string[]> {
  weights: WeightsOf<T>;
  /** The total number of its steps. */
  steps: number;
  /** What `train` returned. */
  loss: number;
  /** How many halvings its bracket has: Hyperband's s. */
  bracket: number;
  /** From 0 to `bracket`. */
  rung: number;
}

/** How far a search is. */
export interface TuningProgress<T extends number | readonly string[] = number | readonly string[]> {
  /** Steps of the search so far, counted as if each training started anew; `total` at the end. */
  steps: number;
  total: number;
  /** The trainings so far. */
  table: readonly TuningRow<T>[];
}

export interface TuneOptions<T extends number | readonly string[] = number | readonly string[]> {
  /** The names of the loss terms, or their number. */
  terms: T;
  /** The weights that a term may have: 1 to 32 of them, finite and above 0; default [0.1, 1, 10]. */
  values?: readonly number[] | undefined;
  /**
   * The most optimizer steps that all trainings take together, counted as if each started anew; at least `steps`. Default:
   * 12 full trainings.
   */
  budget?: number | undefined;
  /** Steps of a full training. Default: a twelfth of the budget; 1000 without one. */
  steps?: number | undefined;
  /** Decides which combinations are tried if not all can be; a whole number of at least 0, default 0. */
  seed?: number | undefined;
  /** Called after every training; the search waits for a promise. If it throws or rejects, so does the search. */
  onProgress?: ((progress: TuningProgress<T>) => unknown) | undefined;
  /** The table of a search that was interrupted, also from JSON. Its trainings are not repeated. */
  resume?: readonly { weights: WeightsOf<T>; steps: number; loss: number | null }[] | undefined;
}

export interface TuningResult<T extends number | readonly string[] = number | readonly string[]> {
  /** Those with the smallest loss among the longest trainings whose loss is finite; equal weights if there is none. */
  weights: WeightsOf<T>;
  /** Every training, in the order in which they were done. */
  table: TuningRow<T>[];
}
