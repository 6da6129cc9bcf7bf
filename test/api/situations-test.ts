/**
 * The situations in which the reference goes wrong: the rows of the table in docs/algorithm.md, in its order and words.
 * Each is trained on the device under test and compared with the oracle after every step: parameters, norms, scales and
 * skipped counts. At the end, another device must have the same bits: the CPU for a CUDA device, the scalar loops for
 * the CPU.
 */

import path from "node:path";
import { openDevice, type DeviceBuffer, type MTAdam } from "../../lib";
import { testDevice } from "../support/device";
import { temporaryFolder } from "../support/folder";
import { difference, euclidean, maxAbs } from "../support/golden";
import { oracleOf, type GroupOptions, type Oracle, type OracleOptions } from "../support/oracle";
import { randomSource, randomTensor } from "../support/random";
import { expectSameBits, libraryOptions, makeOptimizer, run, type Experiment } from "../support/run";

const device = testDevice();
const other =
  testDeviceKind === "cpu" ? testDevice({ threads: 1, instructionSet: "baseline" }) : openDevice("cpu");

interface Situation extends Omit<Experiment, "options" | "groups"> {
  readonly options: Partial<OracleOptions> & { terms: number };
  readonly groups?: readonly Partial<GroupOptions>[];
}

/** The observable values after a step. */
interface Seen {
  readonly step: number;
  /** θ per tensor. */
  readonly parameters: readonly Float32Array[];
  readonly optimizer: MTAdam;
  readonly oracle: Oracle;
}

const experimentOf = (situation: Situation): Experiment => ({
  ...situation,
  options: libraryOptions(situation.options),
});

async function train(
  situation: Situation,
  look: (seen: Seen) => Promise<void> | void = () => undefined,
  check = expectOracle,
): Promise<void> {
  const oracle = oracleOf(situation);
  const { gradients, gradientScale = 1 } = situation;
  const outcome = await run(experimentOf(situation), {
    device,
    afterStep: async (step, parameters, optimizer) => {
      oracle.step(gradients[step]!, { gradientScale });
      await check({ step, parameters, optimizer, oracle }, situation.init);
      await look({ step, parameters, optimizer, oracle });
    },
  });
  expect(oracle.iterations).toBe(gradients.length);
  expectSameBits(outcome, await run(experimentOf(situation), { device: other }));
}

async function expectOracle(seen: Seen, init: readonly Float32Array[]): Promise<void> {
  const { step, parameters, oracle } = seen;
  const expected = oracle.parameters;
  const size = euclidean(expected.flatMap((values) => [...values]));
  if (Number.isFinite(size)) {
    const error = euclidean(difference(parameters, expected));
    const moved = euclidean(difference(expected, init));
    // If parameters move little, the remaining error is half a rounding of θ per step.
    expect(error).toBeLessThanOrEqual(1e-6 * moved + 2 ** -24 * (step + 1) * size);
  }
  await expectBalance(seen);
}

async function expectBalance({ optimizer, oracle }: Seen): Promise<void> {
  const { norms, scales, skipped } = await optimizer.diagnostics();
  expectClose(norms, oracle.norms().flat());
  expectClose(scales, oracle.last.scales.flat());
  expect([...skipped]).toEqual(oracle.skipped.flat());
}

/** Compares to 1e-6, relative; NaN and infinities must be in the same places. */
function expectClose(actual: ArrayLike<number>, expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  for (const [k, value] of expected.entries()) {
    if (Number.isFinite(value))
      expect(Math.abs(actual[k]! - value)).toBeLessThanOrEqual(1e-6 * Math.abs(value));
    else expect(actual[k]).toBe(value);
  }
}

const times = <T>(count: number, make: (k: number) => T): T[] =>
  Array.from({ length: count }, (_, k) => make(k));

/** New random gradients of a term for tensors of these lengths. */
function source(seed: number, lengths: readonly number[]): (scale: number) => Float32Array[] {
  const random = randomSource(seed);
  return (scale) => lengths.map((length) => randomTensor(random, length, scale));
}

