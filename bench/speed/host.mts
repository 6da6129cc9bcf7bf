import { MTAdam, type Device } from "mtadam";

// What a call costs in JavaScript and on its way to the loops and back, apart from what it computes.

/** One cost, in every round. */
export interface HostCost {
  key: string;
  title: string;
  unit: "µs" | "ns";
  rounds: number[];
}

export interface HostOptions {
  rounds: number;
  /** Seconds that one measurement should take. */
  turn: number;
  /** Tensors of the model whose gradients are counted. */
  tensors: number;
}

const TERMS = 3;
const LENGTH = 8;
// Beyond any last-level cache of one machine's share.
const FLUSH_BYTES = 64 << 20;
const COLD_CALLS = 15;

export function hostCosts(device: Device, { rounds, turn, tensors }: HostOptions): HostCost[] {
  const costs = new Map<string, HostCost>();
  const add = (key: string, title: string, unit: "µs" | "ns", seconds: number) => {
    const cost = costs.get(key) ?? { key, title, unit, rounds: [] };
    cost.rounds.push(seconds * (unit === "µs" ? 1e6 : 1e9));
    costs.set(key, cost);
  };
  const tiny = new Calls(device, 1);
  // One for each way: what one leaves behind is not the other's to pay.
  const wide = Array.from({ length: 4 }, () => new Calls(device, tensors));
  const flush = flusher();
  const tinyTimers = [timer(tiny.prepared, turn), timer(tiny.plain, turn)] as const;
  const ways = [wide[0]!.prepared, wide[1]!.plain, wide[2]!.changing, wide[3]!.set];
  const wideTimers = ways.map((call) => timer(call, turn));
  const gradients = TERMS * tensors;
  for (let round = 0; round < rounds; ++round) {
    const [prepared, plain] = tinyTimers.map((time) => time());
    add("prepared", "`step(prepared)`, one tensor of 8, warm", "µs", prepared!);
    add("plain", "`step(gradients)`, the same", "µs", plain!);
    add("prepared-cold", "`step(prepared)`, caches flushed before", "µs", cold(tiny.prepared, flush));
    add("plain-cold", "`step(gradients)`, the same", "µs", cold(tiny.plain, flush));
    const [base, unchanged, changed, set] = wideTimers.map((time) => time());
    add("wide", `\`step(prepared)\`, ${tensors.toLocaleString("en")} tensors of 8`, "µs", base!);
    add("unchanged", "a gradient that is given again", "ns", (unchanged! - base!) / gradients);
    add("changed", "a gradient at another address", "ns", (changed! - base!) / gradients);
    add("set", "`prepared.set`", "ns", (set! - base!) / gradients);
  }
  for (const calls of [tiny, ...wide]) calls.dispose();
  return [...costs.values()];
}

/** The ways to take a step of a model of tiny tensors. */
class Calls {
  readonly prepared: () => void;
  readonly plain: () => void;
  /** With other addresses each time. */
  readonly changing: () => void;
  /** The same, into what was prepared. */
  readonly set: () => void;
  readonly dispose: () => void;

  constructor(device: Device, tensors: number) {
    const arrays = () => Array.from({ length: tensors }, () => new Float32Array(LENGTH).fill(0.5));
    const gradients = () => Array.from({ length: TERMS }, arrays);
    const optimizer = new MTAdam(arrays(), { terms: TERMS, device });
    const [one, other] = [gradients(), gradients()];
    const prepared = optimizer.prepare(one);
    let isOther = false;
    const next = () => {
      isOther = !isOther;
      return isOther ? other : one;
    };
    this.prepared = () => optimizer.step(prepared);
    this.plain = () => optimizer.step(one);
    this.changing = () => optimizer.step(next());
    this.set = () => {
      for (const [term, ofTerm] of next().entries()) {
        for (const [parameter, gradient] of ofTerm.entries()) prepared.set(term, parameter, gradient);
      }
      optimizer.step(prepared);
    };
    this.dispose = () => optimizer.dispose();
  }
}

/** Gives the seconds of one call, from as many as fill a turn. */
function timer(call: () => void, turn: number): () => number {
  const time = (calls: number) => {
    call(); // finds the caches as it leaves them
    const start = performance.now();
    for (let k = 0; k < calls; ++k) call();
    return (performance.now() - start) / 1000 / calls;
  };
  let calls = 1;
  while (time(calls) * calls < turn / 4) calls *= 2; // compiled by then, too
  calls = Math.max(2, Math.ceil(turn / time(calls)));
  return () => time(calls);
}

/** The middle one of single calls, each after a flush. */
function cold(call: () => void, flush: () => void): number {
  const times = Array.from({ length: COLD_CALLS }, () => {
    flush();
    const start = performance.now();
    call();
    return performance.now() - start;
  });
  return times.sort((a, b) => a - b)[(COLD_CALLS - 1) / 2]! / 1000;
}

function flusher(): () => void {
  const memory = new Float64Array(FLUSH_BYTES / 8).fill(1);
  const line = 8;
  return () => {
    for (let k = 0; k < memory.length; k += line) memory[k]! += 1;
  };
}
