import { native, type NativeCallMark, type NativeOptimizer } from "./addon/native";
import { MTAdamError } from "./errors";

/**
 * Decides which calls of an optimizer are allowed, and gives only those calls the native optimizer. A time-out of
 * node:vm or Ctrl-C in the REPL can end JavaScript anywhere, without running `finally`. The guard therefore asks native
 * code what has happened, and a call's mark never outlives the call.
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

  /** Can be read after {@link dispose}, too. */
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

  /** For calls that need a whole state and no open step. @throws MTAdamError DISPOSED, BUSY, STATE */
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

  /** @throws MTAdamError STATE if the open step already has the term */
  checkNew(term: number, name: string | undefined): void {
    if (!this.alive().isAccumulated(term)) return;
    throw new MTAdamError(
      "STATE",
      `\`accumulate\` must get each term once per step; got ${JSON.stringify(name)} again (for micro-batches, add ` +
        "the gradients up first, with `addGradients`, and pass the sum once with `gradientScale`).",
    );
  }

  /** Reads a call's arguments. This may run the user's getters and schedules; they cannot start another call. */
  reading<T>(operation: string, read: () => T): T {
    const outer = this.#reader;
    this.#reader = operation;
    try {
      return this.#reading.run(read);
    } finally {
      this.#reader = outer;
    }
  }

  /** Runs a call that waits. Until it settles, other calls are BUSY. */
  during(operation: string, run: () => Promise<void>): Promise<void> {
    const mark = { operation };
    // The call begins in a later turn, in which nothing ends JavaScript early. A call that is marked therefore always
    // clears its mark. If JavaScript ends before the call is marked, the call does not begin.
    const settled = Promise.resolve().then(async () => {
      if (this.#waiting !== mark) return;
      try {
        this.alive();
        await run();
      } finally {
        this.#waiting = undefined;
      }
    });
    // The caller gets the error from the returned promise. If JavaScript ends before it is returned, nobody handles the
    // error.
    settled.catch(() => undefined);
    this.#waiting = mark;
    return settled;
  }

  /** Continues with another native optimizer and frees the previous one. */
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
