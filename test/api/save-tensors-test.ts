/** saveTensors and loadTensors. */

import fc from "fast-check";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import { loadTensors, MTAdam, saveTensors, type DType, type TensorToSave } from "../../lib";
import { caught } from "../support/caught";
import { emptiedFolder } from "../support/folder";
import { joinSafetensors, parseSafetensors } from "../support/safetensors";
import { device } from "../support/scene";

const folder = emptiedFolder();
const file = path.join(folder, "model.safetensors");

test("a list of parameters is a list of parameters again, with the same bits", async () => {
  const weight = Float32Array.of(1, NaN, -0, Infinity, 1e-45, 6);
  const parameters = [
    { name: "weight", data: weight, shape: [2, 3], layer: "first" },
    { name: "bias", data: device.buffer(Float32Array.of(7, 8)) },
    new Float32Array(0),
  ];
  await saveTensors(file, parameters, { metadata: { epoch: "12", "": 'a "quoted" é\n' } });
  const { tensors, metadata } = await loadTensors(file);
  expect(metadata).toEqual({ epoch: "12", "": 'a "quoted" é\n' });
  expect(new Map(tensors)).toEqual(
    new Map([
      ["weight", { name: "weight", data: weight, shape: [2, 3], dtype: "float32" }],
      ["bias", { name: "bias", data: Float32Array.of(7, 8), shape: [2], dtype: "float32" }],
      ["2", { name: "2", data: new Float32Array(0), shape: [0], dtype: "float32" }],
    ]),
  );
  expect(Object.is((tensors.get("weight")!.data as Float32Array)[2], -0)).toBe(true);
  new MTAdam([...tensors.values()] as never, { terms: 1 }).update();
  expect(readdirSync(folder)).toEqual(["model.safetensors"]);
});

test("a parameter's own options are left out, and a subclass cannot shorten its data", async () => {
  class Short extends Float32Array {
    override get byteLength(): number {
      return 4;
    }
  }
  const parameters = [
    { name: "w", data: Float32Array.of(1, 2), layer: "first", gradientDtype: "bfloat16" as const },
    { name: "b", data: new Short([3, 4]) },
  ];
  new MTAdam(parameters, { terms: 1 });
  await saveTensors(file, parameters);
  const { tensors } = await loadTensors(file);
  expect([...tensors.values()]).toEqual([
    { name: "w", data: Float32Array.of(1, 2), shape: [2], dtype: "float32" },
    { name: "b", data: Float32Array.of(3, 4), shape: [2], dtype: "float32" },
  ]);
});

test("every dtype, any names and lengths, as a second implementation reads them", async () => {
  const dtypes = { float32: "F32", float64: "F64", float16: "F16", bfloat16: "BF16" } as const;
  const make = { float32: Float32Array, float64: Float64Array, float16: Uint16Array, bfloat16: Uint16Array };
  const dtype = fc.constantFrom<DType>("float32", "float64", "float16", "bfloat16");
  const name = fc
    .string({ minLength: 1, unit: "binary" })
    .filter((text) => text.isWellFormed() && text !== "__metadata__");
  const entries = fc.uniqueArray(fc.tuple(name, dtype, fc.array(fc.nat(65535), { maxLength: 40 })), {
    selector: ([name]) => name,
    maxLength: 12,
  });
  await fc.assert(
    fc.asyncProperty(entries, async (entries) => {
      const list = entries.map(([name, dtype, values]) => ({ name, dtype, data: make[dtype].from(values) }));
      await saveTensors(file, list);
      const bytes = readFileSync(file);
      const other = parseSafetensors(bytes);
      const { tensors } = await loadTensors(file);
      expect(Number(bytes.readBigUInt64LE(0)) % 8).toBe(0);
      expect(tensors.size).toBe(list.length);
      for (const { name, dtype, data } of list) {
        expect(tensors.get(name)).toEqual({ name, dtype, data, shape: [data.length] });
        const theirs = other.tensors.get(name)!;
        expect([theirs.dtype, theirs.shape]).toEqual([dtypes[dtype], [data.length]]);
        expect(new Uint8Array(theirs.data)).toEqual(new Uint8Array(data.buffer));
      }
    }),
    { numRuns: 50 },
  );
});

test("tensors larger than a chunk, between small ones", async () => {
  const large = Float32Array.from({ length: 3_000_001 }, (_, k) => k);
  const small = Float64Array.of(1, 2, 3);
  await saveTensors(file, [small, large, small]);
  const { tensors } = await loadTensors(file);
  expect([...tensors.keys()]).toEqual(["0", "1", "2"]);
  expect(Buffer.from(tensors.get("1")!.data.buffer).equals(Buffer.from(large.buffer))).toBe(true);
  expect(tensors.get("2")!.data).toEqual(small);
});

test("a file of another program: tensors in another order than the header, spaces, no metadata", async () => {
  const header = {
    b: { dtype: "F32", shape: [1], data_offsets: [8, 12] },
    a: { dtype: "F64", shape: [], data_offsets: [0, 8] },
  };
  const data = Buffer.alloc(12);
  data.writeDoubleLE(1.5, 0);
  data.writeFloatLE(-2, 8);
  writeFileSync(file, joinSafetensors(`${JSON.stringify(header)}   `, data));
  const { tensors, metadata } = await loadTensors(file);
  expect([...tensors.values()]).toEqual([
    { name: "a", data: Float64Array.of(1.5), shape: [], dtype: "float64" },
    { name: "b", data: Float32Array.of(-2), shape: [1], dtype: "float32" },
  ]);
  expect(metadata).toEqual({});
});