const LAGGED_BETAS = [0.9, 0.999, 0.99] as const;

const ones = (length: number, value = 1): Float32Array => new Float32Array(length).fill(value);

describe("a term has no gradient for a tensor, or is left out of a step", () => {
  // A trunk, and a head for each of two terms; a third term reaches the trunk alone, in every third step.
  const LENGTHS = [65, 7, 12];
  const STEPS = 60;
  const options: Partial<OracleOptions>[] = [
    {},
    { firstMoment: "summed" },
    { firstMoment: "summed", secondMoment: "summed" },
    { amsgrad: true, weightDecay: 0.01 },
    { anchor: "max", stepScale: "mean" },
    { scales: "lagged", betas: LAGGED_BETAS },
  ];
  test.each(options)(
    "it is absent there: norm, moments and clock rest, later tensors go on, with %j",
    async (form) => {
      const draw = source(1, LENGTHS);
      const gradients = times(STEPS, (step) => {
        const [a, b, c] = [draw(1), draw(100), draw(0.01)] as [
          Float32Array[],
          Float32Array[],
          Float32Array[],
        ];
        return [
          [a[0]!, a[1]!, null],
          [b[0]!, null, b[2]!],
          [step % 3 === 0 ? c[0]! : null, null, null],
        ];
      });
      const situation: Situation = { init: draw(1), options: { terms: 3, ...form }, gradients };
      await train(situation, async ({ step, optimizer }) => {
        if (step !== STEPS - 1) return;
        const norms = await optimizer.norms();
        expect([...norms].map(Number.isNaN)).toEqual([
          false,
          false,
          true,
          false,
          true,
          false,
          false,
          true,
          true,
        ]);
        const every = BigInt(STEPS);
        const third = BigInt(STEPS / 3);
        const { t } = await optimizer.stateDict();
        expect(t).toEqual(BigInt64Array.of(every, every, 0n, every, 0n, every, third, 0n, 0n));
      });
    },
  );
});

describe("every gradient of a tensor is absent", () => {
  test.each([
    ["coupled decay", { weightDecay: 0.1 }],
    ["decoupled decay", { weightDecay: 0.1, decoupledWeightDecay: true }],
    ["first moments summed", { weightDecay: 0.1, firstMoment: "summed" }],
    ["both moments summed", { weightDecay: 0.1, firstMoment: "summed", secondMoment: "summed" }],
  ] as const)("the tensor does not move, with %s", async (_, form) => {
    const LENGTHS = [33, 5];
    const draw = source(2, LENGTHS);
    // Both tensors move, then the second rests for 20 steps, then both move again.
    const rests = (step: number): boolean => step >= 15 && step < 35;
    const gradients = times(50, (step) =>
      [draw(1), draw(7)].map(([first, second]) => [first!, rests(step) ? null : second!]),
    );
    const situation: Situation = { init: draw(1), options: { terms: 2, lr: 0.01, ...form }, gradients };
    let before: Float32Array | undefined;
    let rested = 0;
    await train(situation, ({ step, parameters }) => {
      const [, now] = parameters;
      if (rests(step)) {
        expect(now).toEqual(before);
        ++rested;
      } else expect(now).not.toEqual(before);
      before = now;
    });
    expect(rested).toBe(20);
  });
});

