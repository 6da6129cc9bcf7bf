import { LineProcess, secondsOf } from "./line-process.mjs";
import type { Traffic } from "./traffic.mjs";

/** What plain loops over whole arrays came to at one moment. */
export interface Ceiling {
  /** Bytes per second of a = s·a + b, read and written. */
  rmw: number;
  /** Bytes per second of reading. */
  read: number;
  /** On the CPU: seconds of the same traffic as a step's. */
  traffic?: number;
  /** On a GPU: bytes per second of copying, read and written, by a kernel and by cudaMemcpyAsync. */
  copy?: number;
  memcpy?: number;
}

export interface RoofShape {
  /** Parameters of the model. */
  elements: number;
  /** As many copies of everything, of which each call takes the next. */
  sets: number;
  /** Seconds that one measurement should take. */
  turn: number;
}

/** A native program that measures the machine. One at a time has memory. */
export interface Roof {
  /** Memory for these; what was there is freed. */
  prepare(shape: RoofShape, traffic: Traffic): Promise<void>;
  measure(traffic: Traffic): Promise<Ceiling>;
  free(): Promise<void>;
  end(): Promise<void>;
}

/** Seconds per call, of as many as fill a turn. */
async function timePerCall(turn: number, time: (calls: number) => Promise<number>): Promise<number> {
  const once = await time(1);
  const calls = Math.floor(turn / once);
  return calls > 1 ? (await time(calls)) / calls : once;
}

// Arrays this long are far beyond every cache; of longer ones the time is in proportion.
const MOST_ELEMENTS = 16_000_000;
// Bandwidth is that of walking all arrays of a set, as a step does, or that many elements of them.
const MOST_WALKED = 64_000_000;

/** The CPU's: roof.cpp. */
export class HostRoof implements Roof {
  readonly #process: LineProcess;
  #elements = 0;
  #factor = 1;
  #turn = 0;
  #updated = 0;
  #all = 0;

  constructor(program: string, threads: number) {
    this.#process = new LineProcess(program, [String(threads)]);
  }

  async prepare({ elements, sets, turn }: RoofShape, { readOnly, updated }: Traffic): Promise<void> {
    this.#elements = Math.min(elements, MOST_ELEMENTS);
    this.#factor = elements / this.#elements;
    this.#turn = turn;
    const most = Math.ceil(MOST_WALKED / this.#elements);
    this.#updated = Math.min(updated, most);
    this.#all = Math.min(readOnly + updated, most);
    await this.#process.ask("arrays", this.#elements, readOnly, updated, sets);
  }

  async free(): Promise<void> {
    await this.#process.ask("arrays", 0, 0, 0, 0);
  }

  async measure(traffic: Traffic): Promise<Ceiling> {
    const bytes = 4 * this.#elements;
    return {
      rmw: (2 * bytes * this.#updated) / (await this.#time(0, 0, this.#updated)),
      read: (bytes * this.#all) / (await this.#time(this.#all, 0, 0)),
      traffic: this.#factor * (await this.#time(traffic.reads, traffic.sums, traffic.updates)),
    };
  }

  #time(reads: number, sums: number, updates: number): Promise<number> {
    return timePerCall(this.#turn, async (calls) =>
      secondsOf(await this.#process.ask("time", calls, reads, sums, updates)),
    );
  }

  async end(): Promise<void> {
    await this.#process.end();
  }
}

// Far beyond every cache, and some milliseconds of a fast memory.
const MOST_BYTES = 4 * 2 ** 30;

/**
 * A GPU's: gpu_roof.cu. It works on as much memory as the model has, in one launch: a step moves twice as many bytes as a
 * copy of one half of that onto the other, in two. So what a launch costs weighs the same for both, at every size.
 */
export class GpuRoof implements Roof {
  readonly #process: LineProcess;
  #bytes = 0;
  #turn = 0;

  /** @param index the device's number */
  constructor(program: string, index: number) {
    this.#process = new LineProcess(program, [String(index)]);
  }

  async prepare({ elements, sets, turn }: RoofShape, { readOnly, updated }: Traffic): Promise<void> {
    this.#bytes = Math.min(4 * elements * (readOnly + updated), MOST_BYTES);
    this.#turn = turn;
    await this.#process.ask("memory", this.#bytes, sets);
  }

  async free(): Promise<void> {
    await this.#process.ask("memory", 0, 0);
  }

  async measure(): Promise<Ceiling> {
    return {
      copy: this.#bytes / (await this.#time("copy")),
      memcpy: this.#bytes / (await this.#time("memcpy")),
      rmw: (2 * this.#bytes) / (await this.#time("update")),
      read: this.#bytes / (await this.#time("read")),
    };
  }

  #time(verb: string): Promise<number> {
    return timePerCall(this.#turn, async (calls) => secondsOf(await this.#process.ask(verb, calls)));
  }

  async end(): Promise<void> {
    await this.#process.end();
  }
}

/** Between two measurements of the same kind. */
export function between(before: Ceiling, after: Ceiling): Ceiling {
  const mean = (key: keyof Ceiling) => ((before[key] ?? NaN) + (after[key] ?? NaN)) / 2;
  const keys = Object.keys(before) as (keyof Ceiling)[];
  return Object.fromEntries(keys.map((key) => [key, mean(key)])) as unknown as Ceiling;
}
