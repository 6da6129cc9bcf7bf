import { LineProcess, secondsOf } from "./line-process.mjs";
import type { Traffic } from "./traffic.mjs";

/** What plain loops over whole arrays came to at one moment. */
export interface Ceiling {
  /** Bytes per second of a = s·a + b, read and written. */
  rmw: number;
  /** Bytes per second of reading. */
  read: number;
  /** Seconds of the same traffic as a step's. */
  traffic: number;
}

export interface RoofShape {
  /** Parameters of the model. */
  elements: number;
  /** As many copies of everything, of which each call takes the next. */
  sets: number;
  /** Seconds that one measurement should take. */
  turn: number;
}

// Arrays this long are far beyond every cache; of longer ones the time is in proportion.
const MOST_ELEMENTS = 16_000_000;
// Bandwidth is that of walking all arrays of a set, as a step does, or that many elements of them.
const MOST_WALKED = 64_000_000;

/** The native program that measures the machine. One at a time has arrays. */
export class Roof {
  readonly #process: LineProcess;
  #elements = 0;
  #factor = 1;
  #turn = 0;
  #updated = 0;
  #all = 0;

  constructor(program: string, threads: number) {
    this.#process = new LineProcess(program, [String(threads)]);
  }

  /** Arrays for these; what was there is freed. */
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

  /** Seconds per call, of as many as fill a turn. */
  async #time(reads: number, sums: number, updates: number): Promise<number> {
    const time = async (calls: number) =>
      secondsOf(await this.#process.ask("time", calls, reads, sums, updates)) / calls;
    const once = await time(1);
    const calls = Math.floor(this.#turn / once);
    return calls > 1 ? time(calls) : once;
  }

  async end(): Promise<void> {
    await this.#process.end();
  }
}

/** Between two measurements. */
export function between(before: Ceiling, after: Ceiling): Ceiling {
  return {
    rmw: (before.rmw + after.rmw) / 2,
    read: (before.read + after.read) / 2,
    traffic: (before.traffic + after.traffic) / 2,
  };
}
