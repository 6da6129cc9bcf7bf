import { readFileSync } from "node:fs";
import { MTAdam, type DeviceBuffer, type MTAdamOptions, type StateDict } from "../../lib";
import { onCpu, testDevice } from "../support/device";
import { emptiedFolder } from "../support/folder";
import { oracleOf } from "../support/oracle";
import { randomSource, randomTensor } from "../support/random";
import { Draws, roundMoments, SHARED_STREAM } from "../support/state-codes";

// Moments in bfloat16 and in 8 bits, from the user's view.

const TYPES = ["bfloat16", "8bit"] as const;
const FORMS = [
  {},
  { firstMoment: "summed" },
  { firstMoment: "summed", secondMoment: "summed" },
] as const satisfies Partial<MTAdamOptions>[];

/** One tensor that is lean, of more than a chunk and no whole block; and a small one. */
const LENGTHS = { weight: 5000, bias: 70 };
type Name = keyof typeof LENGTHS;
const NAMES = Object.keys(LENGTHS) as Name[];

const device = testDevice();

const made = new Map<string, Float32Array>();
/** The same array for the same arguments; nothing writes to it. */
function gradientOf(step: number, term: number, name: Name): Float32Array {
  const key = `${step} ${term} ${name}`;
  let gradient = made.get(key);
  if (gradient === undefined) {
    gradient = randomTensor(randomSource(1000 * step + 10 * term + name.length), LENGTHS[name], 10 ** term);
    made.set(key, gradient);
  }
  return gradient;
}
const initial = (name: Name): Float32Array => randomTensor(randomSource(name.length), LENGTHS[name], 1);

const folder = emptiedFolder();

