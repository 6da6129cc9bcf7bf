/** Memory of a device: dtypes, copies in both directions, the rounding of a fill, and disposal. */

import fc from "fast-check";
import { DeviceBuffer, MTAdam, type DType, type HostArray } from "../../lib";
import { codeOf } from "../support/caught";
import { onCpu, otherDevice, testDevice } from "../support/device";

const device = testDevice();

const DTYPES = ["float32", "float64", "float16", "bfloat16"] as const;
const BYTES = { float32: 4, float64: 8, float16: 2, bfloat16: 2 };
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
} as const;

/** 1, 2, 3 …, as an array of the dtype's kind. */
const counting = <D extends DType>(dtype: D, length: number): HostArray<D> =>
  new ARRAYS[dtype](Array.from({ length }, (_, k) => k + 1)) as HostArray<D>;

describe.each(DTYPES)("a %s buffer", (dtype) => {
  test("has a dtype, a length, a device and an address", () => {
    const buffer = device.buffer(5, dtype);
    expect(buffer).toMatchObject({ dtype, length: 5, byteLength: 5 * BYTES[dtype] });
    expect(buffer.device).toBe(device);
    expect(buffer).toBeInstanceOf(DeviceBuffer);
    expect(typeof buffer.ptr).toBe("bigint");
    expect(buffer.ptr % BigInt(BYTES[dtype])).toBe(0n);
    expect(buffer.disposed).toBe(false);
  });

  test("starts at 0", async () => {
    const values = await device.buffer(1000, dtype).download();
    expect(values).toBeInstanceOf(ARRAYS[dtype]);
    expect(values).toHaveLength(1000);
    expect(values.every((value) => value === 0)).toBe(true);
  });

  test("starts with a copy of an array", async () => {
    const array = counting(dtype, 7);
    const buffer = device.buffer(array, dtype);
    array.fill(9);
    expect(await buffer.download()).toEqual(counting(dtype, 7));
  });

  test("is made by DeviceBuffer.from as well", async () => {
    const buffer = DeviceBuffer.from(counting(dtype, 3), device, dtype);
    expect(buffer).toMatchObject({ dtype, length: 3 });
    expect(await buffer.download()).toEqual(counting(dtype, 3));
  });

  test("copies an uploaded array", async () => {
    const buffer = device.buffer(4, dtype);
    const array = counting(dtype, 4);
    buffer.upload(array);
    array.fill(9);
    expect(await buffer.download()).toEqual(counting(dtype, 4));
  });

  test("downloads to a given array and writes nothing beyond it", async () => {
    const around = counting(dtype, 8).fill(7) as Uint16Array;
    const target = around.subarray(2, 5) as HostArray<typeof dtype>;
    const buffer = device.buffer(counting(dtype, 3), dtype);
    expect(await buffer.download(target)).toBe(target);
    expect([...around]).toEqual([7, 7, 1, 2, 3, 7, 7, 7]);
  });

  test("uploads a part of an array and nothing else", async () => {
    const part = (counting(dtype, 8) as Uint16Array).subarray(2, 5) as HostArray<typeof dtype>;
    const buffer = device.buffer(3, dtype);
    buffer.upload(part);
    expect([...(await buffer.download())]).toEqual([3, 4, 5]);
    expect([...(await device.buffer(part, dtype).download())]).toEqual([3, 4, 5]);
  });

  test("may be empty", async () => {
    const buffer = device.buffer(0, dtype);
    expect(buffer).toMatchObject({ length: 0, byteLength: 0 });
    expect(typeof buffer.ptr).toBe("bigint");
    buffer.upload(counting(dtype, 0));
    buffer.fill(1);
    expect(await buffer.download()).toHaveLength(0);
  });

  test("keeps every bit, also of NaNs", async () => {
    const bytes = Uint8Array.from({ length: 4096 }, (_, k) => (k * 251 + (k >> 3)) & 255);
    const array = new ARRAYS[dtype](bytes.buffer) as HostArray<typeof dtype>;
    const values = await device.buffer(array, dtype).download();
    expect(Buffer.compare(Buffer.from(values.buffer), bytes)).toBe(0);
  });

  test("refuses arrays of another length", async () => {
    const buffer = device.buffer(counting(dtype, 3), dtype);
    for (const length of [0, 2, 4]) {
      const other = counting(dtype, length);
      expect(await codeOf(() => buffer.upload(other))).toBe("ERR_MTADAM_LENGTH");
      expect(await codeOf(() => buffer.download(other))).toBe("ERR_MTADAM_LENGTH");
      expect(other).toEqual(counting(dtype, length));
    }
    expect(await buffer.download()).toEqual(counting(dtype, 3));
  });

  test("refuses values that are not arrays of its type", async () => {
    const buffer = device.buffer(counting(dtype, 3), dtype);
    type Kind = new (buffer: ArrayBuffer) => unknown;
    const kinds: Kind[] = [
      Float32Array,
      Float64Array,
      Uint16Array,
      Int16Array,
      Uint8Array,
      BigInt64Array,
      DataView,
    ];
    const others = kinds
      .filter((kind) => kind !== ARRAYS[dtype])
      .map((kind) => new kind(new ArrayBuffer(24)));
    for (const other of [...others, [1, 2, 3], new ArrayBuffer(12), "123", 3, null, {}, buffer]) {
      const array = other as HostArray<typeof dtype>;
      expect(await codeOf(() => buffer.upload(array))).toBe("ERR_MTADAM_DTYPE");
      expect(await codeOf(() => buffer.download(array))).toBe("ERR_MTADAM_DTYPE");
      if (typeof other === "object") {
        expect(await codeOf(() => device.buffer(array, dtype))).toBe("ERR_MTADAM_DTYPE");
        expect(await codeOf(() => DeviceBuffer.from(array, device, dtype))).toBe("ERR_MTADAM_DTYPE");
      }
    }
    expect(await codeOf(() => buffer.upload(undefined as never))).toBe("ERR_MTADAM_DTYPE");
    expect(await buffer.download()).toEqual(counting(dtype, 3));
  });

  test("fills every element of buffers of any length", async () => {
    for (const length of [1, 2, 3, 63, 64, 65, 1001]) {
      const buffer = device.buffer(length, dtype);
      buffer.fill(1);
      const values = await buffer.download();
      expect(new Set(values)).toEqual(new Set([values[0]]));
      expect(values[0]).not.toBe(0);
      buffer.fill(0);
      expect((await buffer.download()).every((value) => value === 0)).toBe(true);
    }
  });

  test("refuses to be filled with anything but a number", async () => {
    const buffer = device.buffer(counting(dtype, 3), dtype);
    for (const value of ["1", 1n, null, undefined, true, [1], {}, Symbol("1"), { valueOf: () => 1 }]) {
      expect(await codeOf(() => buffer.fill(value as number))).toBe("ERR_MTADAM_OPTION");
    }
    expect(await buffer.download()).toEqual(counting(dtype, 3));
  });

  test("is freed by dispose, which may be repeated", async () => {
    const buffer = device.buffer(3, dtype);
    buffer.dispose();
    buffer.dispose();
    expect(buffer.disposed).toBe(true);
    expect(buffer).toMatchObject({ dtype, length: 3, byteLength: 3 * BYTES[dtype] });
    const uses: (() => unknown)[] = [
      () => buffer.ptr,
      () => buffer.upload(counting(dtype, 3)),
      () => buffer.download(),
      () => buffer.fill(0),
    ];
    for (const use of uses) expect(await codeOf(use)).toBe("ERR_MTADAM_DISPOSED");
  });

  test("is freed by Symbol.dispose, and therefore by `using`", () => {
    const buffer = device.buffer(3, dtype);
    buffer[Symbol.dispose]();
    expect(buffer.disposed).toBe(true);
  });
});

