import * as fs from "node:fs";
import { promisify } from "node:util";
import { checkKeys } from "../arguments";
import type { FileUrl } from "../checkpoint/options";
import type { Diagnostics } from "../diagnostics";
import { MTAdamError, mustBe } from "../errors";
import { isRecord, isRevoked } from "../inspect";
import { checkEvery } from "../listeners";
import { MTAdam } from "../mtadam";
import { checkReceivers } from "../receiver";
import { regularFile } from "./file";
import { FORMAT, rounded, VERSION, type HeaderLine, type RecordLine, type ValuesLine } from "./format";

const appendFile = promisify(fs.appendFile);
const closeFile = promisify(fs.close);

const STOPPED_CODE = "MTADAM_MONITOR_STOPPED";

export interface MonitorOptions {
  /** A path or a file URL. Lines are appended to an existing file. */
  file: string | FileUrl;
  /** Steps from one record to the next. Default 20. */
  every?: number | undefined;
}

/** The part of a record that is known when the step ends. */
type StepValues = Pick<RecordLine, "time" | "lr" | "values">;

/**
 * Records in a file how an optimizer balances its terms: a line of JSON after every `every` steps (docs/monitor.md has
 * the format). `npx mtadam report` and {@link writeReport} make a page of it. No step waits for the file. A loop that
 * never returns to the event loop collects its lines in memory.
 *
 * @example
 * const monitor = new BalanceMonitor(optimizer, { every: 20, file: "run.jsonl" });
 * for (const batch of batches) {
 *   monitor.record({ content: loss0, style: loss1 });
 *   optimizer.step(gradients);
 * }
 * await monitor.close();
 */
export class BalanceMonitor {
  readonly #optimizer: MTAdam;
  readonly #file: number;
  readonly #stopListening: () => void;
  /** What was recorded since the last line. */
  readonly #values = new Map<string, { sum: number; count: number }>();
  #header: Pick<HeaderLine, "terms" | "layers"> | undefined;
  /** Settles when the lines so far are written; never rejects. */
  #written: Promise<void> = Promise.resolve();
  #error: { readonly error: unknown } | undefined;
  #closed: Promise<void> | undefined;

  static {
    const isMonitor = (value: unknown): boolean =>
      typeof value === "object" && value !== null && #optimizer in value;
    checkReceivers("a BalanceMonitor", this.prototype, isMonitor);
  }

