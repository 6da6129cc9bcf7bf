/** Gradients in float16 and bfloat16: a step has the bits of one from the same values in float32. */

import fc from "fast-check";
import {
  MTAdam,
  type DeviceBuffer,
  type Gradient,
  type GradientDtype,
  type MTAdamOptions,
  type ParameterDescription,
} from "../../lib";
import { isSlow, onCpu, onCuda, testDevice } from "../support/device";
import { withForms } from "../support/forms";
import { randomSource, randomTensor } from "../support/random";
import { checkError, thrownBy } from "../support/refusals";

const device = testDevice();

type Narrow = "float16" | "bfloat16";
const NARROW: readonly Narrow[] = ["float16", "bfloat16"];

const FORMATS = {
  float16: { exponents: 32, places: 10, lowest: 0, highest: 20 },
  bfloat16: { exponents: 256, places: 7, lowest: 110, highest: 137 },
};

/** By the definition of the formats. */
function valueOf(dtype: Narrow, code: number): number {
  const { exponents, places } = FORMATS[dtype];
  const exponent = Math.floor(code / 2 ** places) % exponents;
  const significand = code % 2 ** places;
  const leading = exponent === 0 ? 0 : 2 ** places;
  const magnitude = (significand + leading) * 2 ** (Math.max(exponent, 1) - (exponents / 2 - 1) - places);
  if (exponent === exponents - 1) return significand === 0 ? (code < 0x8000 ? Infinity : -Infinity) : NaN;
  return code < 0x8000 ? magnitude : -magnitude;
}

/** Random codes, with zeros and (float16) subnormals among them. */
function randomCodes(random: () => number, dtype: Narrow, length: number): Uint16Array<ArrayBuffer> {
  const { places, lowest, highest } = FORMATS[dtype];
  return Uint16Array.from({ length }, () => {
    if (random() < 0.05) return 0;
    const exponent = lowest + Math.floor(random() * (highest - lowest));
    return (random() < 0.5 ? 0x8000 : 0) + exponent * 2 ** places + Math.floor(random() * 2 ** places);
  });
}

const widened = (dtype: Narrow, codes: Uint16Array): Float32Array<ArrayBuffer> =>
  Float32Array.from(codes, (code) => valueOf(dtype, code));

/** A gradient as the optimizer takes it, and its values. */
interface Values {
  narrow: DeviceBuffer;
  wide: DeviceBuffer;
}

function randomValues(random: () => number, dtype: GradientDtype, length: number): Values {
  if (dtype === "float32") {
    const values = randomTensor(random, length, 1);
    return { narrow: device.buffer(values), wide: device.buffer(values) };
  }
  const codes = randomCodes(random, dtype, length);
  return { narrow: device.buffer(codes, dtype), wide: device.buffer(widened(dtype, codes)) };
}

/** Two optimizers with the same parameters: one gets narrow gradients. */
class Pair {
  readonly names: string[];
  readonly narrow: MTAdam;
  readonly wide: MTAdam;
  readonly #lengths: readonly number[];
  readonly #dtypes: readonly GradientDtype[];
  readonly #random: () => number;
  readonly #theta: [DeviceBuffer<"float32">[], DeviceBuffer<"float32">[]];

