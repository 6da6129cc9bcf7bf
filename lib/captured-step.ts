import type { NativeCapturedStep } from "./addon/native";
import type { ReplayOptions } from "./call-options";
import { MTAdamError } from "./errors";
import { checkReceivers } from "./receiver";
import { makeUncloneable } from "./uncloneable";

/** Private to the package, so that no other code can construct the class below. */
export const capturedKey = Symbol("CapturedStep");

/**
 * A step as a CUDA graph, made by `optimizer.captureStep()`. Every replay reads the same gradient addresses and has the
 * same terms present. A replay is one launch, however large the model is.
 */
export class CapturedStep<Term extends string = string> {
  #native: NativeCapturedStep | undefined;
  readonly #replay: (step: NativeCapturedStep, options: ReplayOptions | undefined) => void;

  static {
    const isCaptured = (value: unknown): boolean =>
      typeof value === "object" && value !== null && #replay in value;
    checkReceivers("a CapturedStep", this.prototype, isCaptured);
  }

  /** @internal */
  constructor(
    key: symbol,
    step: NativeCapturedStep,
    replay: (step: NativeCapturedStep, options: ReplayOptions | undefined) => void,
  ) {
    if (key !== capturedKey) {
      throw new MTAdamError("OPTION", "A captured step must be made by `optimizer.captureStep()`.");
    }
    this.#native = step;
    this.#replay = replay;
    makeUncloneable(this);
  }

  /**
   * Takes the step, with the current options and weights, and counts it as an iteration.
   *
   * @throws MTAdamError STATE while a step is open, BUSY, OPTION, CUDA; DISPOSED where this, the optimizer, a parameter
   * or a gradient has been disposed of
   */
  replay(options?: ReplayOptions<Term>): void {
    if (this.#native === undefined) {
      throw new MTAdamError("DISPOSED", "The captured step has been disposed of.");
    }
    this.#replay(this.#native, options);
  }

  get disposed(): boolean {
    return this.#native === undefined;
  }

  /** Frees the graph now; otherwise it is freed when this is collected. */
  dispose(): void {
    const own = this.#native;
    this.#native = undefined;
    own?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
