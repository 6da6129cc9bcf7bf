/** Errors for memory that cannot be a parameter or a gradient: types, overlaps, pointers, detached arrays. */

import { describeDevices } from "../../lib";
import { onCpu } from "../support/device";
import {
  array,
  buffer,
  checkError,
  everything,
  inArrays,
  onDevice,
  refusal,
  refuses,
  type Subject,
  thrownBy,
  withParameters,
  write,
} from "../support/refusals";
import { device, type Buffer32 } from "../support/scene";

onCpu("a value that is not a dense array of the dtype", () => {
  const values: [what: string, value: unknown][] = [
    ["a Float64Array", Float64Array.of(1, 2, 3)],
    ["an Int32Array", Int32Array.of(1, 2, 3)],
    ["a Uint16Array", Uint16Array.of(1, 2, 3)],
    ["a Node Buffer", Buffer.alloc(12)],
    ["an array of numbers", [1, 2, 3]],
    ["an empty array", []],
    ["a DataView", new DataView(new ArrayBuffer(12))],
    ["an ArrayBuffer", new ArrayBuffer(12)],
    ["a SharedArrayBuffer", new SharedArrayBuffer(12)],
    ["an object", {}],
    ["an object like an array", { 0: 1, 1: 2, 2: 3, length: 3 }],
    ["an object that says it is one", { [Symbol.toStringTag]: "Float32Array", length: 3 }],
    ["a prototype", Object.create(Float32Array.prototype)],
    ["a proxy", new Proxy(array(1, 2, 3), {})],
    ["a string", "123"],
    ["true", true],
    ["a function", (): void => undefined],
    ["a symbol", Symbol("data")],
    ["a float64 buffer", device.buffer(3, "float64")],
    ["a float16 buffer", device.buffer(3, "float16")],
    ["a bfloat16 buffer", device.buffer(3, "bfloat16")],
  ];
  refuses("ERR_MTADAM_DTYPE", onDevice, [
    ...values.flatMap(([what, value]) => [
      refusal(`${what} as a parameter`, /^`w` must /, () => withParameters([{ name: "w", data: value }])),
      refusal(`${what} as a bare parameter`, /^`0` must /, () => withParameters([value])),
      refusal(`${what} as a gradient`, /^`gradients\["style"\]\["w"\]` must /, ({ optimizer, g }: Subject) =>
        optimizer.step({ content: g, style: { w: value as Buffer32 } }),
      ),
      refusal(
        `${what} as a prepared gradient`,
        /^`gradients\["content"\]\["w"\]` must /,
        ({ optimizer, g }: Subject) => optimizer.prepare([g, g]).set(0, 0, value as Buffer32),
      ),
      refusal(`${what} as addGradients's target`, /^`target\["w"\]` must /, ({ optimizer, g }: Subject) =>
        optimizer.addGradients([value as Buffer32, g[1]], g),
      ),
      refusal(`${what} as addGradients's source`, /^`source\["b"\]` must /, ({ optimizer, g }: Subject) =>
        optimizer.addGradients(g, [g[0], value as Buffer32]),
      ),
    ]),
    ...[null, undefined].map((value) =>
      refusal(`${value} as a parameter`, /^`w` must /, () => withParameters([{ name: "w", data: value }])),
    ),
    ...["float64", "float8", "Float32", 4, null].map((dtype) =>
      refusal(`the dtype ${write(dtype)} of a parameter`, /^`w\.dtype` must be "float32"/, () =>
        withParameters([{ name: "w", data: buffer(1), dtype }]),
      ),
    ),
    refusal("a float32 buffer as a parameter of float16", /^`w` must be float16; got a float32 buffer/, () =>
      withParameters([{ name: "w", data: buffer(1), dtype: "float16" }]),
    ),
    refusal("a target absent where addGradients has a source", /^`target\["b"\]` must /, ({ optimizer, g }) =>
      optimizer.addGradients({ w: g[0] }, g),
    ),
  ]);
});

