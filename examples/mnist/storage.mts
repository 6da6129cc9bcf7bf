import type { DeviceBuffer, openDevice } from "mtadam";
import { PARAMETERS, type Values } from "./model.mjs";

export type Device = ReturnType<typeof openDevice>;

/** An array of values on the optimizer's device. */
export type Stored = Float32Array | DeviceBuffer;

/**
 * The memory of parameters and gradients. This demo computes gradients on the host. For a CUDA device, this file copies
 * the gradients to the device and the new parameters back; no other file depends on the device.
 */
export interface Storage {
  /** The parameters, for the optimizer to update in place. */
  readonly parameters: { name: string; shape: number[]; data: Stored }[];
  /**
   * `gradients` of the term with this index, where the optimizer can read them; valid until the next call for
   * it.
   */
  place(term: number, gradients: Values): readonly Stored[];
  /** The current parameters, on the host, for reading only. */
  values(): Promise<Values>;
  dispose(): void;
}

/** Storage for parameters that start as a copy of `initial`. */
export function openStorage(device: Device, initial: Values): Storage {
  return device.kind === "cpu" ? new HostStorage(initial) : new DeviceStorage(device, initial);
}

function describe(data: readonly Stored[]) {
  return PARAMETERS.map(({ name, shape }, i) => ({ name, shape, data: data[i]! }));
}

/** Plain arrays that the optimizer changes in place: nothing is copied. */
class HostStorage implements Storage {
  readonly parameters;
  readonly #values: Values;

  constructor(initial: Values) {
    this.#values = initial.map((values) => values.slice());
    this.parameters = describe(this.#values);
  }

  place(_term: number, gradients: Values): Values {
    return gradients;
  }

  async values(): Promise<Values> {
    return this.#values;
  }

  dispose() {
    // The garbage collector frees the arrays.
  }
}

/** Buffers on a device, allocated once, so that their addresses stay the same. */
class DeviceStorage implements Storage {
  readonly parameters;
  readonly #device: Device;
  readonly #buffers: readonly DeviceBuffer[];
  /** Gradient buffers per term, made when the term first has a gradient. */
  readonly #gradients: DeviceBuffer[][] = [];
  readonly #host: Values;

  constructor(device: Device, initial: Values) {
    this.#device = device;
    this.#buffers = initial.map((values) => device.buffer(values));
    this.#host = initial.map((values) => values.slice());
    this.parameters = describe(this.#buffers);
  }

  place(term: number, gradients: Values): readonly DeviceBuffer[] {
    const buffers = (this.#gradients[term] ??= gradients.map((values) => this.#device.buffer(values.length)));
    buffers.forEach((buffer, i) => buffer.upload(gradients[i]!));
    return buffers;
  }

  async values(): Promise<Values> {
    await Promise.all(this.#buffers.map((buffer, i) => buffer.download(this.#host[i])));
    return this.#host;
  }

  dispose() {
    for (const buffer of [...this.#buffers, ...this.#gradients.flat()]) buffer.dispose();
  }
}
