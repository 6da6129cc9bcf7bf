/**
 * `Float16Array`, wherever elements of float16 are taken. Older runtimes do not have it, and their tests do nothing:
 * scripts/test/runtimes.js runs this file in a runtime that has.
 */

import path from "node:path";
import {
  DeviceBuffer,
  loadTensors,
  MTAdam,
  saveTensors,
  type DType,
  type Float16ArrayLike,
  type GradientDtype,
} from "../../lib";
import { testDevice } from "../support/device";
import { emptiedFolder } from "../support/folder";
import { randomSource, randomTensor } from "../support/random";
import { checkError, thrownBy } from "../support/refusals";

const device = testDevice();
const isOnCpu = device.kind === "cpu";
const folder = emptiedFolder();

type Constructor = new (buffer: ArrayBufferLike, byteOffset?: number, length?: number) => Float16ArrayLike;
const { Float16Array: Type } = globalThis as { Float16Array?: Constructor };

/** A test of the runtimes that have it. */
function testOf(name: string, run: (Float16Array: Constructor) => Promise<void>): void {
  if (Type === undefined) test.skip(name, () => undefined);
  else test(name, () => run(Type));
}

/** Codes of numbers from 1/64 to 1. */
function codes(length: number): Uint16Array<ArrayBuffer> {
  const random = randomSource(3);
  return Uint16Array.from({ length }, () => 0x2400 + Math.floor(random() * 0x1800));
}

/** A Float16Array of the codes that does not begin where its memory does. */
function shifted(
  Float16Array: Constructor,
  from: Uint16Array,
): { array: Float16ArrayLike; bits: Uint16Array } {
  const bits = new Uint16Array(from.length + 4).subarray(3, from.length + 3);
  bits.set(from);
  return { array: new Float16Array(bits.buffer, bits.byteOffset, bits.length), bits };
}

testOf("a buffer has its bits, and writes nothing beyond it", async (Float16Array) => {
  const all = codes(50);
  const { array, bits } = shifted(Float16Array, all);
  const made = device.buffer(array, "float16");
  const from = DeviceBuffer.from(array, device, "float16");
  const uploaded = device.buffer(50, "float16");
  uploaded.upload(array);
  bits.fill(0x3c00);
  for (const buffer of [made, from, uploaded]) {
    expect(await buffer.download()).toEqual(all);
    bits.fill(0x3c00);
    expect(await buffer.download(array)).toBe(array);
    expect(bits).toEqual(all);
    expect([...new Uint16Array(bits.buffer)].filter((code) => code === 0)).toHaveLength(4);
  }
});

testOf("a saved tensor of it is one of float16, without a dtype", async (Float16Array) => {
  const { array, bits } = shifted(Float16Array, codes(50));
  const file = path.join(folder, "model.safetensors");
  await saveTensors(file, [array, { name: "w", data: array, shape: [5, 10] }]);
  const { tensors } = await loadTensors(file);
  expect([...tensors.values()]).toEqual([
    { name: "0", data: bits, shape: [50], dtype: "float16" },
    { name: "w", data: bits, shape: [5, 10], dtype: "float16" },
  ]);
});

testOf("a parameter and a gradient of it give the bits of a Uint16Array", async (Float16Array) => {
  if (!isOnCpu) return; // on a GPU they are in its memory
  const parameters = [codes(50), shifted(Float16Array, codes(50))] as const;
  const gradient = randomTensor(randomSource(4), 50, 1);
  for (const data of [parameters[0], parameters[1].array]) {
    new MTAdam([{ name: "w", data, dtype: "float16" }], { terms: 1 }).step([[gradient]]);
  }
  expect(parameters[1].bits).toEqual(parameters[0]);
  expect(parameters[0]).not.toEqual(codes(50));

  const gradients = [codes(50), shifted(Float16Array, codes(50)).array];
  const results = gradients.map((gradient) => {
    const parameter = new Float32Array(50);
    new MTAdam([parameter], { terms: 1, gradientDtype: "float16" }).step([[gradient]]);
    return parameter;
  });
  expect(results[1]).toEqual(results[0]);
  expect(results[0]).not.toEqual(new Float32Array(50));
});

testOf("nothing else is in it", async (Float16Array) => {
  const array = new Float16Array(new ArrayBuffer(6)) as never;
  const other: DType[] = ["float32", "float64", "bfloat16"];
  for (const dtype of other) {
    const buffer = device.buffer(3, dtype);
    checkError(await thrownBy(() => device.buffer(array, dtype)), "ERR_MTADAM_DTYPE");
    checkError(await thrownBy(() => buffer.upload(array)), "ERR_MTADAM_DTYPE");
    checkError(await thrownBy(() => buffer.download(array)), "ERR_MTADAM_DTYPE");
    const save = (): Promise<void> => saveTensors(path.join(folder, "none"), [{ data: array, dtype }]);
    checkError(await thrownBy(save), "ERR_MTADAM_DTYPE");
  }
  if (!isOnCpu) return;
  const asParameter = (dtype: GradientDtype) => () =>
    new MTAdam([{ name: "w", data: array, dtype }], { terms: 1 });
  checkError(await thrownBy(asParameter("bfloat16")), "ERR_MTADAM_DTYPE");
  checkError(await thrownBy(asParameter("float32")), "ERR_MTADAM_DTYPE");
});

testOf("an array of another length is refused", async (Float16Array) => {
  const buffer = device.buffer(3, "float16");
  for (const length of [0, 2, 4]) {
    const array = new Float16Array(new ArrayBuffer(2 * length));
    checkError(await thrownBy(() => buffer.upload(array)), "ERR_MTADAM_LENGTH");
    checkError(await thrownBy(() => buffer.download(array)), "ERR_MTADAM_LENGTH");
  }
});
