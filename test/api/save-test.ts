/**
 * The contents of a checkpoint's file. Loading it restores the same tensors, and training continues with the same bits.
 */

import { readFileSync } from "node:fs";
import path from "node:path";
import { MTAdam, openDevice, type MTAdamOptions, type StateDict } from "../../lib";
import { testDevice } from "../support/device";
import { temporaryFolder } from "../support/folder";
import { randomSource } from "../support/random";
import { parseSafetensors, splitSafetensors } from "../support/safetensors";
import { NAMES, Trained, type Name } from "../support/trained";

const device = testDevice();
const TERMS = ["a", "b"];
const file = path.join(temporaryFolder(), "state.safetensors");

const FORMS: [string, Partial<MTAdamOptions>][] = [
  ["first moments per term", {}],
  ["first moments per term, with amsgrad", { amsgrad: true }],
  ["first moments summed", { firstMoment: "summed" }],
  ["first moments summed, with amsgrad", { firstMoment: "summed", amsgrad: true }],
  ["both moments summed", { firstMoment: "summed", secondMoment: "summed" }],
  ["both moments summed, with amsgrad", { firstMoment: "summed", secondMoment: "summed", amsgrad: true }],
];

describe.each(FORMS)("%s", (_, form) => {
  const options = { terms: TERMS, ...form };
  // The second term comes later, so that clocks differ.
  const train = (): Trained => new Trained(NAMES, options).train(0, 1, ["a"]).train(1, 4, TERMS);

  test("a file has the tensors and the metadata of stateDict()", async () => {
    const { optimizer } = train();
    await optimizer.save(file);
    const { metadata, ...tensors } = await optimizer.stateDict();
    const saved = parseSafetensors(readFileSync(file));
    expect(Object.keys(saved.metadata)).toEqual(["mtadam"]);
    expect(JSON.parse(saved.metadata["mtadam"] ?? "")).toEqual(metadata);
    const dtypes: Record<string, string> = {
      Float32Array: "F32",
      Float64Array: "F64",
      BigInt64Array: "I64",
      Uint8Array: "U8",
    };
    expect(
      Object.fromEntries([...saved.tensors].map(([key, { dtype, data }]) => [key, { dtype, data }])),
    ).toEqual(
      Object.fromEntries(
        Object.entries(tensors).map(([key, values]) => {
          return [key, { dtype: dtypes[values.constructor.name], data: (values as Float32Array).buffer }];
        }),
      ),
    );
  });

  test("resuming from a file gives the bits of an uninterrupted run", async () => {
    const through = train().train(4, 8, TERMS);
    const first = train();
    await first.optimizer.save(file);
    const resumed = new Trained(NAMES, options, await first.values());
    await resumed.optimizer.load(file);
    expect(await resumed.optimizer.stateDict()).toEqual(await first.optimizer.stateDict());
    resumed.train(4, 8, TERMS);
    expect(await resumed.values()).toEqual(await through.values());
    expect(await resumed.optimizer.stateDict()).toEqual(await through.optimizer.stateDict());
  });

  test("a file is the same on every device", async () => {
    const { optimizer } = train();
    await optimizer.save(file);
    const state = await optimizer.stateDict();
    const elsewhere = new Trained(NAMES, options, undefined, openDevice("cpu", { threads: 1 }));
    await elsewhere.optimizer.load(file);
    expect(await elsewhere.optimizer.stateDict()).toEqual(state);
    const bytes = readFileSync(file);
    await elsewhere.optimizer.save(file);
    expect(readFileSync(file)).toEqual(bytes);
    const back = new Trained(NAMES, options);
    await back.optimizer.load(file);
    expect(await back.optimizer.stateDict()).toEqual(state);
  });
});

