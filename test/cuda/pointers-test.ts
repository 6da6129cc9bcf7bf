import { MTAdam, openDevice, type DeviceBuffer, type DevicePointerLike, type TensorData } from "../../lib";
import { caught } from "../support/caught";
import { onCuda, onExecutor, otherDevice, testDevice } from "../support/device";
import { executor, MACHINE } from "../support/executor";

// Like some drivers, the executor reuses memory as soon as it is freed: an allocation of the package must not lie where
// an unchecked pointer points.
if (testDeviceKind === "executor") executor().reset(`${MACHINE} quarantine=0`);

const device = testDevice();
const LENGTH = 100;
const BYTES = LENGTH * 4;

/** θ after two steps of two terms, with parameter and gradients given in some form. */
async function trained(form: (buffer: Float32Buffer) => TensorData, length?: number): Promise<Float32Array> {
  const theta = device.buffer(Float32Array.from({ length: LENGTH }, (_, k) => k / 7));
  const gradients = [1, -3].map((scale) =>
    device.buffer(Float32Array.from({ length: LENGTH }, (_, k) => scale * Math.sin(k))),
  );
  const data = form(theta);
  const parameter = length === undefined ? { data } : { data, length };
  const optimizer = new MTAdam([parameter], { terms: 2, device });
  for (let step = 0; step < 2; ++step) optimizer.step(gradients.map((gradient) => [form(gradient)]));
  expect(optimizer.device).toBe(device);
  optimizer.dispose();
  return theta.download();
}

type Float32Buffer = DeviceBuffer<"float32">;

/** Memory as a CUDA array interface. */
const arrayInterface = (ptr: bigint, more: object = {}): DevicePointerLike => ({
  __cuda_array_interface__: { shape: [LENGTH], typestr: "<f4", data: [ptr, false], version: 3, ...more },
});

