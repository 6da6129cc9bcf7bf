import { join } from "node:path";
import type { Device } from "mtadam";
import { ROOT } from "../common/root.mjs";
import { CHECK_STEPS, TOLERANCE, checkParameters, largestDifference } from "./check.mjs";
import { AnswerError, LineProcess, secondsOf } from "./line-process.mjs";
import type { Contender } from "./model.mjs";
import type { ContenderResult } from "./results.mjs";
import { plural } from "../common/text.mjs";
import { total } from "./shapes.mjs";
import type { Form } from "./traffic.mjs";

/** Another implementation, a script of bench/peers. */
export interface PeerKind {
  key: string;
  title: string;
  /** Which of our forms it is compared with. */
  form: Form;
  /** It takes the terms' sum as one gradient: less work than ours, a bound. */
  oneTerm: boolean;
  /** Its temporaries go back to the system after every step unless glibc's malloc is told to keep them. */
  keepsMemory: boolean;
}

const eager = { key: "eager", title: "PyTorch op by op", form: "perTerm", oneTerm: false } as const;
const foreach = { key: "foreach", title: "`torch._foreach`", form: "perTerm", oneTerm: false } as const;

export const PEERS: readonly PeerKind[] = [
  { ...eager, keepsMemory: false },
  { ...eager, keepsMemory: true },
  { ...foreach, keepsMemory: false },
  { ...foreach, keepsMemory: true },
  { key: "compiled", title: "`torch.compile`", form: "summed", oneTerm: false, keepsMemory: false },
  {
    key: "fused",
    title: "fused Adam, one term, on the sum",
    form: "summed",
    oneTerm: true,
    keepsMemory: false,
  },
];

/** "eager", or "eager, memory kept". */
export function nameOf({ key, keepsMemory }: PeerKind): string {
  return keepsMemory ? `${key}, memory kept` : key;
}

// No mapping of their own for large blocks, and the heap never shrinks: malloc's two thresholds out of reach.
const KEEP = {
  MALLOC_MMAP_MAX_: "0",
  MALLOC_MMAP_THRESHOLD_: "33554432",
  MALLOC_TRIM_THRESHOLD_: "1099511627776",
};

/** What became of a peer at the start of a run. */
export interface PeerState {
  name: string;
  version?: string;
  /** The largest difference of a parameter to ours after a few steps. */
  difference?: number;
  /** Why it does not take part. */
  notRun?: string;
}

/** Where and how peers run. */
export interface PeerOptions {
  python: string;
  /** PyTorch's name of the device: "cpu", "cuda:0". */
  on: string;
  /** That compute on the CPU. */
  threads: number;
  /** Seconds that an answer may take: one that compiles may take long, and may never end. */
  patience: number;
  /** With more tensors than these nothing is compiled, which takes minutes. */
  compiledTensors: number;
}

interface PeerShape {
  lengths: readonly number[];
  terms: number;
  sets: number;
}

/** A running peer. */
export class Peer {
  readonly kind: PeerKind;
  readonly name: string;
  readonly #process: LineProcess;
  readonly #threads: number;

