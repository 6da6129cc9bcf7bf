import { mkdir, rename, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { format } from "prettier";
import { readIfThere } from "./text.mjs";
import type { Arm, Outcome, Task } from "./experiment.mjs";

/** A finished training in the file. JSON has no NaN, so a value that is not finite is null. */
type Entry = { arm: string } & Task & Omit<Outcome, "value"> & { value: number | null };

interface Content {
  experiment: string;
  /** The machine of the last run that was added. */
  machine: string;
  date: string;
  runs: Entry[];
}

/** The raw results of one experiment in a JSON file. Trainings in it are not repeated. */
export class Store {
  readonly #path: string;
  readonly #content: Content;

  private constructor(path: string, content: Content) {
    this.#path = path;
    this.#content = content;
  }

  /** The results in `folder`, which is created if it does not exist. */
  static async open(folder: string, experiment: string): Promise<Store> {
    await mkdir(folder, { recursive: true });
    const path = join(folder, `${experiment}.json`);
    const text = await readIfThere(path);
    const empty = { experiment, machine: machine(), date: today(), runs: [] };
    return new Store(path, text === undefined ? empty : (JSON.parse(text) as Content));
  }

  get machine(): string {
    return this.#content.machine;
  }

  get date(): string {
    return this.#content.date;
  }

  find(arm: Arm, task: Task): Outcome | undefined {
    const found = this.#content.runs.find((entry) => isOf(entry, arm, task));
    return found && { ...found, value: found.value ?? NaN };
  }

  /** Stores an outcome and replaces an earlier one. The file is complete at any time. */
  async add(arm: Arm, task: Task, outcome: Outcome): Promise<void> {
    const content = this.#content;
    content.runs = content.runs.filter((entry) => !isOf(entry, arm, task));
    content.runs.push({ arm: arm.key, ...task, ...outcome });
    content.machine = machine();
    content.date = today();
    const temporary = `${this.#path}.tmp`;
    await writeFile(temporary, await format(JSON.stringify(content), { parser: "json", printWidth: 110 }));
    await rename(temporary, this.#path);
  }
}

function isOf(entry: Entry, arm: Arm, { variant, seed, steps }: Task): boolean {
  return entry.arm === arm.key && entry.variant === variant && entry.seed === seed && entry.steps === steps;
}

function machine(): string {
  return `${cpus()[0]?.model.trim() ?? process.arch}, Node ${process.versions.node}`;
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}
