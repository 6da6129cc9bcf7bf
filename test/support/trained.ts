import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import type { Device } from "../../lib/memory/device";
import { testDevice } from "./device";
import { randomSource, randomTensor } from "./random";

const LENGTHS = { weight: 6, bias: 3, scale: 1 };
export type Name = keyof typeof LENGTHS;
export const NAMES = Object.keys(LENGTHS) as Name[];
export type Values = Record<Name, Float32Array>;

const defaultDevice = testDevice();

/** One model, its parameters in any order, with gradients that depend only on names and step. */
export class Trained {
  readonly parameters: Record<Name, DeviceBuffer<"float32">>;
  readonly optimizer: MTAdam;

  constructor(
    order: readonly Name[],
    options: MTAdamOptions,
    from?: Values,
    readonly device: Device = defaultDevice,
  ) {
    this.parameters = Object.fromEntries(
      NAMES.map((name) => [name, device.buffer(from?.[name] ?? new Float32Array(LENGTHS[name]).fill(0.5))]),
    ) as Trained["parameters"];
    const described = order.map((name) => ({ name, data: this.parameters[name] }));
    this.optimizer = new MTAdam(described, options);
  }

  train(from: number, to: number, terms: readonly string[]): this {
    for (let step = from; step < to; ++step) {
      const gradients = terms.map((term) => {
        const random = randomSource(step * 100 + term.charCodeAt(0));
        const named = NAMES.map(
          (name) => [name, this.device.buffer(randomTensor(random, LENGTHS[name], 3))] as const,
        );
        return [term, Object.fromEntries(named)] as const;
      });
      this.optimizer.step(Object.fromEntries(gradients));
    }
    return this;
  }

  async values(): Promise<Values> {
    const entries = NAMES.map(async (name) => [name, await this.parameters[name].download()] as const);
    return Object.fromEntries(await Promise.all(entries)) as Values;
  }
}