describe("a file restores the same as loadStateDict()", () => {
  /** The states of an optimizer, after one step, that loads the file and of one that loads the dict. */
  async function loaded(
    saved: Trained,
    make: () => Trained,
    options: { strict?: boolean } = {},
  ): Promise<[fromFile: StateDict, fromDict: StateDict, before: StateDict]> {
    const { optimizer } = make();
    const other = make().optimizer;
    const before = await other.stateDict();
    await saved.optimizer.save(file);
    await optimizer.load(file, options);
    await other.loadStateDict(await saved.optimizer.stateDict(), options);
    return [await optimizer.stateDict(), await other.stateDict(), before];
  }
  const makeSaved = (form: Partial<MTAdamOptions> = {}, terms = TERMS): Trained =>
    new Trained(NAMES, { terms, weights: [2, 3], lr: 0.5, ...form }).train(0, 1, ["a"]).train(1, 4, terms);
  const target = (order: readonly Name[], options: MTAdamOptions & { terms: string[] }) => (): Trained =>
    new Trained(order, options).train(0, 2, options.terms);

  test("with parameters and terms in another order", async () => {
    const saved = makeSaved({ amsgrad: true });
    const order = ["scale", "weight", "bias"] as const;
    const make = target(order, { terms: ["b", "a"], amsgrad: true });
    const [fromFile, fromDict] = await loaded(saved, make);
    expect(fromFile).toEqual(fromDict);
    expect(fromFile.metadata).toMatchObject({
      iterations: 4,
      options: { weights: [3, 2] },
      groups: [{ lr: 0.5 }],
    });
    const state = await saved.optimizer.stateDict();
    expect(fromFile["v.0.1"]).toEqual(state["v.1.0"]);
  });

  test("with first moments per term loaded as summed", async () => {
    const make = target(NAMES, { terms: TERMS, amsgrad: true, firstMoment: "summed" });
    const [fromFile, fromDict, before] = await loaded(makeSaved({ amsgrad: true }), make);
    expect(fromFile).toEqual(fromDict);
    expect(fromFile["M.0"]).not.toEqual(before["M.0"]);
  });

  test.each<[string, string[], string[], number]>([
    ["fewer", ["a", "b"], ["b"], 0],
    ["more", ["a"], ["a", "b"], 0],
    ["instead", ["a", "gone"], ["new", "a"], 1],
  ])("with a term %s and `strict: false`", async (_, savedTerms, terms, number) => {
    const make = target(NAMES, { terms });
    const saved = makeSaved({ weights: savedTerms.map(() => 2) }, savedTerms);
    const [fromFile, fromDict, before] = await loaded(saved, make, { strict: false });
    expect(fromFile).toEqual(fromDict);
    expect(fromFile[`m.${number}.0`]).not.toEqual(before[`m.${number}.0`]);
    await expect(make().optimizer.load(file)).rejects.toMatchObject({ code: "ERR_MTADAM_CHECKPOINT" });
  });
});

test("tensors have the shapes of their parameters, and each starts on a multiple of its element", async () => {
  const parameters = [
    { name: "matrix", data: device.buffer(6), shape: [2, 3] },
    { name: "nothing", data: device.buffer(0) },
    { name: "scalar", data: device.buffer(1), shape: [] },
  ];
  const optimizer = new MTAdam(parameters, { terms: 2 });
  await optimizer.save(file);
  const bytes = readFileSync(file);
  const { header } = splitSafetensors(bytes);
  expect(header).toMatchObject({
    n: { shape: [2, 3] },
    t: { shape: [2, 3] },
    "m.0.0": { shape: [2, 3] },
    "v.1.1": { shape: [0] },
    "v.1.2": { shape: [] },
  });
  expect(bytes.readBigUInt64LE(0) % 8n).toBe(0n);
  const sizes: Record<string, number> = { F64: 8, I64: 8, F32: 4, U8: 1 };
  for (const key of Object.keys(header).filter((name) => name !== "__metadata__")) {
    const { dtype, data_offsets: offsets } = header[key]!;
    expect(offsets[0] % (sizes[dtype] ?? NaN)).toBe(0);
  }
  await optimizer.load(file);
});

describe("tensors of several chunks", () => {
  const LENGTH = 2 ** 20 + 2 ** 19 + 5;
  const draws = Float32Array.from({ length: 65537 }, randomSource(7)); // a prime number: no two chunks are alike
  const values = [1, 2, 3, 4].map((factor) =>
    new Float32Array(LENGTH).map((_, k) => draws[(factor * k) % draws.length]!),
  );
  const make = (options: Partial<MTAdamOptions>): MTAdam =>
    new MTAdam([device.buffer(LENGTH)], { terms: 2, ...options });
  const same = (actual: unknown, expected: ArrayBufferView): void => {
    const bytes = (array: ArrayBufferView): Buffer =>
      Buffer.from(array.buffer, array.byteOffset, array.byteLength);
    expect(bytes(actual as Float32Array).equals(bytes(expected))).toBe(true);
  };

  test("are restored to the bit, and summed element by element", async () => {
    const optimizer = make({});
    const keys = ["m.0.0", "v.0.0", "m.1.0", "v.1.0"];
    const clocks = {
      t: BigInt64Array.of(1n, 1n),
      P1: Float64Array.of(0.9, 0.9),
      P2: Float64Array.of(0.999, 0.999),
    };
    const state: StateDict = { ...(await optimizer.stateDict()), ...clocks };
    for (const [k, key] of keys.entries()) state[key] = values[k]!;
    await optimizer.loadStateDict(state);
    await optimizer.save(file);
    const other = make({});
    await other.load(file);
    const loaded = await other.stateDict();
    for (const [k, key] of keys.entries()) same(loaded[key], values[k]!);
    const summed = make({ firstMoment: "summed" });
    await summed.load(file);
    const [m0, m1] = [values[0]!, values[2]!];
    same(
      (await summed.stateDict())["M.0"],
      m0.map((value, k) => value + m1[k]!),
    );
  });
});
