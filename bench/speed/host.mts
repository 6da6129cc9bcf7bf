import { MTAdam, type CapturedStep, type Device, type DeviceBuffer } from "mtadam";
import { plural } from "../common/text.mjs";

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
  /** Tensors of two models, the second of which has its gradients counted. */
  tensors: readonly [number, number];
}

const TERMS = 3;
const LENGTH = 8;
// Beyond any last-level cache of one machine's share.
const FLUSH_BYTES = 64 << 20;
const COLD_CALLS = 15;
// What a GPU has not done yet may hold up who enqueues more: a few calls are timed, and waited for.
const BATCH = 4;

export function hostCosts(device: Device, { rounds, turn, tensors }: HostOptions): HostCost[] {
  const costs = new Map<string, HostCost>();
  const add = (key: string, title: string, unit: "µs" | "ns", seconds: number) => {
    const cost = costs.get(key) ?? { key, title, unit, rounds: [] };
    cost.rounds.push(seconds * (unit === "µs" ? 1e6 : 1e9));
    costs.set(key, cost);
  };
  const tiny = new Calls(device, 1);
  // One for each way: what one leaves behind is not the other's to pay.
  const [several, most] = tensors;
  const middle = new Calls(device, several);
  const wide = Array.from({ length: 4 }, () => new Calls(device, most));
  const flush = flusher();
  const [prepared, plain, ofSeveral] = [tiny.prepared, tiny.plain, middle.prepared].map((call) =>
    timer(call, turn),
  );
  const replay = device.kind === "cuda" ? timer(tiny.replay(), turn) : undefined;
  const ways = [wide[0]!.prepared, wide[1]!.plain, wide[2]!.changing, wide[3]!.set];
  const wideTimers = ways.map((call) => timer(call, turn));
  const gradients = TERMS * most;
  for (let round = 0; round < rounds; ++round) {
    add("prepared", "`step(prepared)`, one tensor of 8, warm", "µs", prepared!());
    add("plain", "`step(gradients)`, the same", "µs", plain!());
    if (replay) add("replay", "`replay()` of a captured step, the same", "µs", replay());
    add("prepared-cold", "`step(prepared)`, caches flushed before", "µs", cold(tiny.prepared, flush));
    add("plain-cold", "`step(gradients)`, the same", "µs", cold(tiny.plain, flush));
    const [base, unchanged, changed, set] = wideTimers.map((time) => time());
    add("several", `\`step(prepared)\`, ${plural(several, "tensor")} of 8`, "µs", ofSeveral!());
    add("wide", `\`step(prepared)\`, ${plural(most, "tensor")} of 8`, "µs", base!);
    add("unchanged", "a gradient that is given again", "ns", (unchanged! - base!) / gradients);
    add("changed", "a gradient at another address", "ns", (changed! - base!) / gradients);
    add("set", "`prepared.set`", "ns", (set! - base!) / gradients);
  }
  for (const calls of [tiny, middle, ...wide]) calls.dispose();
  return [...costs.values()];
}

/** A way to take a step, and to wait until the device has. */
interface Call {
  (): void;
  settle: () => void;
}

/** The ways to take a step of a model of tiny tensors. */
class Calls {
  readonly prepared: Call;
  readonly plain: Call;
  /** With other addresses each time. */
  readonly changing: Call;
  /** The same, into what was prepared. */
  readonly set: Call;
  /** As a graph, which a GPU has. */
  readonly replay: () => Call;
  readonly dispose: () => void;

  constructor(device: Device, tensors: number) {
    const memory = () => new Float32Array(LENGTH).fill(0.5);
    const buffers: DeviceBuffer[] = [];
    const one = () => {
      if (device.kind === "cpu") return memory();
      const buffer = device.buffer(memory());
      buffers.push(buffer);
      return buffer;
    };
    const tensorList = () => Array.from({ length: tensors }, one);
    const gradients = () => Array.from({ length: TERMS }, tensorList);
    const optimizer = new MTAdam(tensorList(), { terms: TERMS, device });
    const [these, others] = [gradients(), gradients()];
    const prepared = optimizer.prepare(these);
    const settle = () => optimizer.synchronizeSync();
    const call = (body: () => void): Call => Object.assign(body, { settle });
    let isOther = false;
    const next = () => {
      isOther = !isOther;
      return isOther ? others : these;
    };
    this.prepared = call(() => optimizer.step(prepared));
    this.plain = call(() => optimizer.step(these));
    this.changing = call(() => optimizer.step(next()));
    this.set = call(() => {
      for (const [term, ofTerm] of next().entries()) {
        for (const [parameter, gradient] of ofTerm.entries()) prepared.set(term, parameter, gradient);
      }
      optimizer.step(prepared);
    });
    let captured: CapturedStep | undefined;
    this.replay = () => {
      const own = (captured = optimizer.captureStep(prepared));
      return call(() => own.replay());
    };
    this.dispose = () => {
      captured?.dispose();
      optimizer.dispose();
      for (const buffer of buffers) buffer.dispose(); // collected later, they would hold up what is measured then
    };
  }
}

/** Gives the seconds of one call, from as many as fill a turn. */
function timer(call: Call, turn: number): () => number {
  const time = (calls: number) => {
    call(); // finds the caches as it leaves them
    let seconds = 0;
    for (let left = calls; left > 0; left -= BATCH) {
      call.settle();
      const start = performance.now();
      for (let k = Math.min(left, BATCH); k > 0; --k) call();
      seconds += (performance.now() - start) / 1000;
    }
    call.settle();
    return seconds / calls;
  };
  let calls = BATCH;
  while (time(calls) * calls < turn / 4) calls *= 2; // compiled by then, too
  calls = Math.max(BATCH, Math.ceil(turn / time(calls)));
  return () => time(calls);
}

/** The middle one of single calls, each after a flush. */
function cold(call: Call, flush: () => void): number {
  const times = Array.from({ length: COLD_CALLS }, () => {
    call.settle();
    flush();
    const start = performance.now();
    call();
    return performance.now() - start;
  });
  call.settle();
  return times.sort((a, b) => a - b)[(COLD_CALLS - 1) / 2]! / 1000;
}

function flusher(): () => void {
  const memory = new Float64Array(FLUSH_BYTES / 8).fill(1);
  const line = 8;
  return () => {
    for (let k = 0; k < memory.length; k += line) memory[k]! += 1;
  };
}