describe("shared memory", () => {
  // The places of two tensors in one array of 8 elements.
  type Place = [begin: number, end: number];
  const overlapping: [what: string, one: Place, other: Place][] = [
    ["the same memory", [0, 4], [0, 4]],
    ["one at the start of the other", [0, 8], [0, 2]],
    ["one in the middle of the other", [0, 8], [3, 5]],
    ["one at the end of the other", [0, 8], [6, 8]],
    ["one that reaches into the other", [0, 4], [2, 6]],
    ["one element of both", [0, 4], [3, 7]],
  ];
  const inBothOrders = overlapping.flatMap(([what, one, other]): [string, Place, Place][] => [
    [what, one, other],
    [`${what}, in reverse order`, other, one],
  ]);
  const apart: [what: string, one: Place, other: Place][] = [
    ["next to each other", [0, 4], [4, 8]],
    ["with a gap", [0, 2], [6, 8]],
    ["one empty, inside the other", [0, 8], [4, 4]],
    ["both empty, in one place", [4, 4], [4, 4]],
  ];

  refuses("ERR_MTADAM_INVALID_POINTER", onDevice, [
    refusal("by two parameters in one buffer", /"w" and "b"/, ({ w }) =>
      withParameters([
        { name: "w", data: w },
        { name: "b", data: w },
      ]),
    ),
    refusal(
      "by a gradient and its parameter",
      /^`gradients\["style"\]\["w"\]` must not overlap a parameter; .*"w"/,
      ({ optimizer, w, g }) => optimizer.step([g, [w, g[1]]]),
    ),
    refusal("by a prepared gradient and its parameter", /"b"/, ({ optimizer, b, g }) =>
      optimizer.prepare([g, g]).set("style", "b", b),
    ),
  ]);

  onCpu("arrays", () => {
    const views = (one: Place, other: Place): [Float32Array, Float32Array] => {
      const all = new Float32Array(8).fill(1);
      return [all.subarray(...one), all.subarray(...other)];
    };
    // With another parameter between them in the list, since only the order of addresses counts.
    refuses<Subject<Float32Array>>("ERR_MTADAM_INVALID_POINTER", inArrays, [
      ...inBothOrders.flatMap(([what, one, other]) => [
        refusal<Subject<Float32Array>>(
          `two parameters, ${what}`,
          /^`parameters` must not overlap; got "(w" and "b|b" and "w)"/,
          () => {
            const [w, b] = views(one, other);
            return withParameters([
              { name: "w", data: w },
              { name: "between", data: array(1) },
              { name: "b", data: b },
            ]);
          },
        ),
        refusal<Subject<Float32Array>>(
          `a gradient and a parameter, ${what}`,
          /^`gradients\["0"\]\["w"\]` must not overlap a parameter; .*"b"/,
          () => {
            const [b, gradient] = views(one, other);
            const w = new Float32Array(gradient.length);
            const optimizer = withParameters([
              { name: "between", data: array(1) },
              { name: "w", data: w },
              { name: "b", data: b },
            ]);
            try {
              optimizer.accumulate(0, { w: gradient });
            } finally {
              expect([...w, ...b].every((value, k) => value === (k < w.length ? 0 : 1))).toBe(true);
            }
          },
        ),
      ]),
    ]);

    test.each(apart)("two parameters may lie %s", (_, one, other) => {
      const [w, b] = views(one, other);
      const optimizer = withParameters([w, b]);
      optimizer.step([[new Float32Array(w.length).fill(1), new Float32Array(b.length).fill(1)]]);
      expect([...w, ...b].every((value) => value < 1)).toBe(true);
    });

    test.each(apart)("a gradient and a parameter may lie %s", (_, one, other) => {
      const [w, gradient] = views(one, other);
      const b = new Float32Array(gradient.length);
      withParameters([w, b]).step([[null, gradient]]);
      expect([...w].every((value) => value === 1)).toBe(true);
      expect([...b].every((value) => value < 0)).toBe(true);
    });
  });

  test("two terms may share a gradient", async () => {
    const { optimizer, w, g } = onDevice();
    const before = await w.download();
    optimizer.step([g, g]);
    expect(await w.download()).not.toEqual(before);
  });
});

onCpu("a bare pointer", () => {
  const pointers: [what: string, value: (w: Buffer32) => unknown][] = [
    ["a bigint", () => 4096n],
    ["a number", () => 4096],
    ["0", () => 0],
    ["the address of a buffer", (w) => w.ptr],
    ["an object with ptr", (w) => ({ ptr: w.ptr, byteLength: 12 })],
    ["a view of an object with ptr", (w) => ({ buffer: { ptr: w.ptr }, byteOffset: 0, byteLength: 12 })],
    [
      "an array interface",
      (w) => ({
        __cuda_array_interface__: { data: [w.ptr, false], shape: [3], typestr: "<f4", version: 3 },
      }),
    ],
  ];
  // Such as "No NVIDIA driver is installed."
  const { reason = "a CUDA device is usable here" } = describeDevices().cuda;
  const saysWhy = new RegExp(`^\`w\` is a device pointer, .*: ${reason}$`);
  refuses(
    "ERR_MTADAM_INVALID_POINTER",
    onDevice,
    pointers.flatMap(([what, value]) => [
      refusal(`${what} as a parameter on this device`, /^`w` must .*CPU/, ({ w }) =>
        withParameters([{ name: "w", data: value(w), length: 3 }], device),
      ),
      refusal(`${what} as a parameter`, saysWhy, ({ w }) =>
        withParameters([{ name: "w", data: value(w), length: 3 }]),
      ),
      refusal(`${what} as a gradient`, /^`gradients\["content"\]\["w"\]` must .*CPU/, ({ optimizer, w }) =>
        optimizer.accumulate(0, { w: value(w) as Buffer32 }),
      ),
    ]),
  );
  refuses("ERR_MTADAM_LENGTH", onDevice, [
    refusal("without its length", /^`w\.length` must .*; got undefined/, () =>
      withParameters([{ name: "w", data: 4096n }]),
    ),
    refusal("with a shape of another length", /^`w\.shape` must have the 3 elements/, () =>
      withParameters([{ name: "w", data: 4096n, length: 3, shape: [2, 2] }]),
    ),
  ]);
});