describe("the anchor falls silent", () => {
  const LIVELY = 30;
  const SILENT = 260;
  /** The length of each step, in learning rates. The first term has the norm 1 and is silent from step 30 on. */
  async function stepsOf(options: Partial<OracleOptions>): Promise<{ lengths: number[]; scales: number[] }> {
    const LR = 1e-3;
    const gradients = times(LIVELY + SILENT, (step) => [[ones(4, step < LIVELY ? 0.5 : 0)], [ones(4, 8)]]);
    const init = [new Float32Array(4)];
    const lengths: number[] = [];
    const scales: number[] = [];
    let before = 0;
    await train({ init, options: { terms: 2, lr: LR, ...options }, gradients }, ({ parameters, oracle }) => {
      const now = parameters[0]![0]!;
      lengths.push((before - now) / LR);
      scales.push(oracle.last.scales[1]![0]!);
      before = now;
    });
    return { lengths, scales };
  }

  test("the layer starves for some 220 steps until the anchor's norm is below 1e-10, then jumps", async () => {
    const { lengths, scales } = await stepsOf({});
    const silent = lengths.slice(LIVELY);
    // 0.9^218 is still above 1e-10.
    const jump = silent.findIndex((_, k) => scales[LIVELY + k] === 1);
    expect(jump).toBe(218);
    expect(silent[100]).toBeLessThan(1e-3);
    expect(silent[jump - 1]).toBeLessThan(1e-6);
    expect(silent[jump]).toBeGreaterThan(1);
  });

  test('with anchor: "mean" it starves half as fast', async () => {
    const { scales } = await stepsOf({ anchor: "mean" });
    const [first, later] = [scales[LIVELY + 50]!, scales[LIVELY + 100]!];
    expect(later / first).toBeCloseTo(0.9 ** 25, 6);
  });

  test.each([["max"], [1]] as const)("with anchor: %j it does not", async (anchor) => {
    const { lengths, scales } = await stepsOf({ anchor });
    expect(Math.min(...lengths.slice(LIVELY))).toBeGreaterThan(0.9);
    expect(new Set(scales.slice(LIVELY))).toEqual(new Set([1]));
  });

  test.each<Partial<OracleOptions>>([
    { silence: "rest" },
    { scales: "lagged", betas: LAGGED_BETAS },
    { scales: "lagged", betas: LAGGED_BETAS, unit: "network" },
  ])("with %j its norm rests, and the layer goes on", async (options) => {
    const { lengths, scales } = await stepsOf(options);
    expect(Math.min(...lengths.slice(LIVELY))).toBeGreaterThan(0.9);
    expect(Math.max(...scales) - Math.min(...scales)).toBeLessThan(1e-12);
  });
});

describe("terms pull in opposite directions in a tensor of one element", () => {
  // A trunk, in which the terms differ by a factor of 3, and a bias, in which they differ by 5 and oppose each other.
  const gradients = times(30, () => [
    [ones(20, 3), ones(1, 5)],
    [ones(20, 1), ones(1, -1)],
  ]);
  async function bias(options: Partial<OracleOptions>): Promise<number[]> {
    const values: number[] = [];
    const situation = { init: [ones(20), ones(1, 0)], options: { terms: 2, ...options }, gradients };
    await train(situation, ({ parameters }) => {
      values.push(parameters[1]![0]!);
    });
    return values;
  }

  test("they cancel for good", async () => {
    expect(new Set(await bias({}))).toEqual(new Set([0]));
  });

  test.each<Partial<OracleOptions>>([
    { unit: "network" },
    { unit: "network", scales: "lagged", betas: LAGGED_BETAS },
  ])("with %j it moves by their difference", async (options) => {
    const values = await bias(options);
    for (const [step, value] of values.entries()) expect(value).toBeLessThan(values[step - 1] ?? 0);
    // The second term is scaled to the norm of the first over both tensors.
    const scale = Math.sqrt((20 * 9 + 25) / (20 + 1));
    expect(values.at(-1)).toBeCloseTo((30 * 1e-3 * (scale - 5)) / 5, 5);
  });
});