describe("a buffer", () => {
  test("has a length from 0 to the memory's size", async () => {
    for (const length of [
      -1,
      0.5,
      NaN,
      Infinity,
      -Infinity,
      2 ** 40 + 1,
      2 ** 53,
      "3",
      3n,
      true,
      undefined,
      Symbol("3"),
    ]) {
      expect(await codeOf(() => device.buffer(length as number))).toBe("ERR_MTADAM_LENGTH");
    }
  });

  test("larger than the available memory is an error with a code", async () => {
    const made: DeviceBuffer[] = [];
    // A system may promise more memory than it has, but the addresses run out.
    const takeAll = (): void => {
      for (let k = 0; k < 64; ++k) made.push(device.buffer(2 ** 40, "float64"));
    };
    const code = await codeOf(takeAll);
    for (const one of made) one.dispose();
    expect(code).toBe("ERR_MTADAM_OUT_OF_MEMORY");
    expect(await device.buffer(Float32Array.of(1)).download()).toEqual(Float32Array.of(1));
  });

  test("has one of four dtypes", async () => {
    for (const dtype of [
      "float",
      "Float32",
      "int32",
      "",
      "constructor",
      "__proto__",
      null,
      4,
      {},
      Symbol("f"),
    ]) {
      expect(await codeOf(() => device.buffer(3, dtype as DType))).toBe("ERR_MTADAM_DTYPE");
    }
  });

  test("is float32 by default", async () => {
    expect(device.buffer(1).dtype).toBe("float32");
    expect(device.buffer(Float32Array.of(1)).dtype).toBe("float32");
    expect(DeviceBuffer.from(Float32Array.of(1), device).dtype).toBe("float32");
    expect(await codeOf(() => device.buffer(Float64Array.of(1) as never))).toBe("ERR_MTADAM_DTYPE");
    expect(await codeOf(() => DeviceBuffer.from(Uint16Array.of(1) as never, device))).toBe(
      "ERR_MTADAM_DTYPE",
    );
  });

  test("cannot be made without a device", async () => {
    expect(await codeOf(() => Reflect.construct(DeviceBuffer, [device, "float32", 3]))).toBe(
      "ERR_MTADAM_OPTION",
    );
    expect(await codeOf(() => Reflect.construct(DeviceBuffer, []))).toBe("ERR_MTADAM_OPTION");
    for (const other of [null, undefined, "cpu", 5, {}]) {
      expect(await codeOf(() => DeviceBuffer.from(Float32Array.of(1), other as never))).toBe(
        "ERR_MTADAM_OPTION",
      );
    }
  });

  test("keeps its properties", () => {
    const buffer = device.buffer(3);
    for (const [key, value] of Object.entries({
      length: 1e9,
      byteLength: 4e9,
      dtype: "float64",
      device: null,
    })) {
      expect(() => Object.assign(buffer, { [key]: value })).toThrow(TypeError);
      expect(() => Object.defineProperty(buffer, key, { value })).toThrow(TypeError);
    }
    expect(() => Object.defineProperty(buffer, "ptr", { value: 0n })).toThrow(TypeError);
    expect(buffer).toMatchObject({ length: 3, byteLength: 12, dtype: "float32" });
  });

  test("has an address of its own", () => {
    const addresses = Array.from({ length: 8 }, () => device.buffer(16));
    const sorted = addresses.map(({ ptr }) => ptr).sort((a, b) => (a < b ? -1 : 1));
    for (const [k, ptr] of sorted.entries()) expect(k === 0 || ptr - sorted[k - 1]! >= 64n).toBe(true);
    expect(addresses[0]!.ptr).toBe(addresses[0]!.ptr);
  });

  test("can still be used after its device was disposed of", async () => {
    const own = testDevice({ threads: 1 });
    const [w, g, sum] = [own.buffer(Float32Array.of(1)), own.buffer(Float32Array.of(1)), own.buffer(1)];
    const optimizer = new MTAdam([w], { terms: 1, lr: 0.5 });
    own.dispose();
    own.dispose();
    expect(own.disposed).toBe(true);
    optimizer.step([[g]]);
    optimizer.step(optimizer.prepare([[g]]));
    expect((await w.download())[0]).toBeCloseTo(0, 6);
    await optimizer.loadStateDict(await optimizer.stateDict());
    optimizer.addGradients([sum], [g]);
    expect(await sum.download()).toEqual(Float32Array.of(1));
  });
});

