/** Parameters in float16 and bfloat16, from the user's view. */

import { readdirSync } from "node:fs";
import path from "node:path";
import {
  loadTensors,
  MTAdam,
  saveTensors,
  type DeviceBuffer,
  type MTAdamOptions,
  type ParameterDescription,
  type ParameterDtype,
  type StateDict,
} from "../../lib";
import { isSlow, onCpu, onCuda, testDevice } from "../support/device";
import { emptiedFolder } from "../support/folder";
import { randomSource, randomTensor } from "../support/random";
import { checkError, thrownBy } from "../support/refusals";

const device = testDevice();
const folder = emptiedFolder();

type Narrow = "float16" | "bfloat16";
const NARROW: readonly Narrow[] = ["float16", "bfloat16"];

/** What a code stands for, by the definition of the formats. */
function valueOf(dtype: Narrow, code: number): number {
  const [exponents, places] = dtype === "float16" ? [32, 10] : [256, 7];
  const exponent = Math.floor(code / 2 ** places) % exponents;
  const significand = (code % 2 ** places) + (exponent === 0 ? 0 : 2 ** places);
  const magnitude = significand * 2 ** (Math.max(exponent, 1) - (exponents / 2 - 1) - places);
  return code < 0x8000 ? magnitude : -magnitude;
}
const widened = (dtype: Narrow, codes: Uint16Array): Float32Array<ArrayBuffer> =>
  Float32Array.from(codes, (code) => valueOf(dtype, code));

/** Codes of normal numbers from 2⁻⁶ to 1, of both signs. */
function randomCodes(random: () => number, dtype: Narrow, length: number): Uint16Array<ArrayBuffer> {
  const [least, most] = dtype === "float16" ? [0x2400, 0x3c00] : [0x3c80, 0x3f80];
  return Uint16Array.from(
    { length },
    () => least + Math.floor(random() * (most - least)) + (random() < 0.5 ? 0x8000 : 0),
  );
}

/** The code that a parameter with a master has: of a bfloat16, ties go up. */
function shown(dtype: Narrow, value: number): number {
  const [bits] = new Uint32Array(Float32Array.of(value).buffer);
  if (dtype === "bfloat16") return Math.floor((bits! + 0x8000) / 0x10000) % 0x10000;
  const magnitude = Math.abs(value);
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), -14);
  const significand = magnitude / 2 ** (exponent - 10);
  const [floor, rest] = [Math.floor(significand), significand % 1];
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  return (value < 0 ? 0x8000 : 0) + (exponent + 14) * 1024 + rounded;
}

/** More than a chunk, one element, and neither a whole vector nor a block. */
const LENGTHS = [4099, 1, 300];

/** Gradients for each of two terms. */
const gradientsOf = (step: number): DeviceBuffer[][] =>
  [0, 1].map((term) =>
    LENGTHS.map((length, k) =>
      device.buffer(randomTensor(randomSource(100 * step + 10 * term + k), length, 3 ** term)),
    ),
  );

/** An optimizer of narrow parameters; of the same values in float32 where `dtypes` says so. */
class Model {
  readonly data: DeviceBuffer[];
  readonly optimizer: MTAdam;
  readonly #order: readonly number[];

  constructor(
    dtype: Narrow,
    options: Partial<MTAdamOptions>,
    {
      wide = false,
      order = [0, 1, 2],
      from = [],
    }: { wide?: boolean; order?: readonly number[]; from?: readonly Uint16Array[] } = {},
  ) {
    this.#order = order;
    this.data = LENGTHS.map((length, k) => {
      const codes = from[k] ?? randomCodes(randomSource(50 + k), dtype, length);
      return wide ? device.buffer(widened(dtype, codes)) : device.buffer(codes, dtype);
    });
    const described = order.map((k): ParameterDescription => ({
      name: `p${k}`,
      data: this.data[k]!,
      dtype: wide ? "float32" : dtype,
    }));
    this.optimizer = new MTAdam(described, { terms: ["a", "b"], seed: 7, ...options });
  }

