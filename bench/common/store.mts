import { createHash } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { format } from "prettier";
import { locked } from "./lock.mjs";
import { plural, readIfThere } from "./text.mjs";
import { keyOf, type Arm, type Experiment, type Finished, type Outcome, type Task } from "./experiment.mjs";

/** A finished training in the file. JSON has no NaN, so a value that is not finite is null. */
type Entry = { arm: string; made?: string; seconds?: number } & Task &
  Omit<Outcome, "value"> & { value: number | null };

interface Content {
  experiment: string;
  /** The machine of the last run that was added. */
  machine: string;
  date: string;
  runs: Entry[];
}

/**
 * The raw results of one experiment in a JSON file. Trainings in it are not repeated. Another process may add to the file
 * meanwhile: each keeps what it finds there.
 */
export class Store {
  readonly #folder: string;
  readonly #path: string;
  #content: Content;
  readonly #version: string | undefined;
  readonly #versionNow: Experiment["version"];
  /** The keys of the entries that were asked for or added. */
  readonly #used = new Set<string>();

  private constructor(folder: string, path: string, content: Content, version: Experiment["version"]) {
    this.#folder = folder;
    this.#path = path;
    this.#content = content;
    this.#version = version?.();
    this.#versionNow = version;
  }

  /** The results in `folder`, which is created if it does not exist. */
  static async open(
    folder: string,
    { key: experiment, version }: Pick<Experiment, "key" | "version">,
  ): Promise<Store> {
    await mkdir(folder, { recursive: true });
    const path = join(folder, `${experiment}.json`);
    const empty = { experiment, machine: machine(), date: today(), runs: [] };
    return new Store(folder, path, (await contentOf(path)) ?? empty, version);
  }

  get machine(): string {
    return this.#content.machine;
  }

  get date(): string {
    return this.#content.date;
  }

  find(arm: Arm, task: Task): Outcome | undefined {
    const [key, made] = [keyOf(arm.key, task), this.#made(arm)];
    const found = this.#content.runs.find((entry) => keyOf(entry.arm, entry) === key && entry.made === made);
    if (!found) return undefined;
    this.#used.add(key);
    return { ...found, value: found.value ?? NaN };
  }

  /** What the trainings took that were asked for or added, in words; undefined if no time is known. */
  get cost(): string | undefined {
    const used = this.#content.runs.filter((entry) => this.#used.has(keyOf(entry.arm, entry)));
    const times = used.flatMap(({ seconds }) => (seconds === undefined ? [] : [seconds]));
    if (times.length === 0) return undefined;
    const minutes = Math.round(times.reduce((a, b) => a + b, 0) / 60);
    const [trainings, taken] = [plural(used.length, "training"), plural(minutes, "minute")];
    if (times.length === used.length) return `${trainings} in ${taken}`;
    return `${trainings}, of which the ${times.length} whose time is known took ${taken}`;
  }

  /**
   * Stores the result of a training and replaces an earlier one. The file is complete at any time.
   *
   * @throws Error if the experiment's version is no longer the one with which the store was opened
   */
  async add(arm: Arm, task: Task, { png, jsonl, ...result }: Finished, seconds?: number): Promise<Outcome> {
    if (this.#versionNow?.() !== this.#version) {
      throw new Error("The sources of the model changed while it was trained. The result is not kept.");
    }
    const outcome: Outcome = {
      ...result,
      ...(png && { picture: await this.#keep(arm, task, "png", png) }),
      ...(jsonl && { records: await this.#keep(arm, task, "jsonl", jsonl) }),
    };
    const made = this.#made(arm);
    const entry: Entry = {
      arm: arm.key,
      ...task,
      ...outcome,
      ...(made !== undefined && { made }),
      ...(seconds !== undefined && { seconds }),
    };
    const key = keyOf(arm.key, task);
    this.#used.add(key);
    await locked(this.#path, async () => {
      const { experiment, runs } = (await contentOf(this.#path)) ?? this.#content;
      const others = runs.filter((other) => keyOf(other.arm, other) !== key);
      this.#content = { experiment, machine: machine(), date: today(), runs: [...others, entry] };
      const temporary = `${this.#path}.${process.pid}.tmp`;
      const text = await format(JSON.stringify(this.#content), { parser: "json", printWidth: 110 });
      await writeFile(temporary, text);
      await rename(temporary, this.#path);
    });
    return outcome;
  }

  /** Changes with the version and an arm's options, but not with code; undefined for experiments without a version. */
  #made({ options, rival, fixedWeights, exponent, rate, tagsHeads, narrow }: Arm): string | undefined {
    if (this.#version === undefined) return undefined;
    const arm = JSON.stringify({ options, rival, fixedWeights, exponent, rate, tagsHeads, narrow });
    return createHash("sha256").update(`${this.#version}\n${arm}`).digest("hex").slice(0, 12);
  }

  async #keep(
    arm: Arm,
    { variant, seed }: Task,
    extension: "png" | "jsonl",
    file: Uint8Array,
  ): Promise<string> {
    const name = `${variant} ${arm.key} ${seed}`.replace(/[^a-z0-9.]+/gi, "-");
    const path = `${this.#content.experiment}/${name}.${extension}`;
    await mkdir(join(this.#folder, this.#content.experiment), { recursive: true });
    await writeFile(join(this.#folder, path), file);
    return path;
  }
}

async function contentOf(path: string): Promise<Content | undefined> {
  const text = await readIfThere(path);
  return text === undefined ? undefined : (JSON.parse(text) as Content);
}

function machine(): string {
  return `${cpus()[0]?.model.trim() ?? process.arch}, Node ${process.versions.node}`;
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}