describe("parameters and gradients in buffers", () => {
  test("of another device are refused", async () => {
    const other = otherDevice();
    const [here, there] = [device.buffer(2), other.buffer(2)];
    const code = "ERR_MTADAM_INVALID_POINTER";
    expect(await codeOf(() => new MTAdam([here, there], { terms: 1 }))).toBe(code);
    expect(await codeOf(() => new MTAdam([there], { terms: 1, device }))).toBe(code);
    const optimizer = new MTAdam([here], { terms: 1 });
    const prepared = optimizer.prepare([null]);
    expect(await codeOf(() => optimizer.step([[there]]))).toBe(code);
    expect(await codeOf(() => optimizer.accumulate(0, [there]))).toBe(code);
    expect(await codeOf(() => prepared.set(0, 0, there))).toBe(code);
    expect(await codeOf(() => optimizer.addGradients([here], [there]))).toBe(code);
    expect(optimizer.iterations).toBe(0);
  });

  test("determine the device of the optimizer", () => {
    const own = testDevice({ threads: 1 });
    expect(new MTAdam([own.buffer(1)], { terms: 1 }).device).toBe(own);
    expect(new MTAdam([own.buffer(1)], { terms: 1, device: own }).device).toBe(own);
  });

  test("are updated in place", async () => {
    const w = device.buffer(Float32Array.of(1, -1));
    const { ptr } = w;
    new MTAdam([w], { terms: 1, lr: 0.5 }).step([[device.buffer(Float32Array.of(3, -4))]]);
    expect(w.ptr).toBe(ptr);
    const [first, second] = await w.download();
    expect(first).toBeCloseTo(0.5, 5);
    expect(second).toBeCloseTo(-0.5, 5);
  });

  test("are not changed as gradients", async () => {
    const gradient = device.buffer(Float32Array.of(3, -4));
    const optimizer = new MTAdam([device.buffer(2)], { terms: 2, weightDecay: 0.1, maximize: true });
    optimizer.step([[gradient], [gradient]]);
    await optimizer.stepEach([() => [gradient], () => [gradient]]);
    expect(await gradient.download()).toEqual(Float32Array.of(3, -4));
  });
});

