import type { NativeOptimizer } from "./addon/native";
import { checkKeys } from "./arguments";
import { fromNative, fromNativePromise, mustBe } from "./errors";
import type { NonFiniteWarning } from "./non-finite-warning";

/** Norms and scales of the terms in each layer. Arrays are terms × layers, row by row. */
export interface Diagnostics {
  /** Completed steps at the time of the call. */
  iteration: number;
  terms: readonly string[];
  layers: readonly string[];
  /** n: the moving averages of the gradient norms; NaN where a pair never occurred. */
  norms: Float32Array;
  /** s, step 4: the factor of the gradients in the pair's last step; NaN if the pair never occurred. */
  scales: Float32Array;
  /**
   * s·r divided by the sum of s·r in the layer, where r is the norm of the last gradient: the term's share of the
   * movement.
   */
  shares: Float32Array;
  /**
   * How many times a gradient was not finite or too large to be scaled, so that the term counted as absent or the step
   * was skipped.
   */
  skipped: Float32Array;
  /**
   * With the option `cosines`, terms × terms × layers: the cosine between the gradients of terms i and j in layer l, in
   * the last step, at (i·I + j)·L + l. NaN where one of the two took no part, or its norm is 0 or not finite.
   */
  cosines?: Float32Array;
}

export type StatsListener = (diagnostics: Diagnostics) => void;

/** Reads diagnostics off the thread. Readings settle in the order in which they were started. */
export class DiagnosticsReader {
  /** Never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  readonly #warning: NonFiniteWarning;

  constructor(warning: NonFiniteWarning) {
    this.#warning = warning;
  }

  /**
   * Starts a reading at once. It does not include work that is enqueued later, and no work waits for it.
   *
   * @throws MTAdamError OUT_OF_MEMORY, CUDA (the promise rejects)
   */
  read(native: NativeOptimizer, names: DiagnosticsNames, withCosines: boolean): Promise<Diagnostics> {
    const reading = readDiagnostics(native, names, withCosines, {
      before: this.#last,
      warning: this.#warning,
    });
    const done = (): void => undefined;
    this.#last = reading.then(done, done);
    return reading;
  }
}

type DiagnosticsNames = Pick<Diagnostics, "iteration" | "terms" | "layers">;

/** `before`: the previous reading; it settles first, although each reading waits on its own thread. */
async function readDiagnostics(
  native: NativeOptimizer,
  { iteration, terms, layers }: DiagnosticsNames,
  withCosines: boolean,
  { before, warning }: { before: Promise<unknown>; warning: NonFiniteWarning },
): Promise<Diagnostics> {
  const count = terms.length * layers.length;
  const values = new Float64Array(4 * count);
  const cosines = withCosines ? new Float32Array(terms.length * count) : null;
  try {
    await fromNativePromise(fromNative(() => native.watchNorms(values, cosines)));
  } finally {
    await before;
  }
  const [n, r, s, skipped] = [0, 1, 2, 3].map((k) => values.subarray(k * count, (k + 1) * count));
  warning.check({ terms, layers, skipped: skipped! }, r!);
  return {
    iteration,
    terms,
    layers,
    norms: Float32Array.from(n!),
    scales: Float32Array.from(s!),
    shares: sharesOf(r!, s!, layers.length),
    skipped: Float32Array.from(skipped!),
    ...(cosines === null ? {} : { cosines }),
  };
}

function sharesOf(r: Float64Array, s: Float64Array, layers: number): Float32Array {
  // The norm of a skipped gradient is not finite and is not used.
  const parts = Float64Array.from(s, (scale, at) => (Number.isFinite(r[at]) ? scale * r[at]! : scale * 0));
  const sums = new Float64Array(layers);
  for (const [at, part] of parts.entries()) {
    if (!Number.isNaN(part)) sums[at % layers]! += part;
  }
  return Float32Array.from(parts, (part, at) => {
    const sum = sums[at % layers]!;
    return sum === 0 ? part : part / sum;
  });
}

/** Calls each listener every `every` steps. */
export class StatsListeners {
  readonly #listeners = new Set<{ listener: StatsListener; every: number; pending: boolean }>();

  /**
   * @returns a function that removes the listener
   * @throws MTAdamError OPTION
   */
  add(listener: unknown, options: unknown): () => void {
    if (typeof listener !== "function") throw mustBe("OPTION", "listener", "be a function", listener);
    const { every = 100 } = checkKeys<{ every: number }>("options", options, ["every"]);
    if (!Number.isSafeInteger(every) || every < 1) {
      throw mustBe("OPTION", "every", "be a whole number of steps from 1", every);
    }
    const entry = { listener: listener as StatsListener, every, pending: false };
    this.#listeners.add(entry);
    return () => {
      this.#listeners.delete(entry);
    };
  }

  get isEmpty(): boolean {
    return this.#listeners.size === 0;
  }

  /** Called after every step. Calls `read` at most once. */
  stepped(iteration: number, read: () => Promise<Diagnostics>): void {
    let shared: Promise<Diagnostics> | undefined;
    for (const entry of this.#listeners) {
      // One report at a time: a slow device must not build up a queue of reports.
      if (iteration % entry.every !== 0 || entry.pending) continue;
      shared ??= read();
      void shared.then(
        (diagnostics) => {
          entry.pending = false;
          if (this.#listeners.has(entry)) entry.listener(diagnostics);
        },
        () => {
          entry.pending = false; // the next call of the optimizer throws the device's error
        },
      );
      entry.pending = true;
    }
  }
}
