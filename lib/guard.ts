import type { NativeOptimizer } from "./addon/native";
import { MTAdamError } from "./errors";

/** A step that has begun with `accumulate` and ends with `update`. */
export interface OpenStep {
  /** The optimizer's weights when it began. */
  readonly weights: readonly number[];
  /** The indices of the terms accumulated so far. */
  readonly terms: ReadonlySet<number>;
}

/** Knows which calls of an optimizer are allowed at a moment, and hands its native part to those alone. */
export class Guard {
  #native: NativeOptimizer | undefined;
  /** The call in progress: it waits for a promise, or reads its arguments, which may run the user's code. */
  #busy: string | undefined;
  #openStep: (OpenStep & { terms: Set<number> }) | undefined;
  /** A load failed midway: the state is inconsistent until it is loaded again. */
  #isInconsistent = false;

  constructor(native: NativeOptimizer) {
    this.#native = native;
  }

  get openStep(): OpenStep | undefined {
    return this.#openStep;
  }

  /** @throws MTAdamError DISPOSED */
  alive(): NativeOptimizer {
    if (this.#native === undefined) throw new MTAdamError("DISPOSED", "The optimizer has been disposed of.");
    return this.#native;
  }

  /** For calls that need a consistent state. @throws MTAdamError DISPOSED, BUSY, STATE after a load that failed */
  usable(): NativeOptimizer {
    const native = this.#free();
    if (!this.#isInconsistent) return native;
    throw new MTAdamError("STATE", "The state must be loaded again: the last load failed midway.");
  }

  /** The same, where no step may be open. @throws MTAdamError DISPOSED, BUSY, STATE */
  idle(operation: string): NativeOptimizer {
    this.usable();
    return this.loadable(operation);
  }

  /** For calls that replace the state. @throws MTAdamError DISPOSED, BUSY, STATE while a step is open */
  loadable(operation: string): NativeOptimizer {
    const native = this.#free();
    if (this.#openStep === undefined) return native;
    throw new MTAdamError("STATE", `\`${operation}\` must wait for \`update()\`: a step is open.`);
  }

  #free(): NativeOptimizer {
    const native = this.alive();
    if (this.#busy === undefined) return native;
    throw new MTAdamError("BUSY", `\`${this.#busy}\` has not settled; wait for it before the next call.`);
  }

  /** @throws MTAdamError STATE where the open step has the term already */
  checkNew(term: number, name: string | undefined): void {
    if (this.#openStep?.terms.has(term) !== true) return;
    throw new MTAdamError(
      "STATE",
      `\`accumulate\` must get each term once per step; got ${JSON.stringify(name)} again (for micro-batches, add ` +
        "the gradients up first, with `addGradients`, and pass the sum once with `gradientScale`).",
    );
  }

  /** Records that a term was accumulated; the first one opens the step. */
  accumulated(term: number, weights: readonly number[]): void {
    this.#openStep ??= { weights, terms: new Set() };
    this.#openStep.terms.add(term);
  }

  closeStep(): void {
    this.#openStep = undefined;
  }

  /** Reads a call's arguments. The user's getters and schedules that this runs cannot start another call. */
  reading<T>(operation: string, read: () => T): T {
    this.#busy = operation;
    try {
      return read();
    } finally {
      this.#busy = undefined;
    }
  }

  /** Runs a call that waits. Until it settles, other calls are BUSY. */
  async during(operation: string, run: () => Promise<void>): Promise<void> {
    this.#busy = operation;
    try {
      await run();
    } finally {
      this.#busy = undefined;
    }
  }

  /**
   * Marks the state inconsistent until the function returned is called.
   *
   * @param isComplete whether all of the state is loaded: a load of parts leaves an inconsistent state inconsistent
   */
  beginRestoring(isComplete: boolean): () => void {
    this.alive();
    const was = this.#isInconsistent;
    this.#isInconsistent = true;
    return () => {
      this.alive();
      this.#isInconsistent = was && !isComplete;
    };
  }

  /** Continues with another native optimizer, and frees the last one. */
  replace(native: NativeOptimizer): void {
    this.#native?.dispose();
    this.#native = native;
  }

  dispose(): void {
    this.#native?.dispose();
    this.#native = undefined;
  }
}