onCpu("an array whose memory may be detached", () => {
  type Resizable<T> = new (bytes: number, options: { maxByteLength: number }) => T;
  const resizable = (): ArrayBuffer => new (ArrayBuffer as Resizable<ArrayBuffer>)(12, { maxByteLength: 24 });
  const growable = (): SharedArrayBuffer =>
    new (SharedArrayBuffer as Resizable<SharedArrayBuffer>)(12, { maxByteLength: 24 });
  const arrays: [what: string, make: () => Float32Array][] = [
    ["a resizable buffer", () => new Float32Array(resizable())],
    ["a part of a resizable buffer", () => new Float32Array(resizable(), 0, 3)],
    ["a growable shared buffer", () => new Float32Array(growable())],
    ["a part of a growable shared buffer", () => new Float32Array(growable(), 0, 3)],
  ];
  const says = /fixed size/;
  refuses(
    "ERR_MTADAM_INVALID_POINTER",
    inArrays,
    arrays.flatMap(([what, make]) => [
      refusal(`${what} as a parameter`, says, () => withParameters([make()])),
      refusal(`${what} as a gradient`, says, ({ optimizer }) => optimizer.accumulate(0, [make(), null])),
      refusal(`${what} in addGradients`, says, ({ optimizer, g }) =>
        optimizer.addGradients(g, [make(), null]),
      ),
    ]),
  );

  const detach = ({ buffer }: Float32Array): void => {
    structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
  };
  type Arrays = Subject<Float32Array>;
  const sayings = {
    parameter: /^`b` must keep its 2 elements; got 0, since its ArrayBuffer was detached/,
    gradient: /^`gradients\["content"\]\["w"\]` must keep its 3 elements; got 0, .*detached/,
  };
  const calls: [what: string, call: (subject: Arrays) => unknown, given?: (subject: Arrays) => unknown][] = [
    ["step", ({ optimizer }) => optimizer.step([[array(1, 1, 1), null], null])],
    ["accumulate", ({ optimizer }) => optimizer.accumulate(0, [array(1, 1, 1), null])],
    ["update", ({ optimizer }) => optimizer.update()],
    [
      "update of an open step",
      ({ optimizer }) => optimizer.update(),
      ({ optimizer, g }) => optimizer.accumulate(0, g),
    ],
    ["stepEach", ({ optimizer }) => optimizer.stepEach([() => [array(1, 1, 1), null], null])],
    ["stepEach of nothing", ({ optimizer }) => optimizer.stepEach([null, null])],
  ];
  refuses("ERR_MTADAM_LENGTH", inArrays, [
    ...calls.map(([what, call, given]) =>
      refusal(`a parameter detached before ${what}`, sayings.parameter, call, (subject: Arrays) => {
        given?.(subject);
        detach(subject.b);
      }),
    ),
    refusal(
      "a parameter detached before the optimizer is made",
      /^`w/,
      ({ g }) => withParameters([{ name: "w", data: g[0], length: 3 }]),
      ({ g }) => detach(g[0]),
    ),
    refusal(
      "a gradient that step had last time, detached since",
      sayings.gradient,
      ({ optimizer, g }) => optimizer.step([g, null]),
      ({ g }) => detach(g[0]),
    ),
    refusal(
      "a gradient that accumulate had last time, detached since",
      sayings.gradient,
      ({ optimizer, g }) => optimizer.accumulate(0, g),
      ({ g }) => detach(g[0]),
    ),
    refusal(
      "a new gradient, detached already",
      /^`gradients\["content"\]\["w"\]` must have 3 elements/,
      ({ optimizer }) => {
        const gradient = array(1, 1, 1);
        detach(gradient);
        optimizer.step([[gradient, null], null]);
      },
    ),
  ]);

  test("a detached prepared gradient is refused by step and by zero", async () => {
    const subject = inArrays();
    const [gradient, other] = [array(1, 1, 1), array(1, 1)];
    const prepared = subject.optimizer.prepare([[gradient, other], null]);
    detach(gradient);
    const before = await everything(subject);
    for (const call of [() => subject.optimizer.step(prepared), () => prepared.zero()]) {
      const error = await thrownBy(call);
      checkError(error, "ERR_MTADAM_LENGTH");
      expect(error.message).toMatch(sayings.gradient);
    }
    expect(await everything(subject)).toEqual(before);
    expect(other).toEqual(array(1, 1));
    prepared.set(0, 0, array(1, 1, 1));
    subject.optimizer.step(prepared);
    expect(subject.optimizer.iterations).toBe(2);
  });
});
