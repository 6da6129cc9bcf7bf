/** Random values in place of any argument, or of a part of one. */

import fc from "fast-check";
import { MTAdam } from "../../lib";
import { checkStream } from "../../lib/memory/stream";
import { inBuffers, outcome, ownDevice } from "../support/hostile";
import { uses } from "../support/uses";

/** Whether the value would be passed to the driver as the handle of a stream. */
function isHandle(value: unknown): boolean {
  try {
    return checkStream(value) !== null;
  } catch {
    return false;
  }
}

/** Values for `stream`. A real driver dereferences a handle, so an invalid one ends the process. */
function forStream(wrong: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return testDeviceKind === "cuda" ? wrong.filter((value) => !isHandle(value)) : wrong;
}

/** The valid argument with some of its parts replaced, or another value. */
function spoiled(right: unknown, wrong: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  if (ArrayBuffer.isView(right) || typeof right !== "object" || right === null) {
    return fc.oneof({ weight: 3, arbitrary: fc.constant(right) }, wrong);
  }
  if (Array.isArray(right)) {
    return fc.oneof({ weight: 4, arbitrary: fc.tuple(...right.map((one) => spoiled(one, wrong))) }, wrong);
  }
  const prototype: unknown = Object.getPrototypeOf(right);
  if (prototype !== Object.prototype) return fc.oneof({ weight: 3, arbitrary: fc.constant(right) }, wrong);
  const parts = Object.fromEntries(
    Object.entries(right).map(([key, value]) => [
      key,
      spoiled(value, key === "stream" ? forStream(wrong) : wrong),
    ]),
  );
  return fc.oneof({ weight: 4, arbitrary: fc.record(parts, { requiredKeys: [] }) }, wrong);
}

const harmless: fc.Arbitrary<unknown> = fc.oneof(
  fc.anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withObjectString: true,
    withSet: true,
    withSparseArray: true,
    withTypedArray: true,
  }),
  fc.double(),
  fc.constantFrom<unknown>(
    ...[Symbol("any"), Symbol.iterator, (): void => undefined, /x/, new WeakMap(), new Error("any")],
    ...[
      -0,
      2 ** 31,
      2 ** 32,
      2 ** 53,
      -(2 ** 53),
      2 ** 64,
      2n ** 64n,
      -1n,
      "__proto__",
      "constructor",
      "length",
    ],
    ...[new ArrayBuffer(8), new SharedArrayBuffer(8), new DataView(new ArrayBuffer(8)), Buffer.from("any")],
    ...[
      new Float32Array(0),
      new Float32Array(2),
      new Float32Array(3),
      new Float64Array(3),
      new BigInt64Array(3),
    ],
    ...[
      new Proxy({}, {}),
      new Proxy([], {}),
      new Proxy(new Float32Array(3), {}),
      Object.create(Float32Array.prototype),
    ],
    ...[
      Promise.resolve(),
      globalThis,
      Object.prototype,
      Array.prototype,
      Float32Array.prototype,
      MTAdam.prototype,
    ],
    ...[ownDevice, ownDevice.buffer(3), ownDevice.buffer(2, "float16")],
  ),
);

describe("anything, anywhere", () => {
  test.each(Object.entries(uses))("%s works, or is an MTAdamError and changes nothing", async (name, use) => {
    const scene = inBuffers();
    const given = use.arguments.map((argument) => spoiled(argument(scene), harmless));
    let before = await scene.fingerprint();
    await fc.assert(
      fc.asyncProperty(fc.tuple(...given), async (values) => {
        const came = await outcome(() => use.call(scene, values as never[])).catch(String);
        expect(came).toMatch(/^(works|ERR_MTADAM_\w+)$/);
        // A rejected stepEach keeps the terms that were accumulated.
        if (came !== "works" && name !== "stepEach") expect(await scene.fingerprint()).toBe(before);
        scene.optimizer.update();
        before = await scene.fingerprint();
      }),
      { numRuns: 200 },
    );
  });
});