onCpu("buffers and arrays", () => {
  const values = (k: number): Float32Array => Float32Array.of(k, -2 * k, k + 0.25);

  test.each([
    ["both in buffers", true, true],
    ["parameters in buffers", true, false],
    ["gradients in buffers", false, true],
  ])("give the same bits: %s", async (_, parameters, gradients) => {
    const [inBuffer, inArray] = [device.buffer(values(1)), values(1)];
    const expected = values(1);
    const plain = new MTAdam([expected], { terms: 2, lr: 0.1 });
    const optimizer = new MTAdam([parameters ? inBuffer : inArray], { terms: 2, lr: 0.1, device });
    for (let k = 0; k < 5; ++k) {
      const g = [values(k), values(3 - k)];
      plain.step(g.map((one) => [one]));
      optimizer.step(g.map((one) => [gradients ? device.buffer(one) : one]));
    }
    expect(parameters ? await inBuffer.download() : inArray).toEqual(expected);
  });

  test("over shared memory are uploaded and downloaded", async () => {
    const shared = new Float32Array(new SharedArrayBuffer(12));
    shared.set(values(2));
    const buffer = device.buffer(shared);
    expect(await buffer.download()).toEqual(values(2));
    shared.set(values(3));
    buffer.upload(shared);
    expect(await buffer.download()).toEqual(values(3));
    shared.fill(0);
    expect(await buffer.download(shared)).toBe(shared);
    expect([...shared]).toEqual([...values(3)]);
  });
});

/** The bits that one element has after fill(value). */
async function filled(dtype: "float16" | "bfloat16", value: number): Promise<number> {
  const buffer = device.buffer(1, dtype);
  buffer.fill(value);
  const [bits] = await buffer.download();
  buffer.dispose();
  return bits!;
}

const hex = (bits: number): string => bits.toString(16).padStart(4, "0");

/** The value of bits with `fraction` bits of fraction; the exponent has the rest of the 15. */
function decode(bits: number, fraction: number): number {
  const exponent = (bits & 0x7fff) >> fraction;
  const significand = bits & ((1 << fraction) - 1);
  const most = (1 << (15 - fraction)) - 1;
  const bias = most >> 1;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === most) return significand === 0 ? sign * Infinity : NaN;
  const scale = 2 ** (Math.max(exponent, 1) - bias - fraction);
  return sign * ((exponent === 0 ? 0 : 1 << fraction) + significand) * scale;
}

/** The nearest value, ties to even, found by bisection over all bit patterns. */
function nearest(value: number, fraction: number): number {
  if (Number.isNaN(value)) return NaN;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  const infinity = ((1 << (15 - fraction)) - 1) << fraction;
  let [below, above] = [0, infinity];
  while (above - below > 1) {
    const middle = (below + above) >> 1;
    if (decode(middle, fraction) <= magnitude) below = middle;
    else above = middle;
  }
  // Beyond the largest, a value rounds as if the next exponent existed.
  const next = above === infinity ? 2 * 2 ** (infinity === 0x7c00 ? 15 : 127) : decode(above, fraction);
  const [down, up] = [magnitude - decode(below, fraction), next - magnitude];
  if (magnitude >= next) return sign | above;
  return sign | (down < up || (down === up && below % 2 === 0) ? below : above);
}

/** A value between two neighbours, often exactly or almost halfway. */
const between = fc.record({
  sign: fc.constantFrom(1, -1),
  part: fc.oneof(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.constantFrom(0, 0.5, 1),
    fc.integer({ min: -38, max: -2 }).map((k) => 0.5 + 2 ** k),
    fc.integer({ min: -38, max: -2 }).map((k) => 0.5 - 2 ** k),
  ),
});

const tiny = 2 ** -40;

