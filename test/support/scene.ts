import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { testDevice } from "./device";

export type Buffer32 = DeviceBuffer<"float32">;
export type Tensor = Buffer32 | Float32Array;
/** Makes a tensor of these elements. */
export type Make<T extends Tensor> = (...values: number[]) => T;

export const inArray: Make<Float32Array> = (...values) => Float32Array.from(values);

export const device = testDevice();
export const inBuffer: Make<Buffer32> = (...values) => device.buffer(Float32Array.from(values));

/** An optimizer over two parameters, w of three elements and b of two. */
export class Scene<T extends Tensor = Buffer32> {
  readonly w: T;
  readonly b: T;
  readonly optimizer: MTAdam;

  constructor(
    readonly make: Make<T>,
    options: Partial<MTAdamOptions> = {},
  ) {
    this.w = make(1, 2, 3);
    this.b = make(4, 5);
    const parameters = [
      { name: "w", data: this.w },
      { name: "b", data: this.b },
    ];
    this.optimizer = new MTAdam(parameters, { terms: ["content", "style"], lr: 0.1, ...options });
  }

  /** One term's gradients. */
  gradients(): [w: T, b: T] {
    return [this.make(0.5, -1, 2), this.make(1, -1)];
  }
}

/** The elements of a tensor, or why it has none. */
export async function contents(tensor: Tensor): Promise<unknown> {
  // A detached array has no iterator.
  if (tensor instanceof Float32Array) return tensor.length === 0 ? "detached" : [...tensor];
  return tensor.disposed ? "disposed" : [...(await tensor.download())];
}