  constructor({ python, on, threads, patience }: PeerOptions, kind: PeerKind) {
    this.kind = kind;
    this.name = nameOf(kind);
    this.#threads = threads;
    this.#process = new LineProcess(python, [join(ROOT, "bench/peers", `${kind.key}.py`), "--device", on], {
      environment: { PYTHONDONTWRITEBYTECODE: "1", ...(kind.keepsMemory ? KEEP : {}) },
      patience,
    });
  }

  /** Its version, and that it computes what we do. Does not throw. */
  async check(device: Device): Promise<PeerState> {
    const { name } = this;
    const terms = 3;
    try {
      const version = (await this.#process.ask("version"))[0] ?? "";
      const [text = ""] = await this.#process.ask("check", terms, this.#threads, CHECK_STEPS);
      const theirs = new Float32Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
      const difference = largestDifference(theirs, await checkParameters(device, terms, this.kind.oneTerm));
      if (difference <= TOLERANCE) return { name, version, difference };
      const notRun = `its parameters differ from ours by ${difference.toPrecision(2)}`;
      return { name, version, difference, notRun };
    } catch (error) {
      return { name, notRun: reasonOf(error) };
    }
  }

  /** @throws AnswerError */
  async contender({ lengths, terms, sets }: PeerShape): Promise<Contender> {
    await this.#process.ask("setup", terms, this.#threads, sets, describeLengths(lengths));
    return {
      name: this.name,
      way: "resident",
      parameters: total(lengths),
      sets,
      time: async (calls) => secondsOf(await this.#process.ask("time", calls)),
    };
  }

  /** Gives up what it was set up with, or ends where it cannot. */
  async rest(): Promise<void> {
    try {
      await this.#process.ask("setup", 1, this.#threads, 0, "1");
    } catch (error) {
      reasonOf(error);
      await this.end();
    }
  }

  get hasEnded(): boolean {
    return this.#process.hasEnded;
  }

  async end(): Promise<void> {
    await this.#process.end();
  }
}

/**
 * The peers of a run. On a GPU each is one process, which takes seconds to start; on the CPU one per setting, so that none
 * has memory or habits of an earlier one.
 */
export class Peers {
  readonly #options: PeerOptions;
  readonly #kinds: readonly PeerKind[];
  readonly #resting = new Map<string, Peer>();
  #joined: { peer: Peer; tensors: number }[] = [];
  /** Numbers of tensors with which a peer did not come to an end. */
  readonly #tooMany = new Map<string, number>();

  constructor(options: PeerOptions) {
    this.#options = options;
    this.#kinds = PEERS.filter(({ keepsMemory }) => options.on === "cpu" || !keepsMemory);
  }

  /** What each is and computes. Those that do not compute what we do never join. */
  async check(device: Device): Promise<PeerState[]> {
    return Promise.all(
      this.#kinds.map(async (kind) => {
        const peer = new Peer(this.#options, kind);
        const state = await peer.check(device);
        if (state.notRun === undefined) this.#resting.set(peer.name, peer);
        if (state.notRun !== undefined || this.#options.on === "cpu") await peer.end();
        return state;
      }),
    );
  }

  /** Those that are compared with a form, and why some are not there. */
  async join(form: Form, shape: PeerShape): Promise<{ contenders: Contender[]; absent: ContenderResult[] }> {
    const contenders: Contender[] = [];
    const absent: ContenderResult[] = [];
    const tensors = shape.lengths.length;
    for (const kind of this.#kinds.filter((each) => each.form === form)) {
      const name = nameOf(kind);
      const resting = this.#resting.get(name);
      if (!resting) continue;
      const missing = { name, way: "resident" as const, parameters: total(shape.lengths), rounds: [] };
      const reason = this.#reasonAgainst(kind, tensors);
      if (reason !== undefined) {
        absent.push({ ...missing, notRun: reason });
        continue;
      }
      const peer = resting.hasEnded ? new Peer(this.#options, kind) : resting;
      this.#resting.set(name, peer);
      this.#joined.push({ peer, tensors });
      try {
        contenders.push(await peer.contender(shape));
      } catch (error) {
        absent.push({ ...missing, notRun: reasonOf(error) });
      }
    }
    return { contenders, absent };
  }

  #reasonAgainst(kind: PeerKind, tensors: number): string | undefined {
    const { compiledTensors } = this.#options;
    if (kind.key === "compiled" && tensors > compiledTensors) {
      return `no more than ${plural(compiledTensors, "tensor")} are compiled in so short a run`;
    }
    const most = this.#tooMany.get(nameOf(kind)) ?? Infinity;
    return tensors < most ? undefined : `it did not come to an end with ${plural(most, "tensor")}`;
  }

  /** Those that joined are done. */
  async leave(): Promise<void> {
    for (const { peer, tensors } of this.#joined) {
      if (peer.hasEnded) this.#tooMany.set(peer.name, tensors);
      else if (this.#options.on === "cpu") await peer.end();
      else await peer.rest();
    }
    this.#joined = [];
  }

  async end(): Promise<void> {
    for (const peer of this.#resting.values()) if (!peer.hasEnded) await peer.end();
  }
}

/** The sentence of an AnswerError; whatever else it is goes on. */
export function reasonOf(error: unknown): string {
  if (error instanceof AnswerError) return error.message;
  throw error;
}

/** Runs of equal lengths as one word: "288,32,3500x3000". */
export function describeLengths(lengths: readonly number[]): string {
  const runs: { length: number; count: number }[] = [];
  for (const length of lengths) {
    const last = runs.at(-1);
    if (last?.length === length) ++last.count;
    else runs.push({ length, count: 1 });
  }
  return runs.map(({ length, count }) => (count === 1 ? String(length) : `${length}x${count}`)).join(",");
}