describe("a term returns after zeros", () => {
  const LIVELY = 10;
  const AFTER = 20;
  /** The second term's scale in the last step before its pause and in the first step after it. */
  async function scalesAround(
    zeros: number,
    pause: Float32Array | null,
    options: Partial<OracleOptions> = {},
  ): Promise<[before: number, after: number]> {
    const gradients = times(LIVELY + zeros + AFTER, (step) => {
      const pauses = step >= LIVELY && step < LIVELY + zeros;
      return [[ones(4, 0.5)], [pauses ? pause : ones(4, 3)]];
    });
    const scales: number[] = [];
    await train({ init: [ones(4)], options: { terms: 2, ...options }, gradients }, async ({ optimizer }) => {
      scales.push((await optimizer.diagnostics()).scales[1]!);
    });
    return [scales[LIVELY - 1]!, scales[LIVELY + zeros]!];
  }

  // After 240 zeros its norm is below the floor.
  test.each([1, 5, 20, 100, 240])("%d zeros: it is amplified, up to 10 times", async (zeros) => {
    const [before, after] = await scalesAround(zeros, ones(4, 0));
    expect(after / before / (1 / (0.9 ** (zeros + 1) + 0.1))).toBeCloseTo(1, 5);
    if (zeros >= 100) expect(after / before).toBeCloseTo(10, 2);
  });

  test.each<Partial<OracleOptions>>([
    { silence: "rest" },
    { silence: "rest", unit: "network" },
    { scales: "lagged", betas: LAGGED_BETAS },
  ])("with %j its norm rests, so that its scale is as before", async (options) => {
    const [before, after] = await scalesAround(100, ones(4, 0), options);
    expect(after / before).toBeCloseTo(1, 6);
  });

  test.each([10, 300])(
    "with lagged scales and silence: decay it is amplified 1/β₃^%d times",
    async (zeros) => {
      const options = { scales: "lagged", silence: "decay", betas: LAGGED_BETAS } as const;
      const [before, after] = await scalesAround(zeros, ones(4, 0), options);
      expect((after / before) * 0.99 ** zeros).toBeCloseTo(1, 5);
    },
  );

  test("absent instead of zero avoids it", async () => {
    const [before, after] = await scalesAround(100, null);
    expect(after).toBe(before);
  });
});

describe("one NaN or infinity in a gradient", () => {
  // Two tensors of one layer and one of another; the second term is spoiled in the first, in every fifth step.
  const LENGTHS = [40, 3, 9];
  const STEPS = 40;
  function situation(
    value: number,
    options: Partial<OracleOptions>,
    spoil: (k: number) => boolean,
  ): Situation {
    const draw = source(5, LENGTHS);
    const gradients = times(STEPS, (step) => {
      const ofTerms = [draw(1), draw(20)];
      if (spoil(step)) ofTerms[1]![0]![17] = value;
      return ofTerms;
    });
    return {
      init: draw(1),
      tags: ["one", "one", "other"],
      options: { terms: 2, lr: 0.01, ...options },
      gradients,
    };
  }
  const everyFifth = (step: number): boolean => step % 5 === 2;

  test.each([NaN, Infinity, -Infinity])(
    "skipTerm: %d makes its term absent in that layer, and is counted",
    async (value) => {
      let skipped: number[] = [];
      await train(situation(value, {}, everyFifth), async ({ step, optimizer, parameters }) => {
        expect(parameters.every((values) => values.every(Number.isFinite))).toBe(true);
        if (step !== STEPS - 1) return;
        skipped = [...(await optimizer.diagnostics()).skipped];
        const { t } = await optimizer.stateDict();
        expect(t).toEqual(BigInt64Array.of(40n, 40n, 40n, 32n, 32n, 40n));
      });
      expect(skipped).toEqual([0, 0, 8, 0]);
    },
  );

  test.each([NaN, Infinity, -Infinity])(
    "skipStep: %d and nothing moves anywhere, and it is counted",
    async (value) => {
      let before: readonly Float32Array[] | undefined;
      const still: number[] = [];
      await train(
        situation(value, { nonFinite: "skipStep" }, everyFifth),
        async ({ step, parameters, optimizer }) => {
          if (everyFifth(step)) {
            expect(parameters).toEqual(before);
            still.push(step);
          } else expect(parameters).not.toEqual(before);
          before = parameters;
          expect(optimizer.iterations).toBe(step + 1);
          if (step === STEPS - 1) expect([...(await optimizer.diagnostics()).skipped]).toEqual([0, 0, 8, 0]);
        },
      );
      expect(still).toHaveLength(8);
    },
  );

  test.each([NaN, Infinity, -Infinity])(
    "skipElement, with lagged scales: %d leaves the moments of its element and the norm alone, and is counted",
    async (value) => {
      const lagged = { scales: "lagged", betas: LAGGED_BETAS } as const;
      let before: number | undefined;
      await train(situation(value, lagged, everyFifth), async ({ step, optimizer, parameters }) => {
        expect(parameters.every((values) => values.every(Number.isFinite))).toBe(true);
        const state = await optimizer.stateDict();
        const moment = (state["m.1.0"] as Float32Array)[17]!;
        expect(moment === before).toBe(everyFifth(step));
        before = moment;
        if (step !== STEPS - 1) return;
        expect([...(await optimizer.diagnostics()).skipped]).toEqual([0, 0, 8, 0]);
        expect(state["t"]).toEqual(BigInt64Array.of(40n, 40n, 40n, 40n, 40n, 40n));
      });
    },
  );

  test.each([NaN, Infinity, -Infinity])(
    "propagate: %d spoils its element and its norm for good",
    async (value) => {
      const once = (step: number): boolean => step === 20;
      await train(
        situation(value, { nonFinite: "propagate" }, once),
        async ({ step, parameters, optimizer }) => {
          const spoiled = parameters.map((values) =>
            [...values.keys()].filter((k) => Number.isNaN(values[k])),
          );
          expect(spoiled).toEqual([step < 20 ? [] : [17], [], []]);
          expect([...(await optimizer.norms())].map(Number.isFinite)).toEqual([true, true, step < 20, true]);
        },
      );
    },
  );
});

