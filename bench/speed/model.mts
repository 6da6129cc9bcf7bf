import {
  MTAdam,
  type CapturedStep,
  type Device,
  type DeviceBuffer,
  type MTAdamOptions,
  type PreparedGradients,
} from "mtadam";
import { total } from "./shapes.mjs";
import { bytesPerParameter, type Form, type Way } from "./traffic.mjs";

/** Something that takes steps, and can be timed. */
export interface Contender {
  name: string;
  /** Whose plain loops it is held against. */
  way: Way;
  parameters: number;
  /** What it must move; undefined for a peer. */
  bytesPerParameter?: number;
  /** What it holds besides parameters and gradients. */
  stateBytes?: number;
  /** Each call takes the next of so many copies of everything. */
  sets: number;
  /** Takes so many steps; gives the seconds of all. */
  time(calls: number): number | Promise<number>;
}

export interface ModelOptions {
  lengths: readonly number[];
  terms: number;
  form: Form;
  sets: number;
}

/** One copy of what a training has: every set beyond the first is there to be cold when its turn comes. */
interface Copy {
  optimizer: MTAdam;
  gradients: DeviceBuffer[][];
  prepared: PreparedGradients;
  captured?: CapturedStep;
}

/** How our contenders take a step: `step(prepared)`, `accumulate` for each term and `update`, or a replayed graph. */
export type Taking = "step" | "streamed" | "captured";

/** Parameters, gradients and optimizers of one shape, on our device. */
export class Model {
  readonly #options: ModelOptions;
  readonly #copies: Copy[] = [];
  readonly #buffers: DeviceBuffer[] = [];
  readonly #stateBytes: number;
  #call = 0;

  constructor(device: Device, options: ModelOptions) {
    this.#options = options;
    const { lengths, terms, form, sets } = options;
    const mtadam: MTAdamOptions = { terms, firstMoment: form, device };
    const tensors = (value: number) =>
      lengths.map((length) => {
        const buffer = device.buffer(length);
        buffer.fill(value);
        this.#buffers.push(buffer);
        return buffer;
      });
    let stateBytes = 0;
    for (let k = 0; k < sets; ++k) {
      const parameters = tensors(0.5);
      const gradients = Array.from({ length: terms }, (_, term) => tensors(0.01 * (term + 1)));
      const optimizer = new MTAdam(parameters, mtadam);
      if (k === 0) stateBytes = MTAdam.stateBytes(parameters, mtadam);
      this.#copies.push({ optimizer, gradients, prepared: optimizer.prepare(gradients) });
    }
    this.#stateBytes = stateBytes;
  }

  /** On a GPU what is timed is the batch: all its steps are enqueued, then waited for. */
  contender(taking: Taking, name: string = taking): Contender {
    const { lengths, terms, form, sets } = this.#options;
    const way = taking === "streamed" ? "streamed" : "resident";
    const step = STEPS[taking];
    if (taking === "captured") {
      for (const copy of this.#copies) copy.captured = copy.optimizer.captureStep(copy.prepared);
    }
    return {
      name,
      way,
      parameters: total(lengths),
      bytesPerParameter: bytesPerParameter(form, way, terms),
      stateBytes: this.#stateBytes,
      sets,
      time: (calls) => {
        const start = performance.now();
        let last: Copy | undefined;
        for (let k = 0; k < calls; ++k) {
          last = this.#copies[this.#call++ % sets]!;
          step(last);
        }
        last?.optimizer.synchronizeSync(); // what others enqueued came before
        return (performance.now() - start) / 1000;
      },
    };
  }

  dispose(): void {
    for (const { optimizer, captured } of this.#copies) {
      captured?.dispose();
      optimizer.dispose();
    }
    for (const buffer of this.#buffers) buffer.dispose();
  }
}

const STEPS: Record<Taking, (copy: Copy) => void> = {
  step: resident,
  streamed,
  captured: ({ captured }) => captured!.replay(),
};

function resident({ optimizer, prepared }: Copy): void {
  optimizer.step(prepared);
}

function streamed({ optimizer, gradients }: Copy): void {
  for (const [term, ofTerm] of gradients.entries()) optimizer.accumulate(term, ofTerm);
  optimizer.update();
}
