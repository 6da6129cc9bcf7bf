/** npm passes Ctrl-C on to its child, which the terminal has already signalled: one key press arrives twice. */
const ECHO_MS = 300;

/** Ctrl-C (SIGINT): the first raises `signal`, the second ends the process at once with code 130. */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #listener: () => void;

  /** `beforeExit` runs before the process ends at the second Ctrl-C. */
  constructor(beforeExit: () => void) {
    let first: number | undefined;
    this.#listener = () => {
      first ??= performance.now();
      this.#controller.abort();
      if (performance.now() - first <= ECHO_MS) return;
      beforeExit();
      process.exit(130);
    };
    process.on("SIGINT", this.#listener);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    process.off("SIGINT", this.#listener);
  }
}
