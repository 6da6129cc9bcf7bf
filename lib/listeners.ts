import { checkKeys } from "./arguments";
import type { Diagnostics } from "./diagnostics";
import { mustBe } from "./errors";
import type { DiagnosticsReading, ReadingQueue } from "./readings";

export type StatsListener = (diagnostics: Diagnostics) => void;

/** @param iteration the number of completed steps */
export type StepListener = (iteration: number) => void;

const LOST_CODE = "MTADAM_STATS_LOST";

/** Calls listeners after steps. An error that one throws is an unhandled rejection: the step has been taken. */
export class Listeners {
  readonly #ofStats = new Set<{ listener: StatsListener; every: number }>();
  readonly #ofSteps = new Set<{ listener: StepListener }>();
  readonly #readings: ReadingQueue;

  constructor(readings: ReadingQueue) {
    this.#readings = readings;
  }

  /**
   * @returns a function that removes the listener
   * @throws MTAdamError OPTION
   */
  onStats(listener: StatsListener, options: unknown): () => void {
    checkListener(listener);
    const { every = 100 } = checkKeys<{ every: unknown }>("options", options, ["every"]);
    return add(this.#ofStats, { listener, every: checkEvery(every) });
  }

  /** The same for every step. */
  onStep(listener: StepListener): () => void {
    checkListener(listener);
    return add(this.#ofSteps, { listener });
  }

  get isEmpty(): boolean {
    return this.#ofStats.size + this.#ofSteps.size === 0;
  }

  /** Called after every step. Calls `start` at most once, and no listener. {@link tell} must follow. */
  read(iteration: number, start: () => DiagnosticsReading): void {
    let reading: DiagnosticsReading | undefined;
    for (const entry of this.#ofStats) {
      if (iteration % entry.every !== 0) continue;
      reading ??= start();
      this.#readings.add(reading, (outcome) => {
        if (!this.#ofStats.has(entry)) return;
        if (outcome.error !== undefined) warnOfLost(iteration, outcome.error);
        else call(entry.listener, outcome.diagnostics);
      });
    }
  }

  /** Calls the listeners of the step, then those of the readings that have arrived. */
  tell(iteration: number): void {
    for (const entry of [...this.#ofSteps]) {
      if (this.#ofSteps.has(entry)) call(entry.listener, iteration);
    }
    this.#readings.flush();
  }
}

/** @throws MTAdamError OPTION */
export function checkEvery(every: unknown): number {
  if (Number.isSafeInteger(every) && (every as number) >= 1) return every as number;
  throw mustBe("OPTION", "every", "be a whole number of steps from 1", every);
}

function checkListener(listener: unknown): void {
  if (typeof listener !== "function") throw mustBe("OPTION", "listener", "be a function", listener);
}

function add<T>(entries: Set<T>, entry: T): () => void {
  entries.add(entry);
  return () => {
    entries.delete(entry);
  };
}

/** Calls it at once; an error becomes an unhandled rejection. */
function call<T>(listener: (value: T) => void, value: T): void {
  void new Promise<void>((resolve) => {
    listener(value);
    resolve();
  });
}

function warnOfLost(iteration: number, error: Error): void {
  process.emitWarning(
    `The diagnostics of iteration ${iteration} could not be read for \`onStats\`: ${error.message}`,
    { code: LOST_CODE },
  );
}
