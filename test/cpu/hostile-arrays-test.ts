/** Arrays that are not plain Float32Arrays, or claim a false length. */

import vm from "node:vm";
import { MTAdam, openDevice } from "../../lib";
import { HostileScene, outcome } from "../support/hostile";

/** Node's types have no WebAssembly. */
interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: { Memory: new (of: { initial: number; maximum: number; shared?: boolean }) => Memory };
};

describe("arrays that are not plain ones", () => {
  class Weights extends Float32Array {
    override get length(): number {
      return super.length;
    }
  }
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 });
  const sharedMemory = new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true });
  const over = (buffer: ArrayBufferLike, values: readonly number[]): Float32Array => {
    const array = new Float32Array(buffer, 64, values.length);
    array.set(values);
    return array;
  };
  const fake = (key: PropertyKey, value: unknown) => (values: readonly number[]) =>
    Object.defineProperty(Float32Array.from(values), key, { value });
  const kinds: Record<string, (values: readonly number[]) => Float32Array> = {
    "of a subclass": (values) => Weights.from(values),
    "of another realm": (values) =>
      vm.runInNewContext("Float32Array.from(values)", { values: [...values] }) as Float32Array,
    "over shared memory": (values) => over(new SharedArrayBuffer(128), values),
    "over WebAssembly's memory": (values) => over(memory.buffer, values),
    "over WebAssembly's shared memory": (values) => over(sharedMemory.buffer, values),
    "frozen as an object": (values) => Object.preventExtensions(Float32Array.from(values)),
    "with its own buffer": fake("buffer", new ArrayBuffer(0)),
    "with its own constructor": fake("constructor", null),
    "with its own name": fake(Symbol.toStringTag, "Float64Array"),
    "with its own iterator": fake(Symbol.iterator, () => ({ next: () => ({ done: true }) })),
    "with its own byteOffset and ptr": (values) =>
      Object.assign(fake("byteOffset", 1e9)(values), { ptr: 8n, data: 8n }),
  };
  const run = (make: (values: readonly number[]) => Float32Array): number[] => {
    const [w, g, h] = [make([1, 2, 3]), make([1, -2, 0.5]), make([3, 2, 1])];
    const optimizer = new MTAdam([w], { terms: 2, lr: 0.1 });
    optimizer.step([[g], [h]]);
    optimizer.step(optimizer.prepare([[h], [g]]));
    optimizer.addGradients([g], [h]);
    optimizer.accumulate(0, [g]);
    optimizer.update();
    return Array.prototype.slice.call(w) as number[];
  };
  // The kinds over WebAssembly's memory would overlap, so another test covers them.
  test.each(Object.entries(kinds).filter(([what]) => !what.includes("WebAssembly")))(
    "%s are taken",
    (_, make) => {
      expect(run(make)).toEqual(run((values) => Float32Array.from(values)));
    },
  );

  test.each([
    ["memory", memory],
    ["shared memory", sharedMemory],
  ])("over WebAssembly's %s are taken", (_, { buffer }) => {
    let at = 0;
    const make = (values: readonly number[]): Float32Array => {
      const array = new Float32Array(buffer, (at += 64), values.length);
      array.set(values);
      return array;
    };
    expect(run(make)).toEqual(run((values) => Float32Array.from(values)));
  });

  test("without a prototype are taken or refused", async () => {
    const w = Object.setPrototypeOf(Float32Array.of(1, 2, 3), null) as Float32Array;
    const { optimizer } = new HostileScene(true);
    for (const call of [() => new MTAdam([w], { terms: 1 }), () => optimizer.accumulate(0, [w, null])]) {
      expect(await outcome(call)).toMatch(/^(works|ERR_MTADAM_\w+)$/);
    }
  });

  test("growing WebAssembly memory detaches its arrays", async () => {
    const growing = new WebAssembly.Memory({ initial: 1, maximum: 4 });
    const [w, g] = [over(growing.buffer, [1, 2]), Float32Array.of(1, 1)];
    const optimizer = new MTAdam([w], { terms: 1 });
    optimizer.step([[g]]);
    growing.grow(1);
    for (const call of [
      () => optimizer.step([[g]]),
      () => optimizer.accumulate(0, [g]),
      () => optimizer.update(),
    ]) {
      expect(await outcome(call)).toBe("ERR_MTADAM_LENGTH");
    }
    const fixed = Float32Array.of(1, 2);
    const gradient = over(growing.buffer, [1, 1]);
    const other = new MTAdam([fixed], { terms: 1 });
    const prepared = other.prepare([[gradient]]);
    other.step(prepared);
    growing.grow(1);
    expect(await outcome(() => other.step(prepared))).toBe("ERR_MTADAM_LENGTH");
    expect(await outcome(() => other.step([[gradient]]))).toBe("ERR_MTADAM_LENGTH");
    expect(other.iterations).toBe(1);
  });

  const lengths = [
    0,
    2,
    4,
    1e9,
    2 ** 40,
    -1,
    0.5,
    NaN,
    "3",
    3n,
    null,
    undefined,
    Symbol("3"),
    { valueOf: () => 3 },
  ];
  test.each(lengths)("a false length of %p does not bypass a check", async (length) => {
    const liar = (): Float32Array => fake("length", length)([1, 2, 3]);
    const device = openDevice("cpu", { threads: 1 });
    const came: string[] = [];
    const allowed = async (call: () => unknown): Promise<void> => {
      came.push(await outcome(call).catch(String));
    };
    // If it is accepted, its three real elements are used.
    await allowed(() => {
      const w = liar();
      new MTAdam([w], { terms: 1, lr: 0.5 }).step([[Float32Array.of(1, 1, 1)]]);
      expect([w[0], w[1], w[2]].map((value) => value?.toFixed(3))).toEqual(["0.500", "1.500", "2.500"]);
    });
    await allowed(() => {
      const w = Float32Array.of(1, 2, 3);
      new MTAdam([w], { terms: 1 }).step([[liar()]]);
      expect(w).not.toEqual(Float32Array.of(1, 2, 3));
    });
    await allowed(async () => {
      const buffer = device.buffer(liar());
      expect(buffer).toMatchObject({ length: 3, byteLength: 12 });
      expect(await buffer.download()).toEqual(Float32Array.of(1, 2, 3));
    });
    await allowed(async () => {
      const buffer = device.buffer(3);
      buffer.upload(liar());
      expect(await buffer.download()).toEqual(Float32Array.of(1, 2, 3));
    });
    await allowed(() => device.buffer(3).download(liar()));
    // A false length that matches the buffer must not bypass the check either.
    for (const size of [2, 4]) {
      const buffer = device.buffer(new Float32Array(size));
      const lying = fake("length", size)([1, 2, 3]);
      await allowed(() => {
        buffer.upload(lying);
        throw new Error("a part was uploaded");
      });
      await allowed(async () => {
        await buffer.download(lying);
        throw new Error("a part was downloaded");
      });
    }
    expect(came.filter((one) => !/^(works|TypeError|ERR_MTADAM_\w+)$/.test(one))).toEqual([]);
  });
});