onCuda("a pointer", () => {
  const forms: [string, (ptr: bigint) => TensorData, number?][] = [
    ["a bigint", (ptr) => ptr, LENGTH],
    ["a number", (ptr) => Number(ptr), LENGTH],
    ["an object with ptr", (ptr) => ({ ptr }), LENGTH],
    ["an object with ptr as a number", (ptr) => ({ ptr: Number(ptr) }), LENGTH],
    ["an object with ptr and byteLength", (ptr) => ({ ptr, byteLength: BYTES })],
    ["an object with ptr and byteOffset", (ptr) => ({ ptr: ptr - 64n, byteOffset: 64, byteLength: BYTES })],
    ["a view", (ptr) => ({ buffer: { ptr: ptr - 8n }, byteOffset: 8, byteLength: BYTES })],
    ["an array interface", (ptr) => arrayInterface(ptr)],
    ["an array interface of two dimensions", (ptr) => arrayInterface(ptr, { shape: [4, 25], strides: null })],
    ["an array interface with strides", (ptr) => arrayInterface(ptr, { shape: [4, 25], strides: [100, 4] })],
    [
      "an array interface, a dimension of one",
      (ptr) => arrayInterface(ptr, { shape: [1, 100], strides: [9, 4] }),
    ],
  ];
  test.each(forms)("as %s trains as a buffer does", async (...[, form, length]) => {
    const expected = await trained((buffer) => buffer);
    expect(await trained((buffer) => form(buffer.ptr), length)).toEqual(expected);
  });

  test.each([4, 8, 12])("that is %d bytes past a boundary trains as one that is on it", async (offset) => {
    const expected = await trained((buffer) => buffer);
    const moved = async (): Promise<Float32Array> => {
      const padding = offset / 4;
      const place = (values: Float32Array): Float32Buffer => {
        const buffer = device.buffer(LENGTH + padding);
        const all = new Float32Array(LENGTH + padding);
        all.set(values, padding);
        buffer.upload(all);
        return buffer;
      };
      const theta = place(Float32Array.from({ length: LENGTH }, (_, k) => k / 7));
      const gradients = [1, -3].map((scale) =>
        place(Float32Array.from({ length: LENGTH }, (_, k) => scale * Math.sin(k))),
      );
      const at = ({ ptr }: Float32Buffer): DevicePointerLike => ({
        ptr,
        byteOffset: offset,
        byteLength: BYTES,
      });
      const optimizer = new MTAdam([at(theta)], { terms: 2, device });
      for (let step = 0; step < 2; ++step) optimizer.step(gradients.map((gradient) => [at(gradient)]));
      return (await theta.download()).slice(padding);
    };
    expect(await moved()).toEqual(expected);
  });

  test("with a shape needs no length", async () => {
    const theta = device.buffer(6);
    const optimizer = new MTAdam([{ data: theta.ptr, shape: [2, 3] }], { terms: 1, lr: 0.5, device });
    optimizer.step([[device.buffer(new Float32Array(6).fill(1))]]);
    expect([...(await theta.download())].map((value) => value.toFixed(3))).toEqual(Array(6).fill("-0.500"));
    const parameter = { name: "w", data: theta.ptr, shape: [2, -3] };
    expect(await caught(() => new MTAdam([parameter], { terms: 1, device }))).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: "`w.shape` must be a list of whole numbers; got an array of 2.",
    });
  });

  test("of a view gives access to the viewed memory", async () => {
    const buffer = device.buffer(8);
    const parameters = [0, 1].map((k) => ({ buffer, byteOffset: 16 * k, byteLength: 16 }));
    const ones = device.buffer(Float32Array.of(1, 1, 1, 1));
    const optimizer = new MTAdam(parameters, { terms: 1, lr: 0.5, device });
    optimizer.step([[null, ones]]);
    const moved = [...(await buffer.download())].map((value) => Math.round(value * 1000) / 1000);
    expect(moved).toEqual([0, 0, 0, 0, -0.5, -0.5, -0.5, -0.5]);
  });

  test("of no elements may be null", () => {
    const optimizer = new MTAdam([{ data: 0n, length: 0 }, device.buffer(1)], { terms: 1, device });
    optimizer.step([[{ ptr: 0 }, null]]);
    expect(optimizer.iterations).toBe(1);
  });

  onExecutor("is checked once while it stays the same", async () => {
    const theta = device.buffer(LENGTH);
    const gradient = device.buffer(LENGTH);
    const other = device.buffer(LENGTH);
    const optimizer = new MTAdam([theta], { terms: 1, device });
    const asked = (): number => executor().counters().calls["cudaPointerGetAttributes"] ?? 0;
    executor().resetCounters();
    for (let step = 0; step < 5; ++step) optimizer.step([[gradient.ptr]]);
    expect(asked()).toBe(1);
    optimizer.step([[other.ptr]]);
    optimizer.step([[gradient.ptr]]);
    optimizer.step([[{ ptr: other.ptr }]]);
    expect(asked()).toBe(2);
    // The package's own buffers need no query.
    optimizer.step([[other]]);
    expect(asked()).toBe(2);
    await optimizer.synchronize();
  });

  test("is read from its supplier once", () => {
    const supplier = { ptr: device.buffer(LENGTH).ptr };
    const optimizer = new MTAdam([{ data: supplier, length: LENGTH }], { terms: 1, device });
    supplier.ptr = 0n;
    optimizer.step([null]);
    expect(optimizer.iterations).toBe(1);
  });
});

