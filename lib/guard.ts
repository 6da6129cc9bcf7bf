import { native, type NativeCallMark, type NativeOptimizer } from "./addon/native";
import { MTAdamError } from "./errors";

/**
 * Knows which calls of an optimizer are allowed at a moment, and hands its native part to those alone. JavaScript may
 * end anywhere without a `finally` (a time-out of node:vm, Ctrl-C in the REPL): what has happened is therefore asked of
 * native code, and no mark of a call outlives it.
 */
export class Guard {
  #native: NativeOptimizer;
  #isDisposed = false;
  /** Set while a call reads its arguments, which may run the user's code. */
  readonly #reading: NativeCallMark = new native.CallMark();
  /** The last call that read its arguments. */
  #reader = "";
  /** The call that waits for a promise. */
  #waiting: { readonly operation: string } | undefined;

  constructor(own: NativeOptimizer) {
    this.#native = own;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** Also after {@link dispose}. */
  get iterations(): number {
    return this.#native.iterations;
  }

  /** @throws MTAdamError DISPOSED */
  alive(): NativeOptimizer {
    if (this.#isDisposed) throw new MTAdamError("DISPOSED", "The optimizer has been disposed of.");
    return this.#native;
  }

  /** For calls that need a whole state. @throws MTAdamError DISPOSED, BUSY, STATE after a call that ended midway */
  usable(): NativeOptimizer {
    const own = this.free();
    if (own.isWhole) return own;
    throw new MTAdamError(
      "STATE",
      "`load` or `loadStateDict` must restore the whole state first: an earlier call ended midway.",
    );
  }

  /** The same, where no step may be open. @throws MTAdamError DISPOSED, BUSY, STATE */
  idle(operation: string): NativeOptimizer {
    if (this.free().isIdle) return this.#native;
    this.usable();
    throw new MTAdamError(
      "STATE",
      `\`${operation}\` must wait for \`update()\` or \`discard()\`: a step is open.`,
    );
  }

  /** For calls that replace the state. @throws MTAdamError DISPOSED, BUSY */
  free(): NativeOptimizer {
    const own = this.alive();
    if (this.#waiting !== undefined) {
      const { operation } = this.#waiting;
      throw new MTAdamError("BUSY", `\`${operation}\` has not settled; wait for it before the next call.`);
    }
    if (this.#reader !== "" && this.#reading.isSet) {
      throw new MTAdamError(
        "BUSY",
        `\`${this.#reader}\` is reading its values; they must not make other calls.`,
      );
    }
    return own;
  }

  /** @throws MTAdamError STATE where the open step has the term already */
  checkNew(term: number, name: string | undefined): void {
    if (!this.alive().isAccumulated(term)) return;
    throw new MTAdamError(
      "STATE",
      `\`accumulate\` must get each term once per step; got ${JSON.stringify(name)} again (for micro-batches, add ` +
        "the gradients up first, with `addGradients`, and pass the sum once with `gradientScale`).",
    );
  }

  /** Reads a call's arguments. The user's getters and schedules that this runs cannot start another call. */
  reading<T>(operation: string, read: () => T): T {
    const outer = this.#reader;
    this.#reader = operation;
    const result = this.#reading.run(read);
    this.#reader = outer;
    return result;
  }

  /** Runs a call that waits. Until it settles, other calls are BUSY. */
  during(operation: string, run: () => Promise<void>): Promise<void> {
    const mark = { operation };
    // The call begins in a turn of its own, where nothing ends JavaScript: either it is marked and clears its mark, or
    // JavaScript ended before it was marked, and it does not begin.
    const settled = Promise.resolve().then(async () => {
      if (this.#waiting !== mark) return;
      try {
        this.alive();
        await run();
      } finally {
        this.#waiting = undefined;
      }
    });
    // Whoever waits gets the error. Where JavaScript ends before that, nobody waits.
    settled.catch(() => undefined);
    this.#waiting = mark;
    return settled;
  }

  /** Continues with another native optimizer, and frees the last one. */
  replace(own: NativeOptimizer): void {
    const last = this.#native;
    this.#native = own;
    last.dispose();
  }

  dispose(): void {
    this.#isDisposed = true;
    this.#native.dispose();
  }
}
