import type { StreamLike } from "./memory/stream";
import type { Weights } from "./options";

/** Options of one replay of a captured step. */
export type ReplayOptions = Omit<StepOptions, "stream">;

/** Options of one call. They hold for that call alone. */
export interface StepOptions {
  /** In place of the optimizer's weights; in `accumulate`, the entry of its term counts. */
  weights?: Weights;
  /** What the losses were multiplied by; it is divided out of the gradients. Default 1. */
  gradientScale?: number;
  /**
   * Where the call is enqueued; null: the device's default stream. Calls of one optimizer follow each other whatever
   * streams they come on; that the gradients are there by then is the caller's to order. On the CPU there are no
   * streams.
   */
  stream?: StreamLike | null;
}
