import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MTAdam, type DeviceBuffer, type MTAdamOptions, type openDevice } from "mtadam";
import type { Network, Values } from "./network.mjs";

export type Device = ReturnType<typeof openDevice>;

/** A loss term's gradient for every parameter; null where it has none. */
export type Gradients = readonly (Float32Array | null)[];

/** The backward pass of each loss term. */
export type Backward = Readonly<Record<string, () => Gradients>>;

export interface PlayerOptions {
  device: Device;
  /** Whether the terms are balanced. If not, they are added up to one term, and MTAdam is Adam. */
  balanced: boolean;
  initial: Values;
  /** The names of the terms, in order, each with its weight: after balancing, or in the sum. */
  weights: Readonly<Record<string, number>>;
  /** Factors of losses. */
  units: Readonly<Record<string, number>>;
  options: Partial<MTAdamOptions>;
}

/** One side of the game: a network's parameters on a device, and an optimizer with its own terms. */
export class Player {
  readonly optimizer: MTAdam;
  readonly #balanced: boolean;
  /** What each term's gradient is multiplied by. */
  readonly #factors: Readonly<Record<string, number>>;
  readonly #parameters: readonly DeviceBuffer<"float32">[];
  /** One set for all terms: the optimizer has used it before stepEach calls the next term. */
  readonly #gradients: readonly DeviceBuffer<"float32">[];

  constructor(
    readonly name: string,
    readonly network: Network,
    { device, balanced, initial, weights, units, options }: PlayerOptions,
  ) {
    this.#balanced = balanced;
    this.#factors = Object.fromEntries(
      Object.entries(weights).map(([term, weight]) => [term, (units[term] ?? 1) * (balanced ? 1 : weight)]),
    );
    // A device's buffer() works for CPU and CUDA; the code below does not depend on the device.
    this.#parameters = initial.map((values) => device.buffer(values));
    this.#gradients = initial.map((values) => device.buffer(values.length));
    this.optimizer = new MTAdam(
      network.parameters.map(({ name, shape }, k) => ({ name, shape, data: this.#parameters[k]! })),
      { ...options, ...(balanced ? { terms: Object.keys(weights), weights } : { terms: ["sum"] }), device },
    );
  }

  /** A copy of the parameters on the host. */
  values(): Promise<Values> {
    return Promise.all(this.#parameters.map((buffer) => buffer.download()));
  }

  /** A step of this side. The backward passes are called in the order of the optimizer's terms. */
  async step(backward: Backward): Promise<void> {
    const scaled = Object.fromEntries(
      Object.entries(backward).map(([term, pass]) => [term, () => times(this.#factors[term] ?? 1, pass())]),
    );
    const terms = this.#balanced ? scaled : { sum: () => sumOf(Object.values(scaled)) };
    await this.optimizer.stepEach(
      Object.fromEntries(Object.entries(terms).map(([term, pass]) => [term, () => this.#place(pass())])),
    );
  }

  async save(folder: string): Promise<void> {
    await this.optimizer.save(join(folder, `${this.name}.optimizer.safetensors`));
    // The optimizer does not save the parameters.
    await writeFile(
      join(folder, `${this.name}.parameters`),
      Buffer.concat((await this.values()).map(bytesOf)),
    );
  }

  async load(folder: string): Promise<void> {
    const bytes = new Uint8Array(await readFile(join(folder, `${this.name}.parameters`)));
    let place = 0;
    for (const buffer of this.#parameters) {
      buffer.upload(new Float32Array(bytes.buffer, place, buffer.length));
      place += buffer.byteLength;
    }
    await this.optimizer.load(join(folder, `${this.name}.optimizer.safetensors`));
  }

  dispose(): void {
    this.optimizer.dispose();
    for (const buffer of [...this.#parameters, ...this.#gradients]) buffer.dispose();
  }

  /** Copies a term's gradients to the buffers that the optimizer reads. */
  #place(gradients: Gradients): (DeviceBuffer<"float32"> | null)[] {
    return gradients.map((values, k) => {
      if (values === null) return null;
      this.#gradients[k]!.upload(values);
      return this.#gradients[k]!;
    });
  }
}

function times(factor: number, gradients: Gradients): Gradients {
  if (factor === 1) return gradients;
  return gradients.map((values) => values?.map((value) => factor * value) ?? null);
}

/** The gradient of the sum of the terms. */
function sumOf(passes: readonly (() => Gradients)[]): Gradients {
  return passes
    .map((pass) => pass())
    .reduce((sum, gradients) =>
      gradients.map((values, k) => {
        const before = sum[k] ?? null;
        return values && before ? values.map((value, j) => before[j]! + value) : (values ?? before);
      }),
    );
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