describe("filling float16", () => {
  test.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [0.1, 0x2e66],
    [1 / 3, 0x3555],
    [Math.PI, 0x4248],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [-1e300, 0xfc00],
    [Infinity, 0x7c00],
    [-Infinity, 0xfc00],
    // Ties to even, at 1 and with a carry into the exponent.
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [1 + 2 ** -11 + tiny, 0x3c01],
    [1 + 3 * 2 ** -11 - tiny, 0x3c01],
    [2 - 2 ** -11, 0x4000],
    [2 - 2 ** -11 - tiny, 0x3fff],
    // Subnormals.
    [2 ** -14, 0x0400],
    [1023 * 2 ** -24, 0x03ff],
    [1023.5 * 2 ** -24, 0x0400],
    [1022.5 * 2 ** -24, 0x03fe],
    [2 ** -24, 0x0001],
    [-3 * 2 ** -24, 0x8003],
    [2 ** -25, 0x0000],
    [-(2 ** -25), 0x8000],
    [2 ** -25 * (1 + tiny), 0x0001],
    [3 * 2 ** -25, 0x0002],
    [Number.MIN_VALUE, 0x0000],
  ])("%p: pattern %i", async (value, bits) => {
    expect(hex(await filled("float16", value))).toBe(hex(bits));
  });

  test("NaN gives a NaN", async () => {
    expect(decode(await filled("float16", NaN), 10)).toBeNaN();
  });

  test("every value gives the nearest, and every pattern itself", async () => {
    for (let bits = 0; bits < 0x7c00; bits += 7) {
      expect(await filled("float16", decode(bits, 10))).toBe(bits);
    }
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 0x7bff }), between, async (bits, { sign, part }) => {
        const [low, high] = [decode(bits, 10), bits === 0x7bff ? 65536 : decode(bits + 1, 10)];
        const value = sign * (low + part * (high - low));
        expect(hex(await filled("float16", value))).toBe(hex(nearest(value, 10)));
      }),
      { numRuns: 1000 },
    );
  });
});

describe("filling bfloat16", () => {
  test.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3f80],
    [-2, 0xc000],
    [0.1, 0x3dcd],
    [1 / 3, 0x3eab],
    [Math.PI, 0x4049],
    [255 * 2 ** 120, 0x7f7f],
    [255.4999 * 2 ** 120, 0x7f7f],
    [255.5 * 2 ** 120, 0x7f80],
    [-1e300, 0xff80],
    [Infinity, 0x7f80],
    [-Infinity, 0xff80],
    // Ties to even; the last two miss a tie by less than float32 can represent.
    [1 + 2 ** -8, 0x3f80],
    [1 + 3 * 2 ** -8, 0x3f82],
    [1 + 2 ** -8 + 2 ** -23, 0x3f81],
    [2 - 2 ** -8, 0x4000],
    [1 + 2 ** -8 + tiny, 0x3f81],
    [1 + 3 * 2 ** -8 - tiny, 0x3f81],
    // Subnormals.
    [2 ** -126, 0x0080],
    [127 * 2 ** -133, 0x007f],
    [127.5 * 2 ** -133, 0x0080],
    [2 ** -133, 0x0001],
    [-3 * 2 ** -133, 0x8003],
    [2 ** -134, 0x0000],
    [3 * 2 ** -134, 0x0002],
    [2 ** -134 * (1 + tiny), 0x0001],
    [Number.MIN_VALUE, 0x0000],
  ])("%p: pattern %i", async (value, bits) => {
    expect(hex(await filled("bfloat16", value))).toBe(hex(bits));
  });

  test("NaN gives a NaN", async () => {
    expect(decode(await filled("bfloat16", NaN), 7)).toBeNaN();
  });

  test("every value gives the nearest, and every pattern itself", async () => {
    for (let bits = 0; bits < 0x7f80; bits += 7) {
      expect(await filled("bfloat16", decode(bits, 7))).toBe(bits);
    }
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 0x7f7f }), between, async (bits, { sign, part }) => {
        const [low, high] = [decode(bits, 7), bits === 0x7f7f ? 2 ** 128 : decode(bits + 1, 7)];
        const value = sign * (low + part * (high - low));
        expect(hex(await filled("bfloat16", value))).toBe(hex(nearest(value, 7)));
      }),
      { numRuns: 1000 },
    );
  });
});

describe("filling", () => {
  const values = [0.1, -0, 1e-46, 2 ** -149, 1e300, NaN, Infinity, 1 / 3, 2 ** -1074];

  test.each(values)("float32 and float64 with %p", async (value) => {
    const [single, double] = [device.buffer(2), device.buffer(2, "float64")];
    single.fill(value);
    double.fill(value);
    expect(await single.download()).toEqual(new Float32Array(2).fill(value));
    expect(await double.download()).toEqual(new Float64Array(2).fill(value));
  });
});