test.each([
  ["an empty file", "", "; it ends in the first 8 bytes"],
  [
    "a zip, as PyTorch writes it",
    "PK\x03\x04 and so on and on",
    ", or is cut short; its header would end after it",
  ],
  ["a header that is no JSON", joinSafetensors("text", Buffer.alloc(1)), "; its header is not a JSON object"],
])("%s is no safetensors file, for loadTensors and load", async (_, bytes, reason) => {
  writeFileSync(file, bytes);
  const optimizer = new MTAdam([new Float32Array(1)], { terms: 1 });
  for (const load of [() => loadTensors(file), () => optimizer.load(file)]) {
    expect(await caught(load)).toMatchObject({
      code: "ERR_MTADAM_CHECKPOINT",
      message: `${JSON.stringify(file)} is not a safetensors file${reason}.`,
    });
  }
});

describe("refused, and an old file stays", () => {
  const one = new Float32Array(1);
  const disposed = device.buffer(1);
  disposed.dispose();
  test.each<[string, string, unknown, unknown, RegExp]>([
    ["no list", "OPTION", { weight: one }, undefined, /^`tensors` must be a list; got an object\.$/],
    [
      "a name twice",
      "OPTION",
      [one, { name: "0", data: one }],
      undefined,
      /^`name` must be unique .*; got "0"\.$/,
    ],
    [
      "a reserved name",
      "OPTION",
      [{ name: "__metadata__", data: one }],
      undefined,
      /^`name` must be unique .*, and not __metadata__; /,
    ],
    [
      "an empty name",
      "OPTION",
      [{ name: "", data: one }],
      undefined,
      /^`name` must be a string that is not empty; /,
    ],
    ["no tensor", "OPTION", [null], undefined, /^`tensor` must be an object; got null\.$/],
    ["another key", "OPTION", [{ data: one, nam: "w" }], undefined, /did you mean `name`/],
    ["integers", "DTYPE", [new Int32Array(1)], undefined, /^`0\.data` must be a buffer, .*; got a/],
    [
      "bits without a dtype",
      "DTYPE",
      [new Uint16Array(1)],
      undefined,
      /^`0\.dtype` must be "float16" or "bfloat16" for/,
    ],
    [
      "another dtype than the data's",
      "DTYPE",
      [{ data: one, dtype: "float64" }],
      undefined,
      /^`0\.data` must be a Float64Array/,
    ],
    [
      "another dtype than the buffer's",
      "DTYPE",
      [{ data: device.buffer(1), dtype: "float64" }],
      undefined,
      /^`0\.dtype` must be float32; /,
    ],
    [
      "another shape",
      "LENGTH",
      [{ data: one, shape: [2] }],
      undefined,
      /^`0\.shape` must have the 1 elements of its data; /,
    ],
    [
      "another length",
      "LENGTH",
      [{ data: one, length: 2 }],
      undefined,
      /^`0\.length` must be that of its data, 1; got 2\.$/,
    ],
    [
      "an address, which no message names",
      "DTYPE",
      [{ data: 4096 }],
      undefined,
      /^`0\.data` must be a buffer, [^0-9]*32Array, [^0-9]*64Array, [^0-9]*16Array or a Float16Array; got a bare pointer\.$/,
    ],
    ["a buffer that was disposed of", "DISPOSED", [disposed], undefined, /disposed/],
    [
      "metadata that is no text",
      "OPTION",
      [one],
      { metadata: { epoch: 12 } },
      /^`metadata\["epoch"\]` must be a string; got 12\.$/,
    ],
    [
      "metadata that is no object",
      "OPTION",
      [one],
      { metadata: "12" },
      /^`metadata` must be an object of strings; /,
    ],
    ["another option", "OPTION", [one], { meta: {} }, /^`options` has no option "meta"/],
  ])("%s", async (_, code, tensors, options, message) => {
    await saveTensors(file, [Float32Array.of(5)]);
    const error = await caught(() => saveTensors(file, tensors as TensorToSave[], options as object));
    expect(error.code).toBe(`ERR_MTADAM_${code}`);
    expect(error.message).toMatch(message);
    expect((await loadTensors(file)).tensors.get("0")!.data).toEqual(Float32Array.of(5));
    expect(readdirSync(folder)).toEqual(["model.safetensors"]);
  });

  test.each([4, 4_000_000])("an array of %p that is detached meanwhile", async (length) => {
    const data = new Float32Array(length);
    const saving = saveTensors(file, [data]);
    saving.catch(() => undefined);
    // The larger one is detached between two of its chunks.
    while (length > 4 && !readdirSync(folder).some((name) => statSync(path.join(folder, name)).size > 0)) {
      await setImmediate();
    }
    structuredClone(data.buffer, { transfer: [data.buffer] });
    expect((await caught(() => saving)).message).toMatch(
      /^`0\.data` must keep its \d+ elements until it is saved; /,
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test("a file of integers, a folder, no file", async () => {
    writeFileSync(
      file,
      joinSafetensors({ ids: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, Buffer.alloc(8)),
    );
    expect(await caught(() => loadTensors(file))).toMatchObject({
      code: "ERR_MTADAM_CHECKPOINT",
      message: 'The file must have tensors of F32, F64, F16, BF16 alone; "ids" is of I64.',
    });
    expect(await caught(() => loadTensors(folder))).toMatchObject({ code: "ERR_MTADAM_OPTION" });
    await expect(loadTensors(path.join(folder, "none"))).rejects.toMatchObject({ code: "ENOENT" });
  });
});
