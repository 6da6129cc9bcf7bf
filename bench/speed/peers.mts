import { join } from "node:path";
import type { Device } from "mtadam";
import { ROOT } from "../common/root.mjs";
import { CHECK_STEPS, TOLERANCE, checkParameters, largestDifference } from "./check.mjs";
import { AnswerError, LineProcess, secondsOf } from "./line-process.mjs";
import type { Contender } from "./model.mjs";
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

// One that compiles may take long, and may never end.
const PATIENCE = 60;

/** What became of a peer at the start of a run. */
export interface PeerState {
  name: string;
  version?: string;
  /** The largest difference of a parameter to ours after a few steps. */
  difference?: number;
  /** Why it does not take part. */
  notRun?: string;
}

/** A running peer. */
export class Peer {
  readonly #process: LineProcess;
  readonly kind: PeerKind;

  constructor(python: string, kind: PeerKind) {
    this.kind = kind;
    this.#process = new LineProcess(python, [join(ROOT, "bench/peers", `${kind.key}.py`)], {
      environment: { PYTHONDONTWRITEBYTECODE: "1", ...(kind.keepsMemory ? KEEP : {}) },
      patience: PATIENCE,
    });
  }

  /** Its version, and that it computes what we do. Does not throw. */
  async check(device: Device): Promise<PeerState> {
    const name = nameOf(this.kind);
    const terms = 3;
    try {
      const version = (await this.#process.ask("version"))[0] ?? "";
      const [text = ""] = await this.#process.ask("check", terms, device.threads, CHECK_STEPS);
      const theirs = new Float32Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
      const difference = largestDifference(theirs, checkParameters(device, terms, this.kind.oneTerm));
      if (difference <= TOLERANCE) return { name, version, difference };
      const notRun = `its parameters differ from ours by ${difference.toPrecision(2)}`;
      return { name, version, difference, notRun };
    } catch (error) {
      return { name, notRun: reasonOf(error) };
    }
  }

  /** @throws AnswerError */
  async contender(
    lengths: readonly number[],
    terms: number,
    threads: number,
    sets: number,
  ): Promise<Contender> {
    await this.#process.ask("setup", terms, threads, sets, describeLengths(lengths));
    return {
      name: nameOf(this.kind),
      way: "resident",
      parameters: total(lengths),
      sets,
      time: async (calls) => secondsOf(await this.#process.ask("time", calls)),
    };
  }

  async end(): Promise<void> {
    await this.#process.end();
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