describe("I aligned terms", () => {
  const LR = 1e-3;
  /** The largest distance of any step, in learning rates. */
  async function longestStep(scales: readonly number[], options: Partial<OracleOptions>): Promise<number> {
    const gradients = times(30, () => scales.map((scale) => [ones(3, scale)]));
    let before = 0;
    let longest = 0;
    const situation = {
      init: [ones(3, 0)],
      options: { terms: scales.length, lr: LR, ...options },
      gradients,
    };
    await train(situation, ({ parameters }) => {
      longest = Math.max(longest, (before - parameters[0]![0]!) / LR);
      before = parameters[0]![0]!;
    });
    return longest;
  }
  const scalesOf = (count: number): number[] => times(count, (term) => 10 ** (term % 4));

  test.each([1, 2, 5, 10])("%d terms move a parameter by up to as many times lr", async (count) => {
    expect(await longestStep(scalesOf(count), {})).toBeCloseTo(count, 3);
  });

  test.each([1, 2, 5, 10])('%d of them with stepScale: "mean" step up to lr', async (count) => {
    expect(await longestStep(scalesOf(count), { stepScale: "mean" })).toBeCloseTo(1, 3);
  });
});

describe("weights", () => {
  const LENGTHS = [30, 6];
  const weights = [1, 5, 0.2];
  test.each([1, 0.5, 0.25, 0])(
    "balance: %d makes scales of w·(n_a/n)ᵖ: from the reference's to the weights alone",
    async (balance) => {
      const draw = source(7, LENGTHS);
      const gradients = times(40, () => [draw(1), draw(300), draw(0.02)]);
      const situation: Situation = {
        init: draw(1),
        options: { terms: 3, lr: 0.01, balance, weights },
        gradients,
      };
      await train(situation, async ({ optimizer }) => {
        const { norms, scales } = await optimizer.diagnostics();
        const expected = [...norms].map((norm, at) => {
          return weights[Math.floor(at / 2)]! * (norms[at % 2]! / norm) ** balance;
        });
        expectClose(scales, expected);
      });
    },
  );
});