class Model {
  readonly #parameters: Record<Name, DeviceBuffer>;
  readonly optimizer: MTAdam;
  constructor(
    options: Partial<MTAdamOptions>,
    order: readonly Name[] = NAMES,
    from: Partial<Record<Name, Float32Array>> = {},
  ) {
    const made = (name: Name): DeviceBuffer => device.buffer(from[name] ?? initial(name));
    this.#parameters = { weight: made("weight"), bias: made("bias") };
    const described = order.map((name) => ({ name, data: this.#parameters[name] }));
    this.optimizer = new MTAdam(described, { terms: ["a", "b"], seed: 2n ** 63n, ...options });
  }
  async values(): Promise<Record<Name, Float32Array>> {
    const [weight, bias] = await Promise.all(NAMES.map((name) => this.#parameters[name].download()));
    return { weight: weight!, bias: bias! } as Record<Name, Float32Array>;
  }
  gradients(step: number): Record<string, Record<Name, DeviceBuffer>> {
    const of = (term: number): Record<Name, DeviceBuffer> => ({
      weight: device.buffer(gradientOf(step, term, "weight")),
      bias: device.buffer(gradientOf(step, term, "bias")),
    });
    return { a: of(0), b: of(1) };
  }
  train(first: number, end: number): this {
    for (let step = first; step < end; ++step) this.optimizer.step(this.gradients(step));
    return this;
  }
}

describe.each(TYPES)("stateDtype %s", (stateDtype) => {
  test.each(FORMS)("%j follows the oracle whose moments are rounded alike", async (form) => {
    const model = new Model({ stateDtype, ...form }).train(0, 5);
    const oracle = oracleOf({ init: NAMES.map(initial), options: { terms: 2, ...form } });
    oracle.store = (tensor, term, plane, values) => {
      const name = NAMES[oracle.tensors.indexOf(tensor)]!;
      if (values.length < 4096) return;
      const stream = term === null ? SHARED_STREAM : ["a", "b"][term]!;
      roundMoments(stateDtype, plane, values, new Draws(2n ** 63n, oracle.iterations, name, stream));
    };
    for (let step = 0; step < 5; ++step) {
      oracle.step([0, 1].map((term) => NAMES.map((name) => gradientOf(step, term, name))));
    }
    const values = await model.values();
    for (const [k, name] of NAMES.entries()) {
      const errors = oracle.parameters[k]!.map((value, e) => Math.abs(value - values[name][e]!));
      // Where a moment lies within float32's error of the place at which its draw decides, the code may be the next.
      expect(errors.filter((error) => !(error <= 2e-7)).length).toBeLessThanOrEqual(LENGTHS[name] / 1000);
    }
  });

  const lagged = { scales: "lagged", betas: [0.9, 0.999, 0.99] } as const;
  test.each([...FORMS, ...FORMS.map((form) => ({ ...form, ...lagged }))])(
    "%j goes on with the same bits from a state in another order, in memory and in a file",
    async (form) => {
      const options = { stateDtype, ...form };
      const whole = new Model(options).train(0, 6);
      const half = new Model(options).train(0, 3);
      const order = [...NAMES].reverse();
      const fromDict = new Model(options, order, await half.values());
      await fromDict.optimizer.loadStateDict(await half.optimizer.stateDict());
      await half.optimizer.save(`${folder}/state`);
      const fromFile = new Model(options, order, await half.values());
      await fromFile.optimizer.load(`${folder}/state`);
      for (const resumed of [fromDict, fromFile]) {
        resumed.train(3, 6);
        expect(await resumed.values()).toEqual(await whole.values());
      }
    },
  );

  test.each(FORMS)("%j steps as accumulating and updating does, or rounds M for each term", async (form) => {
    const whole = new Model({ stateDtype, ...form }).train(0, 3);
    const streamed = new Model({ stateDtype, ...form });
    for (let step = 0; step < 3; ++step) {
      const { a, b } = streamed.gradients(step);
      streamed.optimizer.accumulate("a", a);
      streamed.optimizer.accumulate("b", b);
      streamed.optimizer.update();
    }
    const isExact = !("firstMoment" in form) || "secondMoment" in form;
    const [ours, others] = [await streamed.values(), await whole.values()];
    if (isExact) expect(ours).toEqual(others);
    else expect(ours.bias).toEqual(others.bias);
  });

  test("depends on the seed, and not on when terms are added", async () => {
    const bits = async (options: Partial<MTAdamOptions>): Promise<Float32Array> =>
      (await new Model({ stateDtype, ...options }).train(0, 3).values()).weight;
    const ofOne = await bits({ seed: 1 });
    expect(ofOne).toEqual(await bits({ seed: 1n }));
    expect(ofOne).not.toEqual(await bits({ seed: 2 }));
    const added = new Model({ stateDtype, seed: 1, terms: ["a"] });
    added.optimizer.addTerm("b");
    expect((await added.train(0, 3).values()).weight).toEqual(ofOne);
  });

  test("loads into float32 exactly, and from float32 to the nearest", async () => {
    const state = await new Model({ stateDtype }).train(0, 3).optimizer.stateDict();
    const wide = new Model({});
    await wide.optimizer.loadStateDict(state);
    const inFloat32 = await wide.optimizer.stateDict();
    expect(inFloat32["m.0.0"]).toBeInstanceOf(Float32Array);
    const back = new Model({ stateDtype });
    await back.optimizer.loadStateDict(inFloat32);
    const again = await back.optimizer.stateDict();
    const wideAgain = new Model({});
    await wideAgain.optimizer.loadStateDict(again);
    const returned = await wideAgain.optimizer.stateDict();
    expect(returned["v.1.0"]).toEqual(inFloat32["v.1.0"]);
    // In 8 bits, m may get another exponent, for which its small values have other codes.
    if (stateDtype === "bfloat16") expect(returned).toEqual(inFloat32);

    const float32 = await new Model({}).train(0, 3).optimizer.stateDict();
    await back.optimizer.loadStateDict(float32);
    await wideAgain.optimizer.loadStateDict(await back.optimizer.stateDict());
    const near = await wideAgain.optimizer.stateDict();
    const [exact, rounded] = [float32["v.1.0"], near["v.1.0"]] as Float32Array[];
    const most = stateDtype === "8bit" ? 1 / 16 : 1 / 256;
    expect(exact!.every((value, k) => Math.abs(rounded![k]! - value) <= most * 1.001 * value)).toBe(true);
  });

  test("sums first moments that were per term", async () => {
    const state = await new Model({ stateDtype }).train(0, 3).optimizer.stateDict();
    const wide = new Model({ firstMoment: "summed" });
    await wide.optimizer.loadStateDict(state);
    const own = new Model({ stateDtype, firstMoment: "summed" });
    await own.optimizer.loadStateDict(state);
    const readBack = new Model({ firstMoment: "summed" });
    await readBack.optimizer.loadStateDict(await own.optimizer.stateDict());
    const [exact, rounded] = [await wide.optimizer.stateDict(), await readBack.optimizer.stateDict()];
    expect(rounded["v.1.0"]).toEqual(exact["v.1.0"]);
    const [M, near] = [exact["M.0"], rounded["M.0"]] as Float32Array[];
    const largest = M!.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    M!.forEach((value, k) => {
      expect(Math.abs(near![k]! - value)).toBeLessThanOrEqual(Math.abs(value) / 16 + largest * 2 ** -17);
    });
  });

  test("is in metadata, in the types of the state and in the summary", async () => {
    const model = new Model({ stateDtype }).train(0, 1);
    const state = await model.optimizer.stateDict();
    expect(state.metadata.options).toMatchObject({ stateDtype, seed: "9223372036854775808" });
    expect(state["m.0.0"]).toBeInstanceOf(stateDtype === "8bit" ? Uint8Array : Uint16Array);
    expect(state["m.0.1"]).toBeInstanceOf(Float32Array);
    expect(Object.keys(state).filter((key) => key.endsWith(".exponents"))).toHaveLength(
      stateDtype === "8bit" ? 4 : 0,
    );
    expect(model.optimizer.toJSON()).toMatchObject({ stateDtype });
    await model.optimizer.save(`${folder}/state`);
    const file = readFileSync(`${folder}/state`);
    const header = JSON.parse(file.toString("utf8", 8, 8 + Number(file.readBigUInt64LE(0)))) as Record<
      string,
      { dtype: string }
    >;
    expect(header["v.1.0"]!.dtype).toBe(stateDtype === "8bit" ? "U8" : "BF16");
  });

  test("takes the bytes that it says", () => {
    const parameters = [new Float32Array(1_000_000)];
    const near = (bytesPerElement: number, options: MTAdamOptions): void => {
      const perElement = MTAdam.stateBytes(parameters, { stateDtype, ...options }) / 1e6;
      expect(perElement).toBeGreaterThanOrEqual(bytesPerElement);
      expect(perElement).toBeLessThan(bytesPerElement * (1 + 1 / 64) + 0.1);
    };
    const bytes = stateDtype === "8bit" ? 1 : 2;
    near(6 * bytes, { terms: 3 });
    near(4 * bytes, { terms: 3, firstMoment: "summed" });
    near(2 * bytes, { terms: 3, firstMoment: "summed", secondMoment: "summed" });
  });

  test("trains with every option of the step", async () => {
    const options: Partial<MTAdamOptions>[] = [
      { scales: "lagged", betas: [0.9, 0.999, 0.99] },
      { unit: "network", anchor: "max", silence: "rest" },
      { nonFinite: "skipStep" },
      { weightDecay: 0.1 },
      { weightDecay: 0.1, decoupledWeightDecay: true, stepScale: "mean" },
      ...(stateDtype === "8bit" ? [] : [{ amsgrad: true }]),
    ];
    for (const option of options) {
      for (const form of FORMS) {
        const [lean, float32] = await Promise.all(
          [{ stateDtype }, {}].map(
            async (type) => (await new Model({ ...type, ...form, ...option }).train(0, 4).values()).weight,
          ),
        );
        const start = initial("weight");
        const [far, apart] = [0, 0].map((_, which) =>
          Math.sqrt(
            start.reduce((sum, value, k) => sum + (lean![k]! - (which === 0 ? value : float32![k]!)) ** 2, 0),
          ),
        );
        expect(apart! / far!).toBeLessThan(stateDtype === "8bit" ? 0.1 : 0.02);
      }
    }
  });
});

test.each(FORMS)(
  "8 bits, %j: a NaN in a gradient spoils its block of 128 elements and no other",
  async (form) => {
    const [length, at] = [5000, 300];
    const data = device.buffer(randomTensor(randomSource(1), length, 1));
    const optimizer = new MTAdam([data], { terms: 2, stateDtype: "8bit", nonFinite: "propagate", ...form });
    const gradients = [2, 3].map((seed) => randomTensor(randomSource(seed), length, 1));
    gradients[1]![at] = NaN;
    optimizer.step(gradients.map((gradient) => [device.buffer(gradient)]));
    const spoiled = [...(await data.download()).entries()].flatMap(([k, value]) =>
      Number.isNaN(value) ? [k] : [],
    );
    const first = at - (at % 128);
    expect(spoiled).toEqual(Array.from({ length: 128 }, (_, k) => first + k));
    const exponents = Object.entries(await optimizer.stateDict()).filter(
      ([key]) => key.endsWith(".exponents") && !/^[mv]\.0/.test(key),
    );
    expect(exponents).toHaveLength(2);
    for (const [, values] of exponents) {
      expect([...(values as Uint8Array).entries()].filter(([, exponent]) => exponent === 255)).toEqual([
        [Math.floor(at / 128), 255],
      ]);
    }
  },
);

describe("options of a lean state", () => {
  test("8 bits exclude amsgrad", () => {
    expect(() => new Model({ stateDtype: "8bit", amsgrad: true })).toThrow(
      expect.objectContaining({ code: "ERR_MTADAM_OPTION" }) as Error,
    );
  });

  test.each([-1, 1.5, 2n ** 64n, "1", NaN])("%p is no seed", (seed) => {
    expect(() => new Model({ seed: seed as number })).toThrow(
      expect.objectContaining({
        code: "ERR_MTADAM_OPTION",
        message: expect.stringContaining("`seed`") as string,
      }) as Error,
    );
  });

  test.each([
    ["an unknown type", (state: StateDict) => (state.metadata.options.stateDtype = "4bit" as "8bit")],
    ["another block", (state: StateDict) => (state.metadata.options.block = 64)],
    ["no exponents", (state: StateDict) => delete state["m.0.0.exponents"]],
    ["an exponent of NaN", (state: StateDict) => ((state["v.0.0.exponents"] as Uint8Array)[3] = 255)],
    ["another array", (state: StateDict) => (state["m.0.0"] = new Float32Array(5000))],
  ])("a state with %s is refused", async (_, damage) => {
    const model = new Model({ stateDtype: "8bit" }).train(0, 1);
    const state = await model.optimizer.stateDict();
    damage(state);
    await expect(model.optimizer.loadStateDict(state)).rejects.toMatchObject({
      code: "ERR_MTADAM_CHECKPOINT",
    });
  });
});

onCpu("threads", () => {
  test("any number of them gives the same bits", () => {
    const train = (threads: number): Float32Array => {
      const theta = new Float32Array(40_000).fill(0.5);
      const options = { terms: 2, stateDtype: "8bit", device: testDevice({ threads }) } as const;
      const optimizer = new MTAdam([theta], options);
      for (let step = 0; step < 2; ++step) {
        optimizer.step([1, 2].map((term) => [randomTensor(randomSource(10 * step + term), 40_000, 1)]));
      }
      return theta;
    };
    expect(train(2)).toEqual(train(1));
  });
});