  constructor(
    lengths: readonly number[],
    dtypes: readonly GradientDtype[],
    options: Partial<MTAdamOptions>,
    seed: number,
  ) {
    this.#lengths = lengths;
    this.#dtypes = dtypes;
    this.#random = randomSource(seed);
    this.names = lengths.map((_, k) => `p${k}`);
    const init = lengths.map((length) => randomTensor(this.#random, length, 1));
    const place = (): DeviceBuffer<"float32">[] => init.map((values) => device.buffer(values));
    this.#theta = [place(), place()];
    const make = (theta: readonly DeviceBuffer<"float32">[], isNarrow: boolean): MTAdam => {
      const parameters = theta.map((data, k): ParameterDescription => ({
        name: this.names[k]!,
        data,
        ...(isNarrow ? { gradientDtype: dtypes[k]! } : {}),
      }));
      return new MTAdam(parameters, { terms: ["a", "b"], ...options });
    };
    this.narrow = make(this.#theta[0], true);
    this.wide = make(this.#theta[1], false);
  }

  /** One term's gradients; every fifth is absent. */
  gradients(): { narrow: Gradient[]; wide: Gradient[] } {
    const all = this.#lengths.map((length, k) =>
      this.#random() < 0.2 ? undefined : randomValues(this.#random, this.#dtypes[k]!, length),
    );
    return { narrow: all.map((one) => one?.narrow), wide: all.map((one) => one?.wide) };
  }

  step(): void {
    const [a, b] = [this.gradients(), this.gradients()];
    this.narrow.step([a.narrow, b.narrow]);
    this.wide.step([a.wide, b.wide]);
  }

  async expectSame(): Promise<void> {
    const read = (tensors: readonly DeviceBuffer<"float32">[]): Promise<Float32Array[]> =>
      Promise.all(tensors.map((tensor) => tensor.download()));
    expect(await read(this.#theta[0])).toEqual(await read(this.#theta[1]));
    expect(await this.narrow.stateDict()).toEqual(await this.wide.stateDict());
    const [a, b] = await Promise.all([this.narrow.diagnostics(), this.wide.diagnostics()]);
    expect(a.cosines).toEqual(b.cosines);
    expect(a.shares).toEqual(b.shares);
  }
}

const OPTIONS: Partial<MTAdamOptions>[] = [
  {},
  { firstMoment: "summed" },
  { firstMoment: "summed", secondMoment: "summed" },
  { amsgrad: true, weightDecay: 0.1 },
  { firstMoment: "summed", amsgrad: true, weightDecay: 0.1, decoupledWeightDecay: true },
  { preset: "recommended", stepScale: "mean", cosines: true },
  { scales: "lagged", betas: [0.9, 0.999, 0.999] },
  { scales: "lagged", unit: "network", betas: [0.9, 0.999, 0.999], nonFinite: "propagate" },
  { nonFinite: "skipStep", maximize: true },
  { stateDtype: "bfloat16" },
  { stateDtype: "8bit", firstMoment: "summed", secondMoment: "summed" },
];
const LENGTHS = [4099, 1, 300];

describe.each(NARROW)("%s gradients give the bits of the same values in float32", (dtype) => {
  const pair = (options: Partial<MTAdamOptions>): Pair =>
    new Pair(LENGTHS, [dtype, dtype, dtype], options, 7);

  test.each(OPTIONS)("%j", async (options) => {
    const trained = pair(options);
    for (let step = 0; step < 3; ++step) trained.step();
    await trained.expectSame();
  });

  test.each([{}, { firstMoment: "summed", secondMoment: "summed" }, { stateDtype: "8bit" }] as const)(
    "term after term, %j",
    async (options) => {
      const trained = pair(options);
      for (let step = 0; step < 2; ++step) {
        const terms = [trained.gradients(), trained.gradients()];
        await trained.narrow.stepEach(
          terms.map(
            ({ narrow }) =>
              () =>
                narrow,
          ),
        );
        for (const [term, { wide }] of terms.entries()) trained.wide.accumulate(term, wide);
        trained.wide.update();
      }
      await trained.expectSame();
    },
  );

  test("prepared, and after a load", async () => {
    const trained = pair({});
    const [a, b] = [trained.gradients(), trained.gradients()];
    const prepared = trained.narrow.prepare([a.narrow, b.narrow]);
    trained.narrow.step(prepared);
    trained.wide.step([a.wide, b.wide]);
    await trained.narrow.loadStateDict(await trained.wide.stateDict());
    trained.narrow.step(prepared);
    trained.wide.step([a.wide, b.wide]);
    await trained.expectSame();
  });

  test("prepare().zero() sets them to 0", async () => {
    const optimizer = new MTAdam([device.buffer(3)], { terms: 1, gradientDtype: dtype });
    const gradient = device.buffer(Uint16Array.of(1, 0x8000, 0xffff), dtype);
    const others = device.buffer(Uint16Array.of(5, 6, 7, 8), dtype);
    optimizer.prepare([[gradient]]).zero();
    expect(await gradient.download()).toEqual(Uint16Array.of(0, 0, 0));
    expect(await others.download()).toEqual(Uint16Array.of(5, 6, 7, 8));
  });

  test("addGradients() rounds each sum to the nearest", async () => {
    const optimizer = new MTAdam([device.buffer(4)], { terms: 1, gradientDtype: dtype });
    // Ties, of which the second rounds up; then sums that are exact.
    const one = dtype === "float16" ? 0x3c00 : 0x3f80;
    const half = dtype === "float16" ? 0x1000 : 0x3b80; // of the last place of 1
    const target = device.buffer(Uint16Array.of(one, one + 1, one, 0x8000 + one), dtype);
    const source = device.buffer(Uint16Array.of(half, half, 0, one), dtype);
    optimizer.addGradients([target], [source]);
    expect(await target.download()).toEqual(Uint16Array.of(one, one + 2, one, 0));
  });

  test("another type is refused", async () => {
    const optimizer = new MTAdam([{ name: "w", data: device.buffer(3) }], {
      terms: ["t"],
      gradientDtype: dtype,
    });
    const other = dtype === "float16" ? "bfloat16" : "float16";
    for (const [gradient, got] of [
      [device.buffer(3), "a float32 buffer"],
      [device.buffer(3, other), `a ${other} buffer`],
    ] as const) {
      const error = await thrownBy(() => {
        optimizer.step([[gradient]]);
      });
      checkError(error, "ERR_MTADAM_DTYPE");
      expect(error.message).toBe(`\`gradients["t"]["w"]\` must be ${dtype}; got ${got}.`);
    }
    const wide = new MTAdam([device.buffer(3)], { terms: 1 });
    const error = await thrownBy(() => {
      wide.addGradients([device.buffer(3)], [device.buffer(3, dtype)]);
    });
    checkError(error, "ERR_MTADAM_DTYPE");
  });
});

describe("the option", () => {
  test("a parameter's own type wins", () => {
    const optimizer = new MTAdam([{ data: device.buffer(2), gradientDtype: "float32" }, device.buffer(2)], {
      terms: 1,
      gradientDtype: "bfloat16",
    });
    optimizer.step([[device.buffer(2), device.buffer(2, "bfloat16")]]);
    optimizer.addParamGroup({ parameters: [device.buffer(2)] });
    optimizer.step([[device.buffer(2), device.buffer(2, "bfloat16"), device.buffer(2, "bfloat16")]]);
    expect(optimizer.iterations).toBe(2);
  });

  test("the state has the same size", () => {
    const bytes = (gradientDtype: GradientDtype): number =>
      MTAdam.stateBytes([device.buffer(5000)], { terms: 2, gradientDtype });
    expect(bytes("float16")).toBe(bytes("float32"));
  });

  test.each(["float64", "Float16", 16, null])("%j is refused", async (gradientDtype) => {
    const rule = /must be "float32" or "float16" or "bfloat16"; got/;
    const option = await thrownBy(
      () => new MTAdam([device.buffer(1)], { terms: 1, gradientDtype } as MTAdamOptions),
    );
    checkError(option, "ERR_MTADAM_OPTION");
    expect(option.message).toMatch(rule);
    const parameter = { name: "w", data: device.buffer(1), gradientDtype } as ParameterDescription;
    const own = await thrownBy(() => new MTAdam([parameter], { terms: 1 }));
    checkError(own, "ERR_MTADAM_DTYPE");
    expect(own.message).toMatch(rule);
    expect(own.message).toMatch(/^`w\.gradientDtype` /);
  });
});

test("types may differ, with any lengths and options", async () => {
  const lengths = fc.array(fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(255, 4097)), {
    minLength: 1,
    maxLength: 4,
  });
  const options = withForms({
    amsgrad: fc.boolean(),
    weightDecay: fc.constantFrom(0, 0.1),
    unit: fc.constantFrom("tensor" as const, "network" as const),
    scales: fc.constantFrom("current" as const, "lagged" as const),
    stateDtype: fc.constantFrom("float32" as const, "bfloat16" as const),
    betas: fc.constant([0.9, 0.999, 0.99] as const),
  });
  const dtypes = fc.array(fc.constantFrom("float32" as const, ...NARROW), { minLength: 4, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(lengths, dtypes, options, fc.nat(), async (counts, types, given, seed) => {
      const trained = new Pair(counts, types, given, seed);
      for (let step = 0; step < 2; ++step) trained.step();
      await trained.expectSame();
    }),
    { numRuns: isSlow ? 8 : 40, seed: 11 },
  );
});

onCpu("gradients in arrays", () => {
  test.each(NARROW)("a Uint16Array of %s codes", (dtype) => {
    const codes = randomCodes(randomSource(3), dtype, 500);
    // From an odd element of a larger array.
    const shifted = new Uint16Array(503).subarray(3);
    shifted.set(codes);
    const [narrow, wide] = [new Float32Array(500), new Float32Array(500)];
    new MTAdam([narrow], { terms: 1, gradientDtype: dtype }).step([[shifted]]);
    new MTAdam([wide], { terms: 1 }).step([[widened(dtype, codes)]]);
    expect(narrow).toEqual(wide);
  });

  test("arrays of other types are refused", async () => {
    const rules = {
      float32: "a Float32Array or a float32 buffer",
      float16: "a Uint16Array, a Float16Array or a float16 buffer",
      bfloat16: "a Uint16Array or a bfloat16 buffer",
    };
    for (const [gradientDtype, rule] of Object.entries(rules) as [GradientDtype, string][]) {
      const optimizer = new MTAdam([{ name: "w", data: new Float32Array(2) }], {
        terms: ["t"],
        gradientDtype,
      });
      const wrong = [
        new Int16Array(2),
        gradientDtype === "float32" ? new Uint16Array(2) : new Float32Array(2),
      ];
      for (const gradient of wrong) {
        const error = await thrownBy(() => {
          optimizer.step([[gradient as Float32Array]]);
        });
        checkError(error, "ERR_MTADAM_DTYPE");
        expect(error.message).toMatch(`\`gradients["t"]["w"]\` must be ${rule}; got a`);
      }
    }
    const error = await thrownBy(
      () => new MTAdam([new Uint16Array(2) as unknown as Float32Array], { terms: 1 }),
    );
    checkError(error, "ERR_MTADAM_DTYPE");
  });

  test("a gradient of another length, one that was detached, and one that overlaps a parameter", async () => {
    const memory = new ArrayBuffer(16);
    const optimizer = new MTAdam([new Float32Array(memory, 4, 3)], { terms: 1, gradientDtype: "float16" });
    const step = (gradient: Gradient) => () => {
      optimizer.step([[gradient]]);
    };
    checkError(await thrownBy(step(new Uint16Array(6))), "ERR_MTADAM_LENGTH");
    checkError(await thrownBy(step(new Uint16Array(memory, 0, 3))), "ERR_MTADAM_INVALID_POINTER");
    const gradient = new Uint16Array(3);
    const prepared = optimizer.prepare([[gradient]]);
    structuredClone(gradient.buffer, { transfer: [gradient.buffer] });
    const detached = await thrownBy(() => {
      optimizer.step(prepared);
    });
    checkError(detached, "ERR_MTADAM_LENGTH");
  });
});

onCuda("gradients at addresses", () => {
  const make = (gradientDtype: GradientDtype): MTAdam =>
    new MTAdam([{ name: "w", data: device.buffer(300) }], { terms: ["t"], gradientDtype });

  test.each(NARROW)("%s at every multiple of 2 bytes", async (dtype) => {
    const codes = randomCodes(randomSource(4), dtype, 300);
    for (const skipped of [0, 1, 2, 3, 5]) {
      const whole = new Uint16Array(305);
      whole.set(codes, skipped);
      const memory = device.buffer(whole, dtype);
      const [narrow, wide] = [device.buffer(300), device.buffer(300)];
      const address = memory.ptr + BigInt(2 * skipped);
      new MTAdam([narrow], { terms: 1, gradientDtype: dtype }).step([[address]]);
      new MTAdam([wide], { terms: 1 }).step([[device.buffer(widened(dtype, codes))]]);
      expect(await narrow.download()).toEqual(await wide.download());
      memory.dispose();
    }
  });

  test.each(NARROW)("in forms that say their length, %s", (dtype) => {
    const memory = device.buffer(300, dtype);
    const typestr = dtype === "float16" ? "<f2" : "<V2";
    const ofArray = { shape: [3, 100], typestr, data: [memory.ptr, false], strides: [200, 2], version: 3 };
    const optimizer = make(dtype);
    optimizer.step([[{ ptr: memory.ptr, byteOffset: 0, byteLength: 600 }]]);
    optimizer.step([[{ __cuda_array_interface__: ofArray }]]);
    expect(optimizer.iterations).toBe(2);
  });

  test.each([
    [
      "an odd number of bytes",
      { ptr: 0n, byteOffset: 0, byteLength: 599 },
      "ERR_MTADAM_LENGTH",
      /`gradients\["t"\]\["w"\].byteLength` must be a multiple of 2; got 599\.$/,
    ],
    [
      "another length",
      { ptr: 0n, byteOffset: 0, byteLength: 1200 },
      "ERR_MTADAM_LENGTH",
      /must have 300 elements; got memory of 600\.$/,
    ],
    [
      "an odd address",
      { ptr: 0n, byteOffset: 1, byteLength: 600 },
      "ERR_MTADAM_INVALID_POINTER",
      /must begin at a multiple of 2 bytes/,
    ],
    [
      "an array interface of float32",
      { __cuda_array_interface__: { shape: [300], typestr: "<f4", data: [0n, false], version: 3 } },
      "ERR_MTADAM_DTYPE",
      /`gradients\["t"\]\["w"\]\.__cuda_array_interface__\.typestr` must be "<f2" \(float16\); got "<f4"\.$/,
    ],
  ] as const)("%s is refused", async (_what, form, code, says) => {
    const memory = device.buffer(700, "float16");
    const placed =
      "ptr" in form
        ? { ...form, ptr: memory.ptr }
        : { __cuda_array_interface__: { ...form.__cuda_array_interface__, data: [memory.ptr, false] } };
    const error = await thrownBy(() => {
      make("float16").step([[placed]]);
    });
    checkError(error, code);
    expect(error.message).toMatch(says);
  });

  test("a captured step reads them", async () => {
    const trained = new Pair([5000], ["bfloat16"], { stateDtype: "bfloat16" }, 9);
    const [a, b] = [trained.gradients(), trained.gradients()];
    const captured = trained.narrow.captureStep(trained.narrow.prepare([a.narrow, b.narrow]));
    for (let step = 0; step < 2; ++step) {
      captured.replay();
      trained.wide.step([a.wide, b.wide]);
    }
    await trained.expectSame();
  });
});
