import { MTAdam, type Device, type DeviceBuffer } from "mtadam";
import { total } from "./shapes.mjs";

// A problem of a few small tensors, spelled the same way in peers/protocol.py: what a peer computes must be what we do.

export const CHECK_LENGTHS = [5, 300, 1, 4096];
export const CHECK_STEPS = 3;
/** The largest difference between two parameters that rounding explains. */
export const TOLERANCE = 1e-6;

/** An element of a parameter, from −1 to 1. */
export function initial(tensor: number, k: number): number {
  return (((37 * k + 101 * tensor) % 201) - 100) / 100;
}

/** An element of a gradient: terms of different size, others in each step. */
export function gradient(step: number, term: number, tensor: number, k: number): number {
  return ((term + 1) * (((53 * k + 29 * tensor + 17 * term + 71 * step) % 199) - 80)) / 64;
}

/** Our parameters, one tensor after the other, after a few steps; `oneTerm`: with the sum of the terms as the only one. */
export async function checkParameters(
  device: Device,
  terms: number,
  oneTerm: boolean,
): Promise<Float32Array> {
  const tensors = (value: (p: number, k: number) => number): DeviceBuffer<"float32">[] =>
    CHECK_LENGTHS.map((length, p) => device.buffer(Float32Array.from({ length }, (_, k) => value(p, k))));
  const parameters = tensors(initial);
  const optimizer = new MTAdam(parameters, { terms: oneTerm ? 1 : terms, device });
  for (let step = 0; step < CHECK_STEPS; ++step) {
    const own = Array.from(
      { length: terms },
      (_, term) => (p: number, k: number) => gradient(step, term, p, k),
    );
    // In float32, as the peers sum.
    const sum = (p: number, k: number) =>
      own.reduce((so, value) => Math.fround(so + Math.fround(value(p, k))), 0);
    optimizer.step((oneTerm ? [sum] : own).map(tensors));
  }
  const all = new Float32Array(total(CHECK_LENGTHS));
  let offset = 0;
  for (const buffer of parameters) {
    all.set(await buffer.download(), offset);
    offset += buffer.length;
  }
  optimizer.dispose();
  return all;
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Infinity;
  return a.reduce((largest, value, k) => Math.max(largest, Math.abs(value - b[k]!)), 0);
}
