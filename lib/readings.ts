import { native as addon, type NativeDiagnostics } from "./addon/native";
import { Diagnostics, type DiagnosticsNames } from "./diagnostics";
import { fromNative, fromNativePromise } from "./errors";
import type { NonFiniteWarning } from "./non-finite-warning";

/** Diagnostics, or why there are none. */
export type Outcome =
  | { readonly diagnostics: Diagnostics; readonly error: undefined }
  | { readonly diagnostics: undefined; readonly error: Error };

/** One reading of diagnostics. It does not include work that is enqueued later, and no work waits for it. */
export class DiagnosticsReading {
  readonly #start: ReadingStart;
  #native: NativeDiagnostics | undefined;
  #outcome: Outcome | undefined;

  constructor(start: ReadingStart) {
    this.#start = start;
    try {
      this.#native = fromNative(start.native);
      if (this.#native.isComplete) this.read();
    } catch (error) {
      this.#outcome = { diagnostics: undefined, error: error as Error };
    }
  }

  get isRead(): boolean {
    return this.#outcome !== undefined;
  }

  /** Settles when {@link read} has nothing to wait for; never rejects. */
  async arrive(): Promise<void> {
    try {
      if (!this.isRead) await fromNativePromise(fromNative(() => this.#native!.arrive()));
    } catch {
      // read() has the error, too.
    }
  }

  /** Waits on this thread if the values have not arrived. */
  read(): Outcome {
    if (this.#outcome !== undefined) return this.#outcome;
    const { names, cosines: withCosines, warning } = this.#start;
    const [terms, layers] = [names.terms.length, names.layers.length];
    const count = terms * layers;
    try {
      const values = new Float64Array(4 * count + layers);
      const cosines = withCosines ? new Float32Array(terms * count) : null;
      fromNative(() => this.#native!.read(values, cosines));
      const diagnostics = new Diagnostics(names, values, cosines);
      warning.check(
        { ...names, skipped: values.subarray(3 * count, 4 * count) },
        values.subarray(count, 2 * count),
      );
      this.#outcome = { diagnostics, error: undefined };
    } catch (error) {
      this.#outcome = { diagnostics: undefined, error: error as Error };
    }
    return this.#outcome;
  }
}

interface ReadingStart {
  native: () => NativeDiagnostics;
  names: DiagnosticsNames;
  cosines: boolean;
  warning: NonFiniteWarning;
}

/** Delivers readings in the order in which they were started, each as soon as it has arrived. */
export class ReadingQueue {
  /** How many readings may be under way. Each holds pinned memory. */
  static readonly mostUnread = 64;

  readonly #pending: { reading: DiagnosticsReading; deliver: (outcome: Outcome) => void }[] = [];
  readonly #unread = new Set<DiagnosticsReading>();
  /** Set while `deliver` runs, which may start further readings. */
  readonly #delivering = new addon.CallMark();
  #waiting: Promise<void> | undefined;

  /** Waits for the oldest reading if too many are under way. {@link flush} must follow. `deliver` must not throw. */
  add(reading: DiagnosticsReading, deliver: (outcome: Outcome) => void): void {
    this.#pending.push({ reading, deliver });
    if (reading.isRead) return;
    this.#unread.add(reading);
    if (this.#unread.size <= ReadingQueue.mostUnread) return;
    const [oldest] = this.#unread;
    oldest!.read();
    this.#unread.delete(oldest!);
  }

  /** Delivers the readings that have arrived. A call within `deliver` leaves them to the outer one, in order. */
  flush(): void {
    if (this.#pending.length === 0 || this.#delivering.isSet) return;
    this.#delivering.run(() => {
      while (this.#pending[0]?.reading.isRead === true) {
        const { reading, deliver } = this.#pending.shift()!;
        this.#unread.delete(reading);
        deliver(reading.read());
      }
    });
    if (this.#pending.length > 0 && this.#waiting === undefined) this.#waiting = this.#wait();
  }

  async #wait(): Promise<void> {
    for (let first = this.#pending[0]; first !== undefined; first = this.#pending[0]) {
      await first.reading.arrive();
      first.reading.read();
      this.flush();
    }
    this.#waiting = undefined;
  }
}