describe("resuming", () => {
  const LENGTHS = [50, 4100, 3];
  const STEPS = 30;
  const file = path.join(temporaryFolder(), "optimizer.safetensors");
  const draw = source(8, LENGTHS);
  // Some terms rest at times and a NaN occurs, so that every part of the state matters.
  const gradients = times(STEPS, (step) => {
    const ofTerms: (Float32Array | null)[][] = [draw(1), draw(50), draw(0.1)];
    if (step % 4 === 1) ofTerms[2]![0] = null;
    if (step % 7 === 3) ofTerms[1]![2]![0] = NaN;
    return ofTerms;
  });
  const init = draw(1);
  const forms: Partial<OracleOptions>[] = [
    {},
    { firstMoment: "summed", amsgrad: true },
    { firstMoment: "summed", secondMoment: "summed", weightDecay: 0.01 },
    { anchor: "max", balance: 0.5, stepScale: "mean", weights: [1, 2, 3] },
    { nonFinite: "skipStep", weightDecay: 0.01 },
    { scales: "lagged", betas: LAGGED_BETAS, anchor: "max" },
    { scales: "lagged", betas: LAGGED_BETAS, unit: "network", firstMoment: "summed" },
  ];

  /** One optimizer takes the first steps, another the rest; `pass` transfers the state. */
  async function interrupted(
    what: Experiment,
    at: number,
    pass: (from: MTAdam, to: MTAdam) => Promise<void>,
  ): Promise<Experiment & { parameters: Float32Array[]; optimizer: MTAdam }> {
    let { optimizer, buffers } = makeOptimizer(what, what.init, device);
    for (const [step, ofStep] of what.gradients.entries()) {
      if (step === at) {
        const values = await Promise.all(buffers.map((buffer) => buffer.download()));
        const fresh = makeOptimizer(what, values, device);
        await pass(optimizer, fresh.optimizer);
        optimizer.dispose();
        ({ optimizer, buffers } = fresh);
      }
      optimizer.step(ofStep.map((ofTerm) => ofTerm.map((values) => values && device.buffer(values))));
    }
    const parameters = await Promise.all(buffers.map((buffer) => buffer.download()));
    return { ...what, parameters, optimizer };
  }

  const ways: [string, (from: MTAdam, to: MTAdam) => Promise<void>][] = [
    ["stateDict", async (from, to) => to.loadStateDict(await from.stateDict())],
    [
      "save and load",
      async (from, to) => {
        await from.save(file);
        await to.load(file);
      },
    ],
  ];
  describe.each(forms)("%j", (form) => {
    const situation: Situation = {
      init,
      tags: ["a", undefined, "a"],
      options: { terms: 3, ...form },
      gradients,
    };

    test("an uninterrupted run is correct", () => train(situation));

    test.each(ways)("%s: the same bits as without an interruption", async (_, pass) => {
      const through = await run(experimentOf(situation), { device });
      const { parameters, optimizer } = await interrupted(experimentOf(situation), 13, pass);
      expectSameBits({ parameters, state: await optimizer.stateDict() }, through);
    });
  });
});