  train(first: number, end: number): this {
    for (let step = first; step < end; ++step) {
      this.optimizer.step(gradientsOf(step).map((term) => this.#order.map((k) => term[k]!)));
    }
    return this;
  }

  async codes(): Promise<Uint16Array[]> {
    return (await Promise.all(this.data.map((data) => data.download()))) as Uint16Array[];
  }
}

const OPTIONS: Partial<MTAdamOptions>[] = [
  {},
  { firstMoment: "summed", weightDecay: 0.1 },
  { firstMoment: "summed", secondMoment: "summed", weightDecay: 0.1 },
  { amsgrad: true, weightDecay: 0.1 },
  { firstMoment: "summed", amsgrad: true, weightDecay: 0.1, decoupledWeightDecay: true },
  { preset: "recommended", stepScale: "mean", cosines: true },
  { scales: "lagged", betas: [0.9, 0.999, 0.999] },
  { nonFinite: "skipStep", maximize: true },
  { stateDtype: "bfloat16" },
  { stateDtype: "8bit", firstMoment: "summed", secondMoment: "summed" },
];

/** The state without what tells that parameters are narrow, and the masters. */
function taken(state: StateDict): { rest: StateDict; masters: Float32Array[] } {
  const masters = LENGTHS.map((_, k) => state[`master.${k}`] as Float32Array);
  const rest = Object.fromEntries(
    Object.entries(state).filter(([key]) => !key.startsWith("master.")),
  ) as unknown as StateDict;
  const { metadata } = state;
  const { masterWeights, ...options } = metadata.options;
  expect(masterWeights).toBe(true);
  rest.metadata = {
    ...metadata,
    options,
    parameters: metadata.parameters.map(({ dtype, ...parameter }) => {
      expect(NARROW).toContain(dtype);
      return parameter;
    }),
  };
  return { rest, masters };
}

describe.each(NARROW)("%s with masters", (dtype) => {
  async function expectFloat32(narrow: Model, wide: Model): Promise<void> {
    const { rest, masters } = taken(await narrow.optimizer.stateDict());
    expect(rest).toEqual(await wide.optimizer.stateDict());
    const theta = (await Promise.all(wide.data.map((data) => data.download()))) as Float32Array[];
    expect(masters).toEqual(theta);
    const codes = theta.map((values) => Uint16Array.from(values, (value) => shown(dtype, value)));
    expect(await narrow.codes()).toEqual(codes);
  }

  test.each(OPTIONS)("trains as in float32, %j", async (options) => {
    const narrow = new Model(dtype, { ...options, masterWeights: true }).train(0, 3);
    await expectFloat32(narrow, new Model(dtype, options, { wide: true }).train(0, 3));
  });

  test.each([{}, { firstMoment: "summed", secondMoment: "summed" }] as const)(
    "term after term, %j",
    async (options) => {
      const pair = [
        new Model(dtype, { ...options, masterWeights: true }),
        new Model(dtype, options, { wide: true }),
      ] as const;
      for (const { optimizer } of pair) {
        for (let step = 0; step < 2; ++step) {
          const [a, b] = gradientsOf(step);
          await optimizer.stepEach({ a: () => a, b: () => b });
        }
        optimizer.accumulate("a", gradientsOf(2)[0]);
        optimizer.discard();
      }
      await expectFloat32(...pair);
    },
  );

  test("what is written into a parameter counts", async () => {
    const model = new Model(dtype, { masterWeights: true, lr: 0 }).train(0, 2);
    const written = Uint16Array.from({ length: LENGTHS[0]! }, (_, k) =>
      k % 3 === 0 ? 0 : shown(dtype, 0.75),
    );
    model.data[0]!.upload(written);
    expect((await model.train(2, 3).codes())[0]).toEqual(written);
    expect((await model.optimizer.stateDict())["master.0"]).toEqual(widened(dtype, written));
  });

  test("a group that is added keeps the masters", async () => {
    const model = new Model(dtype, { masterWeights: true }).train(0, 3);
    const before = await model.optimizer.stateDict();
    const added = randomCodes(randomSource(9), dtype, 40);
    model.optimizer.addParamGroup({
      parameters: [{ name: "more", data: device.buffer(added, dtype), dtype }],
    });
    const after = await model.optimizer.stateDict();
    for (const k of LENGTHS.keys()) expect(after[`master.${k}`]).toEqual(before[`master.${k}`]);
    expect(after["master.3"]).toEqual(widened(dtype, added));
  });

  test("a state without masters starts them at the parameters", async () => {
    const model = new Model(dtype, { masterWeights: true }).train(0, 3);
    const without = new Model(dtype, { rounding: "nearest" }).train(0, 3);
    await model.optimizer.loadStateDict(await without.optimizer.stateDict());
    const codes = await model.codes();
    const { masters } = taken(await model.optimizer.stateDict());
    expect(masters).toEqual(codes.map((values) => widened(dtype, values)));
    await without.optimizer.loadStateDict(await model.optimizer.stateDict());
  });

  test("a state whose master has another type or shape is refused", async () => {
    const model = new Model(dtype, { masterWeights: true }).train(0, 1);
    const state = await model.optimizer.stateDict();
    for (const wrong of [new Uint16Array(LENGTHS[0]!), new Float32Array(LENGTHS[0]! - 1)]) {
      const loaded = model.optimizer.loadStateDict({ ...state, "master.0": wrong });
      await expect(loaded).rejects.toMatchObject({ code: "ERR_MTADAM_CHECKPOINT" });
    }
    expect(await model.optimizer.stateDict()).toEqual(state);
  });
});

describe.each(NARROW)("%s", (dtype) => {
  test.each([{}, { rounding: "nearest" }, { masterWeights: true }, { stateDtype: "8bit" }] as const)(
    "goes on with the same bits from a state in another order, in memory and in a file, %j",
    async (options) => {
      const whole = new Model(dtype, options).train(0, 6);
      const half = new Model(dtype, options).train(0, 3);
      const again = { order: [2, 0, 1], from: await half.codes() };
      const fromDict = new Model(dtype, options, again);
      await fromDict.optimizer.loadStateDict(await half.optimizer.stateDict());
      await half.optimizer.save(`${folder}/state`);
      const fromFile = new Model(dtype, options, again);
      await fromFile.optimizer.load(`${folder}/state`);
      for (const resumed of [fromDict, fromFile]) {
        expect(await resumed.train(3, 6).codes()).toEqual(await whole.codes());
      }
    },
  );

  test("steps have the same bits at once and term by term", async () => {
    const [whole, streamed] = [new Model(dtype, {}), new Model(dtype, {})];
    for (let step = 0; step < 3; ++step) {
      const [a, b] = gradientsOf(step);
      whole.optimizer.step([a!, b!]);
      streamed.optimizer.accumulate("a", a);
      streamed.optimizer.accumulate("b", b);
      streamed.optimizer.update();
    }
    expect(await streamed.codes()).toEqual(await whole.codes());
  });

  test("depends on the seed where it is rounded at random, and nowhere else", async () => {
    const codes = (options: Partial<MTAdamOptions>): Promise<Uint16Array[]> =>
      new Model(dtype, options).train(0, 3).codes();
    expect(await codes({ seed: 1 })).toEqual(await codes({ seed: 1n }));
    expect(await codes({ seed: 1 })).not.toEqual(await codes({ seed: 2 }));
    for (const options of [{ rounding: "nearest" }, { masterWeights: true }] as const) {
      expect(await codes({ ...options, seed: 1 })).toEqual(await codes({ ...options, seed: 2 }));
    }
  });

  test("moves in the mean, where the nearest stays behind", async () => {
    const steps = isSlow ? 30 : 150;
    const start = shown(dtype, 0.75);
    const place = dtype === "float16" ? 2 ** -11 : 2 ** -8; // of the values from 0.5 to 1
    const moved = async (rounding: "stochastic" | "nearest"): Promise<number> => {
      const data = device.buffer(new Uint16Array(4000).fill(start), dtype);
      const optimizer = new MTAdam([{ data, dtype }], { terms: 1, rounding, lr: place / 10 });
      const prepared = optimizer.prepare([[device.buffer(new Float32Array(4000).fill(1))]]);
      for (let step = 0; step < steps; ++step) optimizer.step(prepared);
      const values = widened(dtype, await data.download());
      return values.reduce((sum, value) => sum + (value - 0.75) / values.length, 0);
    };
    expect(await moved("nearest")).toBe(0);
    const error = (place * 0.3 * Math.sqrt(steps)) / Math.sqrt(4000);
    expect(Math.abs((await moved("stochastic")) + (steps * place) / 10)).toBeLessThan(4 * error);
  });

  test("stays finite where it is rounded at random", async () => {
    const largest = dtype === "float16" ? 0x7bff : 0x7f7f;
    // More than half a place of the largest value; from bfloat16's, the float32 stays finite.
    const lr = dtype === "float16" ? 1e4 : 1e36;
    for (const [rounding, expected] of [
      ["stochastic", largest],
      ["nearest", largest + 1],
    ] as const) {
      const data = device.buffer(Uint16Array.of(largest, largest), dtype);
      const optimizer = new MTAdam([{ data, dtype }], { terms: 1, rounding, maximize: true, lr });
      optimizer.step([[device.buffer(Float32Array.of(1, 0))]]);
      expect(await data.download()).toEqual(Uint16Array.of(expected, largest));
    }
  });

  test("gradients may have another type", async () => {
    const codes = randomCodes(randomSource(5), dtype, 500);
    const other = dtype === "float16" ? "bfloat16" : "float16";
    const gradient = randomCodes(randomSource(6), other, 500);
    const train = async (gradientDtype: ParameterDtype): Promise<Uint16Array> => {
      const data = device.buffer(codes, dtype);
      const optimizer = new MTAdam([{ data, dtype }], { terms: 1, gradientDtype });
      optimizer.step([
        [gradientDtype === other ? device.buffer(gradient, other) : device.buffer(widened(other, gradient))],
      ]);
      return await data.download();
    };
    expect(await train(other)).toEqual(await train("float32"));
  });

  test("tensors in a file are parameters", async () => {
    const codes = randomCodes(randomSource(8), dtype, 30);
    await saveTensors(`${folder}/tensors`, [{ name: "w", data: device.buffer(codes, dtype), shape: [5, 6] }]);
    const { tensors } = await loadTensors(`${folder}/tensors`);
    const loaded = tensors.get("w")!;
    expect(loaded).toMatchObject({ data: codes, dtype });
    if (device.kind !== "cpu") return;
    const [parameter] = [...tensors.values()] as ParameterDescription[];
    new MTAdam([parameter!], { terms: 1 }).step([[new Float32Array(30).fill(1)]]);
    expect(loaded.data).not.toEqual(codes);
  });

  test("memory of another type is refused", async () => {
    const other = dtype === "float16" ? "bfloat16" : "float16";
    for (const [given, type, got] of [
      ["float32", dtype, `must be float32; got a ${dtype} buffer`],
      [dtype, other, `must be ${dtype}; got a ${other} buffer`],
      [dtype, "float32", `must be ${dtype}; got a float32 buffer`],
    ] as const) {
      const data = device.buffer(3, type);
      const error = await thrownBy(() => new MTAdam([{ name: "w", data, dtype: given }], { terms: 1 }));
      checkError(error, "ERR_MTADAM_DTYPE");
      expect(error.message).toBe(`\`w\` ${got}.`);
    }
  });
});

test("the state takes 10, 6 and 4 bytes with a bfloat16 master and one pair of moments", () => {
  const bytes = (stateDtype: "float32" | "bfloat16" | "8bit", options: Partial<MTAdamOptions>): number => {
    const parameters = [{ data: device.buffer(1_000_000, "bfloat16"), dtype: "bfloat16" as const }];
    const one = { terms: 3, firstMoment: "summed", secondMoment: "summed" } as const;
    return MTAdam.stateBytes(parameters, { ...one, stateDtype, ...options }) / 1e6;
  };
  for (const [stateDtype, expected] of [
    ["float32", 10],
    ["bfloat16", 6],
    ["8bit", 4],
  ] as const) {
    const perElement = bytes(stateDtype, { masterWeights: true });
    expect(perElement).toBeGreaterThanOrEqual(expected);
    expect(perElement).toBeLessThan(expected + 0.1);
    expect(perElement - bytes(stateDtype, {})).toBeCloseTo(2, 3);
  }
});

test("the metadata has the types, and the seed where it is used", async () => {
  const metadata = async (options: Partial<MTAdamOptions>): Promise<StateDict["metadata"]> =>
    (await new Model("float16", options).optimizer.stateDict()).metadata;
  const drawn = await metadata({});
  expect(drawn.parameters.map(({ dtype }) => dtype)).toEqual(["float16", "float16", "float16"]);
  expect(drawn.options.seed).toBe("7");
  expect(drawn.options.masterWeights).toBeUndefined();
  expect((await metadata({ rounding: "nearest" })).options.seed).toBeUndefined();
  const mastered = await metadata({ masterWeights: true });
  expect(mastered.options.seed).toBeUndefined();
  expect(mastered.options.masterWeights).toBe(true);
});

describe("masters of a parameter that has lost its memory", () => {
  // Large enough that the system takes the pages back.
  const LENGTH = 1 << 22;
  const mastered = (data: DeviceBuffer<"bfloat16"> | Uint16Array): MTAdam =>
    new MTAdam([{ name: "w", data, dtype: "bfloat16" }], { terms: 1, masterWeights: true, device });

  test("are not saved", async () => {
    const buffer = device.buffer(LENGTH, "bfloat16");
    const optimizer = mastered(buffer);
    optimizer.update();
    buffer.dispose();
    for (const call of [() => optimizer.stateDict(), () => optimizer.save(path.join(folder, "state"))]) {
      const error = await thrownBy(call);
      checkError(error, "ERR_MTADAM_DISPOSED");
      expect(error.message).toMatch(/^`w` must be a live buffer/);
    }
    expect(readdirSync(folder)).toEqual([]);
  });

  test("are not saved further", async () => {
    const buffer = device.buffer(LENGTH, "bfloat16");
    const optimizer = mastered(buffer);
    const onProgress = (): void => {
      buffer.dispose();
    };
    const error = await thrownBy(() => optimizer.save(path.join(folder, "state"), { onProgress }));
    checkError(error, "ERR_MTADAM_DISPOSED");
  });

  test("are not saved from a detached array", async () => {
    if (device.kind !== "cpu") return;
    const codes = new Uint16Array(LENGTH);
    const optimizer = mastered(codes);
    structuredClone(codes.buffer, { transfer: [codes.buffer] });
    checkError(await thrownBy(() => optimizer.stateDict()), "ERR_MTADAM_LENGTH");
  });
});

test.each(["float64", "Float16", 16, null])("the dtype %j is refused", async (dtype) => {
  const parameter = { name: "w", data: device.buffer(1), dtype } as ParameterDescription;
  const error = await thrownBy(() => new MTAdam([parameter], { terms: 1 }));
  checkError(error, "ERR_MTADAM_DTYPE");
  expect(error.message).toMatch(/^`w\.dtype` must be "float32" or "float16" or "bfloat16"; got/);
});

test.each([{ rounding: "up" }, { rounding: null }, { masterWeights: 1 }])("%j is refused", async (option) => {
  const options = { terms: 1, ...option } as unknown as MTAdamOptions;
  checkError(await thrownBy(() => new MTAdam([device.buffer(1)], options)), "ERR_MTADAM_OPTION");
});

onCpu("parameters in arrays", () => {
  test.each(NARROW)("a Uint16Array of %s codes, from any element on", async (dtype) => {
    const codes = randomCodes(randomSource(3), dtype, 500);
    const gradient = randomTensor(randomSource(4), 500, 1);
    const buffer = device.buffer(codes, dtype);
    new MTAdam([{ name: "w", data: buffer, dtype }], { terms: 1 }).step([[gradient]]);
    for (const skipped of [0, 1, 3]) {
      const shifted = new Uint16Array(503).subarray(skipped, skipped + 500);
      shifted.set(codes);
      new MTAdam([{ name: "w", data: shifted, dtype }], { terms: 1 }).step([[gradient]]);
      expect(shifted).toEqual(await buffer.download());
    }
  });

  test("arrays that overlap, were detached or have another type are refused", async () => {
    const memory = new ArrayBuffer(16);
    const [a, b] = [new Uint16Array(memory, 0, 5), new Uint16Array(memory, 8, 4)];
    const two = (): MTAdam =>
      new MTAdam(
        [
          { name: "a", data: a, dtype: "bfloat16" },
          { name: "b", data: b, dtype: "float16" },
        ],
        { terms: 1 },
      );
    checkError(await thrownBy(two), "ERR_MTADAM_INVALID_POINTER");
    const optimizer = new MTAdam([{ name: "b", data: b, dtype: "float16" }], { terms: 1 });
    structuredClone(memory, { transfer: [memory] });
    const step = (): void => {
      optimizer.step([[new Float32Array(4)]]);
    };
    checkError(await thrownBy(step), "ERR_MTADAM_LENGTH");
    const wide = { name: "w", data: new Float32Array(2), dtype: "bfloat16" } as const;
    const error = await thrownBy(() => new MTAdam([wide], { terms: 1 }));
    checkError(error, "ERR_MTADAM_DTYPE");
    expect(error.message).toMatch("`w` must be a Uint16Array or a bfloat16 buffer; got a Float32Array");
  });
});

onCuda("parameters at addresses", () => {
  test.each(NARROW)("%s at every multiple of 2 bytes, and in an array interface", async (dtype) => {
    const codes = randomCodes(randomSource(4), dtype, 300);
    const gradient = device.buffer(randomTensor(randomSource(4), 300, 1));
    const expected = device.buffer(codes, dtype);
    new MTAdam([{ name: "w", data: expected, dtype }], { terms: 1 }).step([[gradient]]);
    for (const skipped of [0, 1, 2, 3, 5]) {
      const whole = new Uint16Array(305);
      whole.set(codes, skipped);
      const memory = device.buffer(whole, dtype);
      const address = memory.ptr + BigInt(2 * skipped);
      const data =
        skipped % 2 === 0
          ? address
          : {
              __cuda_array_interface__: {
                shape: [300],
                typestr: dtype === "float16" ? "<f2" : "<V2",
                data: [address, false],
                version: 3,
              },
            };
      new MTAdam([{ name: "w", data, dtype, length: 300 }], { terms: 1, device }).step([[gradient]]);
      const moved = await memory.download();
      expect(moved.subarray(skipped, skipped + 300)).toEqual(await expected.download());
      memory.dispose();
    }
    const odd = await thrownBy(
      () => new MTAdam([{ data: expected.ptr + 1n, dtype, length: 10 }], { terms: 1, device }),
    );
    checkError(odd, "ERR_MTADAM_INVALID_POINTER");
  });
});
