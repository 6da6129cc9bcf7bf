import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { createInterface } from "node:readline";

/** What a process answered that it cannot do, or that it has ended. */
export class AnswerError extends Error {}

/** The words after "ok" in an answer. Throws AnswerError for `error <sentence>`, and for what is neither. */
export function wordsOf(answer: string): string[] {
  const [verb, ...words] = answer.trim().split(/\s+/);
  if (verb === "ok") return words;
  if (verb === "error") throw new AnswerError(words.join(" "));
  throw new AnswerError(`An answer must begin with "ok" or "error"; got "${answer.slice(0, 80)}".`);
}

/** The one number of an answer, of seconds. */
export function secondsOf(words: readonly string[]): number {
  const seconds = Number(words[0] ?? NaN);
  if (words.length === 1 && Number.isFinite(seconds) && seconds >= 0) return seconds;
  throw new AnswerError(`An answer must be a number of seconds; got "${words.join(" ").slice(0, 80)}".`);
}

/** A process that answers a line with a line, and sleeps in between. */
export class LineProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;
  readonly #ended: Promise<void>;
  readonly #patience: number;
  #failure = "";
  #complaint = "";

  /** @param patience seconds that an answer may take; the process is ended then */
  constructor(
    command: string,
    args: readonly string[],
    { environment = {}, patience = 600 }: { environment?: NodeJS.ProcessEnv; patience?: number } = {},
  ) {
    const child = spawn(command, args, { env: { ...process.env, ...environment } });
    this.#patience = patience;
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.on("close", () => resolve());
      child.on("error", (error) => {
        this.#failure = error.message;
        resolve();
      });
    });
    child.stdin.on("error", () => undefined); // it has ended: so its answers say
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#complaint = (this.#complaint + text).slice(-2000);
    });
    this.#answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Whether it can answer nothing more. */
  get hasEnded(): boolean {
    return this.#failure !== "" || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** @throws AnswerError */
  async ask(...words: readonly (string | number)[]): Promise<string[]> {
    this.#child.stdin.write(`${words.join(" ")}\n`);
    const timer = setTimeout(() => {
      this.#failure = `no answer within ${this.#patience} s`;
      this.#child.kill("SIGKILL");
    }, 1000 * this.#patience);
    const answer = (await this.#answers.next()) as IteratorResult<string, undefined>;
    clearTimeout(timer);
    if (answer.done !== true) return wordsOf(answer.value);
    await this.#ended;
    const reason = this.#failure || this.#complaint.trim().split("\n").at(-1);
    throw new AnswerError(`The process ended${reason ? `: ${reason}` : "."}`);
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    await this.#ended;
  }
}
