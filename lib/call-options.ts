import type { NativeStream } from "./addon/native";
import { checkBoolean, checkKeys } from "./arguments";
import { mustBe } from "./errors";
import { checkStream, type StreamLike } from "./memory/stream";
import { checkGradientScale, checkWeights, type Weights } from "./options";
import type { Names } from "./per-name";

/** Options of one call. They apply to that call alone. */
export interface StepOptions<Term extends string = string> {
  /** Replaces the optimizer's weights; `accumulate` uses the entry of its term. */
  weights?: Weights<Term> | undefined;
  /** The factor by which the losses were multiplied; gradients are divided by it. Default 1. */
  gradientScale?: number | undefined;
  /**
   * With `distributed`: whether the gradients are equal on all ranks already, as after an all-reduce of your own. Then they
   * are divided by `gradientScale` alone. Default: this call adds them up and takes the mean.
   */
  reduced?: boolean | undefined;
  /**
   * The stream to enqueue the call on; null: the device's default stream. Calls of one optimizer run in order, also on
   * different streams. The caller must order the call after the work that writes its gradients. The CPU has no streams.
   */
  stream?: StreamLike | null | undefined;
}

/** Options of one replay of a captured step. */
export type ReplayOptions<Term extends string = string> = Omit<StepOptions<Term>, "stream" | "reduced">;

/** The options of one call, checked. */
export interface CallValues {
  readonly weights: readonly number[];
  /** σ, also of the sum over the ranks. */
  readonly gradientScale: number;
  readonly reduced: boolean;
  readonly stream: NativeStream;
}

/** Options of one parameter group in one step, resolved to numbers. */
export interface GroupValues {
  lr: number;
  betas: readonly [number, number, number];
  eps: number;
  weightDecay: number;
  decoupledWeightDecay: boolean;
  maximize: boolean;
}

/** Reads the options of an optimizer's calls. */
export class CallOptions {
  /** The stream of calls without one. */
  readonly stream: NativeStream;
  /** Keeps the stream's owner alive until another stream is given. */
  streamOwner: unknown;

  /** R; undefined without `distributed`. */
  readonly #ranks: number | undefined;

  /** @throws MTAdamError OPTION */
  constructor(stream: unknown, ranks?: number) {
    this.stream = checkStream(stream);
    this.#ranks = ranks;
    this.streamOwner = stream;
  }

  /**
   * @param weights the weights of calls without the option
   * @throws MTAdamError OPTION, LENGTH, TERM
   */
  read(options: unknown, terms: Names, weights: readonly number[]): CallValues {
    const keys = ["weights", "gradientScale", "reduced", "stream"];
    const given = checkKeys<StepOptions>("options", options, keys);
    const stream = this.#readStream(given.stream);
    const own = given.weights === undefined ? weights : checkWeights(given.weights, terms, weights);
    const reduced = this.#readReduced(given.reduced);
    const scale = checkGradientScale(given.gradientScale, own);
    if (this.#ranks === undefined || reduced) return { stream, weights: own, reduced, gradientScale: scale };
    // The gradients of the ranks are summed.
    return { stream, weights: own, reduced, gradientScale: checkGradientScale(scale * this.#ranks, own) };
  }

  /** Reads the options of a call whose only option is `stream`. @throws MTAdamError OPTION */
  readStream(options: unknown): NativeStream {
    return this.#readStream(checkKeys<StepOptions>("options", options, ["stream"]).stream);
  }

  #readReduced(value: unknown): boolean {
    if (value === undefined) return false;
    const reduced = checkBoolean("reduced", value);
    if (this.#ranks === undefined)
      throw mustBe("OPTION", "reduced", "be left out without `distributed`", value);
    return reduced;
  }

  #readStream(stream: unknown): NativeStream {
    if (stream === undefined) return this.stream;
    this.streamOwner = stream;
    return checkStream(stream);
  }
}

const GROUP_VALUES = 8;

/** How many values {@link packValues} writes. */
export function valuesLength(terms: number, groups: number): number {
  return 1 + terms + groups * GROUP_VALUES;
}

/** The options of one call in the order in which native code reads them: gradientScale, weights, each group. */
export function packValues(
  into: Float64Array,
  { gradientScale, weights }: CallValues,
  groups: readonly GroupValues[],
): void {
  into[0] = gradientScale;
  into.set(weights, 1);
  let at = 1 + weights.length;
  for (const group of groups) {
    into[at] = group.lr;
    into.set(group.betas, at + 1);
    into[at + 4] = group.eps;
    into[at + 5] = group.weightDecay;
    into[at + 6] = group.decoupledWeightDecay ? 1 : 0;
    into[at + 7] = group.maximize ? 1 : 0;
    at += GROUP_VALUES;
  }
}