onCuda("a bad pointer", () => {
  const theta = device.buffer(new Float32Array(LENGTH).fill(1));
  const host = openDevice("cpu").buffer(LENGTH);
  const fillers: DeviceBuffer[] = [];
  const freed = (): bigint => {
    // Without a smaller gap, the next allocation may lie there.
    for (let k = 0; k < 8; ++k) fillers.push(device.buffer(2));
    const buffer = device.buffer(LENGTH);
    const { ptr } = buffer;
    buffer.dispose();
    return ptr;
  };
  const view = (more: object): DevicePointerLike => ({ ptr: theta.ptr, ...more });
  const cases: [what: string, code: string, says: RegExp, data: () => unknown][] = [
    ["a host address", "HOST_POINTER", /must be memory of cuda:0; got host memory/, () => host.ptr],
    ["memory that was freed", "HOST_POINTER", /device memory that was freed/, freed],
    ["a null pointer", "HOST_POINTER", /must be memory of cuda:0/, () => 0n],
    ["a typed array", "HOST_POINTER", /must be a buffer of the CUDA device/, () => new Float32Array(LENGTH)],
    ["a Node buffer", "HOST_POINTER", /must be a buffer of the CUDA device/, () => Buffer.alloc(BYTES)],
    ["an ArrayBuffer", "HOST_POINTER", /must be a buffer of the CUDA device/, () => new ArrayBuffer(BYTES)],
    ["a buffer of the CPU", "INVALID_POINTER", /must be on the optimizer's device/, () => host],
    [
      "the end of an allocation",
      "INVALID_POINTER",
      /must lie within its allocation; got 400 bytes where/,
      () => device.buffer(LENGTH).ptr + 4n,
    ],
    ["an odd address", "INVALID_POINTER", /must begin at a multiple of 4 bytes/, () => theta.ptr + 1n],
    ["a negative one", "INVALID_POINTER", /must be an address/, () => -4n],
    ["one of 65 bits", "INVALID_POINTER", /must be an address/, () => 2n ** 64n],
    ["a fraction", "INVALID_POINTER", /must be an address/, () => 0.5],
    ["NaN", "INVALID_POINTER", /must be an address/, () => NaN],
    ["an object whose ptr is text", "INVALID_POINTER", /must be an address.*got "0"/, () => ({ ptr: "0" })],
    [
      "a wrong byteLength",
      "LENGTH",
      /must have 100 elements; got memory of 99/,
      () => view({ byteLength: 396 }),
    ],
    [
      "a byteLength that cuts an element",
      "LENGTH",
      /must be a multiple of 4; got 398/,
      () => view({ byteLength: 398 }),
    ],
    ["a negative byteOffset", "LENGTH", /byteOffset` must be a whole number/, () => view({ byteOffset: -4 })],
    [
      "a float16 buffer",
      "DTYPE",
      /must be float32; got a float16 buffer/,
      () => device.buffer(LENGTH, "float16"),
    ],
    [
      "a float64 array interface",
      "DTYPE",
      /typestr` must be "<f4"/,
      () => arrayInterface(theta.ptr, { typestr: "<f8" }),
    ],
    [
      "an array interface in Fortran's order",
      "OPTION",
      /strides` must be those of a C-contiguous/,
      () => arrayInterface(theta.ptr, { shape: [4, 25], strides: [4, 16] }),
    ],
    [
      "a masked array interface",
      "OPTION",
      /mask` must be null/,
      () => arrayInterface(theta.ptr, { mask: {} }),
    ],
    [
      "an array interface without data",
      "OPTION",
      /data` must be/,
      () => arrayInterface(theta.ptr, { data: null }),
    ],
    [
      "an array interface without shape",
      "OPTION",
      /shape` must be/,
      () => arrayInterface(theta.ptr, { shape: 5 }),
    ],
    ["an object", "DTYPE", /must be a buffer of the CUDA device/, () => ({})],
    ["a string", "DTYPE", /must be a buffer of the CUDA device/, () => "memory"],
  ];
  const onOther = otherDevice().buffer(LENGTH);
  if (otherDevice().kind === "cuda") {
    cases.push([
      "an address of another device",
      "INVALID_POINTER",
      /got memory of cuda:1/,
      () => onOther.ptr,
    ]);
    cases.push(["a buffer of another device", "INVALID_POINTER", /got a buffer of another/, () => onOther]);
  }

  test.each(cases)("%s as a parameter", async (_, code, says, data) => {
    const error = await caught(
      () => new MTAdam([{ name: "w", data: data() as TensorData, length: LENGTH }], { terms: 1, device }),
    );
    expect(error.code).toMatch(new RegExp(`^ERR_MTADAM_(${code}|DTYPE|LENGTH)$`));
    expect(error.message).toMatch(/^`w/);
    expect(error.message).not.toMatch(/0x[0-9a-f]+|\d{9,}/i);
    const asParameter =
      /must be that of its data|must be a Float32Array, a float32 buffer or a device pointer/;
    expect(error.message).toMatch(new RegExp(`${says.source}|${asParameter.source}`));
  });

  test.each(cases)("%s as a gradient changes nothing", async (_, code, says, data) => {
    const parameter = device.buffer(new Float32Array(LENGTH).fill(1));
    const gradient = device.buffer(new Float32Array(LENGTH).fill(1));
    const optimizer = new MTAdam([{ name: "w", data: parameter }], { terms: ["a", "b"], device });
    optimizer.step([[gradient], [gradient]]);
    const before = [await parameter.download(), await optimizer.stateDict()];
    for (const call of [
      () => optimizer.step([[gradient], [data() as TensorData]]),
      () => optimizer.accumulate("b", [data() as TensorData]),
      () => optimizer.prepare([[gradient], [gradient]]).set("b", "w", data() as TensorData),
    ]) {
      const error = await caught(call);
      expect({ code: error.code, message: error.message }).toEqual({
        code: `ERR_MTADAM_${code}`,
        message: expect.stringMatching(says) as string,
      });
      expect(error.message).toMatch(/^`gradients\["b"\]\["w"\]/);
      expect(error.message).not.toMatch(/0x[0-9a-f]+|\d{9,}/i);
    }
    expect([await parameter.download(), await optimizer.stateDict()]).toEqual(before);
    optimizer.step([[gradient], [gradient]]);
    expect(optimizer.iterations).toBe(2);
  });

  test("overlaps: two parameters, a gradient and a parameter", async () => {
    const buffer = device.buffer(8);
    const part = (byteOffset: number): DevicePointerLike => ({ ptr: buffer.ptr, byteOffset, byteLength: 16 });
    const overlapping = await caught(() => new MTAdam([part(0), part(12)], { terms: 1, device }));
    expect(overlapping.message).toBe('`parameters` must not overlap; got "0" and "1", which share memory.');
    const optimizer = new MTAdam([part(0)], { terms: 1, device });
    const error = await caught(() => optimizer.step([[part(12)]]));
    expect(error.message).toBe(
      '`gradients["0"]["0"]` must not overlap a parameter; got one that overlaps "0".',
    );
    optimizer.step([[part(16)]]);
  });

  test("in addGradients adds nothing", async () => {
    const [a, b] = [device.buffer(Float32Array.of(1, 2)), device.buffer(Float32Array.of(3, 4))];
    const [w, v] = [device.buffer(2), device.buffer(2)];
    const optimizer = new MTAdam([w, v], { terms: 1 });
    const pinned = { ptr: host.ptr, byteLength: 8 };
    const cases: [target: TensorData[], source: TensorData[], says: RegExp][] = [
      [[a, b], [b, pinned], /^`source\["1"\]` must be memory of cuda:0/],
      [[a, pinned], [b, a], /^`target\["1"\]` must be memory of cuda:0/],
      [[a, v], [b, a], /^`target\["1"\]` must not overlap a parameter/],
      [[a, b], [b, w], /^`source\["1"\]` must not overlap a parameter/],
    ];
    for (const [target, source, says] of cases) {
      expect((await caught(() => optimizer.addGradients(target, source))).message).toMatch(says);
    }
    const long = device.buffer(3);
    const shifted = [0, 4].map((byteOffset) => ({ ptr: long.ptr, byteOffset, byteLength: 8 }));
    const error = await caught(() => optimizer.addGradients([shifted[0]!, null], [shifted[1]!, null]));
    expect(error.message).toMatch(/^`target\["0"\]` must not overlap its source in part/);
    expect([...(await a.download()), ...(await b.download())]).toEqual([1, 2, 3, 4]);
    optimizer.addGradients([a, b], [b, b]);
    expect([...(await a.download()), ...(await b.download())]).toEqual([4, 6, 6, 8]);
  });

  test("read-only memory as a parameter, but not as a gradient", async () => {
    const readOnly = arrayInterface(theta.ptr, { data: [theta.ptr, true] });
    const error = await caught(() => new MTAdam([readOnly], { terms: 1, device }));
    expect(error.message).toMatch(/must be writable/);
    new MTAdam([device.buffer(LENGTH)], { terms: 1 }).step([[readOnly]]);
  });

  test("without a length", async () => {
    const error = await caught(() => new MTAdam([theta.ptr], { terms: 1, device }));
    expect(error).toMatchObject({ code: "ERR_MTADAM_LENGTH" });
  });
});
