import { performance } from "node:perf_hooks";
import { setImmediate } from "node:timers";

// Long work that lets others run: file.ts reads and writes headers of many tensors in steps.

/** Work in steps. At each `yield` others may run. */
export type Steps<T> = Generator<undefined, T, void>;

/** Runs all steps without a break. */
export function runAtOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const next = steps.next();
    if (next.done === true) return next.value;
  }
}

/** How long work may keep the event loop at a time, in milliseconds. */
const SLICE = 5;

/** Kept at load time, because fake timers replace the global function. */
const nextTurn = setImmediate;

/** Measures how long work has kept the event loop. */
export class Pace {
  #since = performance.now();

  /** Lets others run if it is time to; undefined if not. */
  rest(): Promise<void> | undefined {
    if (performance.now() - this.#since < SLICE) return undefined;
    return new Promise((resolve) => {
      nextTurn(() => {
        this.#since = performance.now();
        resolve();
      });
    });
  }

  async run<T>(steps: Steps<T>): Promise<T> {
    for (;;) {
      const next = steps.next();
      if (next.done === true) return next.value;
      const rest = this.rest();
      if (rest !== undefined) await rest;
    }
  }
}