describe("large or tiny gradients", () => {
  const LENGTHS = [4099, 5];

  test("r is correct to 1e-6 from 1e-30 to 1e30", async () => {
    // With β₃ = 0 n is r; every step is of another magnitude. If the moments leave the range of float32, θ is not
    // checked.
    const draw = source(9, LENGTHS);
    const gradients = times(61, (k) => [draw(10 ** (k - 30))]);
    const options = { terms: 1, betas: [0, 0, 0] as const };
    await train({ init: draw(1), options, gradients }, () => undefined, expectBalance);
  });

  test("with lagged scales, elements above 1e18 rest, and the norm follows", async () => {
    const draw = source(12, [50]);
    const gradients = times(20, (step) => [draw(1), draw(step === 7 ? 1e30 : 3)]);
    const options = { terms: 2, scales: "lagged", betas: LAGGED_BETAS } as const;
    const seen: Float32Array[] = [];
    await train({ init: draw(1), options, gradients }, async ({ optimizer }) => {
      seen.push((await optimizer.stateDict())["m.1.0"] as Float32Array);
    });
    expect(seen[7]).toEqual(seen[6]);
    expect(seen[8]).not.toEqual(seen[7]);
    expect(seen.every((moments) => moments.every(Number.isFinite))).toBe(true);
  });

  test("the moments are correct for ĝ between 1e-16 and 1e18", async () => {
    const draw = source(10, [200]);
    // Every element is between 1 and 10 times 10^exponent.
    for (let exponent = -16; exponent <= 17; exponent += 3) {
      const gradients = times(10, () => [
        draw(4.5).map((values) =>
          values.map((value) => (Math.sign(value) || 1) * (1 + Math.abs(value)) * 10 ** exponent),
        ),
      ]);
      await train(
        { init: draw(1), options: { terms: 1 }, gradients },
        async ({ step, oracle, optimizer }) => {
          if (step !== gradients.length - 1) return;
          const state = await optimizer.stateDict();
          const { m, v } = oracle.tensors[0]!.terms[0]!;
          const largest = maxAbs([...m]);
          expect(maxAbs(difference([state["m.0.0"] as Float32Array], [m]))).toBeLessThanOrEqual(
            1e-6 * largest,
          );
          expectClose(state["v.0.0"] as Float32Array, [...v]);
        },
      );
    }
  });
});

describe("micro-batches", () => {
  const LENGTHS = [70, 5];
  const MICRO = 4;
  const STEPS = 20;

  test("summed gradients with gradientScale give the norm of the mean", async () => {
    const draw = source(11, LENGTHS);
    const init = draw(1);
    /** [step][micro-batch][term][tensor] */
    const parts = times(STEPS, () => times(MICRO, () => [draw(1), draw(30)]));
    const options = { terms: 2, lr: 0.01 };
    const oracle = oracleOf({ init, options });
    const experiment: Experiment = { init, options, gradients: [] };
    const trainings = [device, other].map((where) => ({ where, ...makeOptimizer(experiment, init, where) }));
    for (const [step, batches] of parts.entries()) {
      for (const { where, optimizer } of trainings) {
        const place = (ofTerm: Float32Array[]): DeviceBuffer[] =>
          ofTerm.map((values) => where.buffer(values));
        const [totals, ...rest] = batches.map((terms) => terms.map(place));
        for (const batch of rest)
          batch.forEach((ofTerm, term) => optimizer.addGradients(totals![term], ofTerm));
        const call = { gradientScale: MICRO };
        if (step % 2 === 0) optimizer.step(totals!, call);
        else {
          totals!.forEach((ofTerm, term) => optimizer.accumulate(term, ofTerm, call));
          optimizer.update();
        }
      }
      const sums = batches[0]!.map((ofTerm, term) =>
        ofTerm.map((values, tensor) =>
          Float64Array.from(values, (_, k) =>
            batches.reduce((sum, batch) => sum + batch[term]![tensor]![k]!, 0),
          ),
        ),
      );
      oracle.step(sums, { gradientScale: MICRO });
      const [{ optimizer, buffers }] = trainings as [(typeof trainings)[0]];
      const parameters = await Promise.all(buffers.map((buffer) => buffer.download()));
      await expectOracle({ step, parameters, optimizer, oracle }, init);
      // The mean of the micro-batches' norms is another number, about twice as large.
      const means = batches.map((terms) => euclidean([...terms[0]![0]!]) / MICRO);
      expect(oracle.last.norms[0]![0]! / means.reduce((sum, norm) => sum + norm, 0)).toBeLessThan(0.8);
    }
    const [actual, expected] = await Promise.all(
      trainings.map(async ({ optimizer, buffers }) => ({
        parameters: await Promise.all(buffers.map((buffer) => buffer.download())),
        state: await optimizer.stateDict(),
      })),
    );
    expectSameBits(actual!, expected!);
  });
});
