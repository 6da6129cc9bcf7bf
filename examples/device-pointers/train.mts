import { MTAdam, type OptimizerOptions } from "mtadam";
import type { DeviceMemory } from "./runtime.mjs";

const SIZE = 2;
const BYTES = SIZE * Float32Array.BYTES_PER_ELEMENT;

/**
 * The losses of examples/hello, in memory that belongs to someone else:
 *   left = (x − 1)² + y²    right = 1000 · (x² + (y − 1)²)
 * A real program's kernels compute the gradients on the device; here the host does.
 *
 * @returns where the point ends
 */
export async function train(
  memory: DeviceMemory,
  options: Partial<OptimizerOptions> = {},
): Promise<Float32Array> {
  const [point, left, right] = [memory.allocate(BYTES), memory.allocate(BYTES), memory.allocate(BYTES)];
  memory.upload(point, new Float32Array(SIZE));

  // Addresses are enough: the device that owns `point` is the optimizer's.
  const optimizer = new MTAdam([{ name: "point", data: point, shape: [SIZE] }], {
    terms: ["left", "right"],
    preset: "recommended",
    lr: 0.01,
    ...options,
  });
  const gradients = optimizer.prepare({ left: [left], right: [right] });

  const values = new Float32Array(SIZE);
  for (let step = 0; step < 500; ++step) {
    memory.download(point, values);
    memory.upload(
      left,
      values.map((value, axis) => 2 * (value - (axis === 0 ? 1 : 0))),
    );
    memory.upload(
      right,
      values.map((value, axis) => 2000 * (value - (axis === 1 ? 1 : 0))),
    );
    optimizer.step(gradients); // returns at once; the copies above wait for it, on the same stream
  }
  await optimizer.synchronize();
  memory.download(point, values);
  optimizer.dispose();
  for (const address of [point, left, right]) memory.free(address);
  return values;
}