  /**
   * @throws MTAdamError OPTION; errors of the file system unchanged
   */
  constructor(optimizer: MTAdam, options: MonitorOptions) {
    if (isRevoked(optimizer) || !(optimizer instanceof MTAdam)) {
      throw mustBe("OPTION", "optimizer", "be an MTAdam", optimizer);
    }
    const { file, every: given = 20 } = checkKeys<MonitorOptions>("options", options, ["file", "every"]);
    const every = checkEvery(given);
    const path = regularFile("file", file);
    this.#optimizer = optimizer;
    // Before the file is opened: this refuses what only looks like an optimizer.
    this.#stopListening = optimizer.onStep((iteration) => {
      if (iteration % every === 0) this.#record(iteration);
    });
    try {
      this.#file = fs.openSync(path, "a");
    } catch (error) {
      this.#stopListening();
      throw error;
    }
  }

  /**
   * Hands in losses, or other numbers, by name; null, such as the loss of an absent term, is left out. A line has the mean of
   * each since the line before; call this before the step that the numbers belong to. The report has one chart for names
   * without a slash, and one per group, such as `recall` of `recall/0` and `recall/1`.
   *
   * @throws MTAdamError OPTION, DISPOSED after {@link close}
   */
  record(values: Readonly<Record<string, number | null>>): void {
    if (this.#closed !== undefined) throw new MTAdamError("DISPOSED", "The monitor has been closed.");
    if (!isRecord(values)) throw mustBe("OPTION", "values", "be an object of numbers", values);
    const entries = Object.entries(values).filter((entry): entry is [string, number] => entry[1] !== null);
    for (const [name, value] of entries) {
      if (typeof value !== "number") throw mustBe("OPTION", `values.${name}`, "be a number", value);
    }
    for (const [name, value] of entries) {
      const known = this.#values.get(name);
      if (known === undefined) this.#values.set(name, { sum: value, count: 1 });
      else {
        known.sum += value;
        known.count += 1;
      }
    }
  }

  /**
   * Ends the monitor. The promise settles when all lines are written.
   *
   * @throws an error of the file system that stopped the monitor, or MTAdamError if diagnostics could not be read (the
   * promise rejects; a process warning, MTADAM_MONITOR_STOPPED, has come when it happened)
   */
  close(): Promise<void> {
    this.#stopListening();
    return (this.#closed ??= this.#close());
  }

  /** The same as {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.#written;
    try {
      if (this.#values.size > 0 && this.#error === undefined) await this.#writeRest();
    } catch (error) {
      this.#error ??= { error };
    }
    try {
      await closeFile(this.#file);
    } catch (error) {
      this.#error ??= { error };
    }
    if (this.#error !== undefined) throw this.#error.error as Error;
  }

  /** What came after the last record. Where there is none yet, it becomes one, if the optimizer still has diagnostics. */
  async #writeRest(): Promise<void> {
    const { iterations: iteration } = this.#optimizer;
    if (this.#header !== undefined) {
      const values = this.#takeValues();
      await appendFile(this.#file, line({ iteration, time: Date.now(), values }));
      return;
    }
    const diagnostics =
      iteration === 0 ? undefined : await this.#optimizer.diagnostics().catch(() => undefined);
    if (diagnostics === undefined) return;
    const header = this.#headerLine(diagnostics);
    await appendFile(this.#file, header + recordLine(diagnostics, this.#stepValues(iteration)));
  }

  #stepValues(iteration: number): StepValues {
    return { time: Date.now(), lr: this.#learningRates(iteration - 1), values: this.#takeValues() };
  }

  #record(iteration: number): void {
    const values = this.#stepValues(iteration);
    const reading = this.#optimizer.diagnostics();
    // It may reject before the lines in front of it are written.
    reading.catch(() => undefined);
    this.#written = this.#written.then(() => this.#write(reading, values));
  }

  /** The means of what was recorded since the last call. */
  #takeValues(): RecordLine["values"] {
    const means = [...this.#values].map(
      ([name, { sum, count }]) => [name, rounded([sum / count])[0]!] as const,
    );
    this.#values.clear();
    return Object.fromEntries(means);
  }

  #learningRates(iterations: number): (number | null)[] {
    return this.#optimizer.paramGroups.map(({ lr }) => {
      try {
        return rounded([typeof lr === "function" ? lr(iterations) : lr])[0]!;
      } catch {
        return null;
      }
    });
  }

  async #write(reading: Promise<Diagnostics>, values: StepValues): Promise<void> {
    if (this.#error !== undefined) return;
    try {
      const diagnostics = await reading;
      await appendFile(this.#file, this.#headerLine(diagnostics) + recordLine(diagnostics, values));
    } catch (error) {
      this.#error = { error };
      this.#stopListening();
      process.emitWarning(`The balance monitor has stopped: ${(error as Error).message}`, {
        code: STOPPED_CODE,
      });
    }
  }

  /** Empty if the last header still holds. */
  #headerLine({ terms, layers }: Diagnostics): string {
    if (this.#header?.terms === terms && this.#header.layers === layers) return "";
    // A process that was killed may have left half a line.
    const start = this.#header === undefined && fs.fstatSync(this.#file).size > 0 ? "\n" : "";
    this.#header = { terms, layers };
    return start + line({ format: FORMAT, version: VERSION, terms, layers } satisfies HeaderLine);
  }
}

function recordLine(diagnostics: Diagnostics, { time, lr, values }: StepValues): string {
  const { iteration, anchors, cosines, norms, scales, sharesBefore, shares, skipped, effectiveWeights } =
    diagnostics;
  return line({
    iteration,
    time,
    lr,
    values,
    norms: rounded(norms),
    scales: rounded(scales),
    sharesBefore: rounded(sharesBefore),
    shares: rounded(shares),
    skipped: rounded(skipped),
    effectiveWeights: rounded(effectiveWeights),
    anchors: [...anchors],
    ...(cosines === undefined ? {} : { cosines: rounded(cosines) }),
  } satisfies RecordLine);
}

function line(value: HeaderLine | RecordLine | ValuesLine): string {
  return `${JSON.stringify(value)}\n`;
}
