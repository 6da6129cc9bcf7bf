/**
 * Finite in, finite out (docs/algorithm.md): with "skipTerm" and "skipStep", finite gradients of any size leave
 * parameters and moments finite.
 */

import fc from "fast-check";
import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { isSlow, testDevice } from "../support/device";
import { oracleOf, trainOracle, type OracleOptions } from "../support/oracle";
import { randomSource } from "../support/random";
import { expectSameBits, libraryOptions, run, type Experiment, type Outcome } from "../support/run";

const device = testDevice();
const buffer = (...values: number[]): DeviceBuffer<"float32"> => device.buffer(Float32Array.from(values));
const LARGEST = 3e38;

/** Gradients from 1e-30 to the largest float32. */
interface Model {
  lengths: number[];
  tags: (number | undefined)[];
  steps: number;
  /** How often a gradient has a size of its own instead of 1. */
  wild: number;
  seed: number;
  options: Partial<OracleOptions> & Pick<OracleOptions, "terms" | "weights" | "nonFinite">;
  gradientScale: number;
}

const model: fc.Arbitrary<Model> = fc
  .record({ terms: fc.integer({ min: 1, max: 4 }), tensors: fc.integer({ min: 1, max: 4 }) })
  .chain(({ terms, tensors }) => {
    const perTensor = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
      fc.array(arbitrary, { minLength: tensors, maxLength: tensors });
    return fc.record({
      lengths: perTensor(fc.integer({ min: 0, max: 5 })),
      tags: perTensor(fc.option(fc.integer({ min: 0, max: 1 }), { nil: undefined })),
      steps: fc.integer({ min: 1, max: 8 }),
      wild: fc.constantFrom(0.1, 0.5, 1),
      seed: fc.integer({ min: 0, max: 2 ** 31 }),
      gradientScale: fc.constantFrom(1, 1e-20, 3e-39, 1e30),
      options: fc.record({
        terms: fc.constant(terms),
        lr: fc.constantFrom(1e-3, 1),
        betas: fc.constantFrom<[number, number, number][]>([0.9, 0.999, 0.9], [0, 0, 0], [0.9, 0.99999, 1]),
        eps: fc.constantFrom(1e-8, 1e-45),
        weights: fc.array(fc.constantFrom(1, 1, 0, 1e-30, 1e30, LARGEST), {
          minLength: terms,
          maxLength: terms,
        }),
        amsgrad: fc.boolean(),
        firstMoment: fc.constantFrom("perTerm" as const, "summed" as const),
        initialNorm: fc.constantFrom("first" as const, 1, 1e30),
        anchor: fc.oneof(
          fc.constantFrom("first" as const, "max" as const, "mean" as const),
          fc.integer({ min: 0, max: terms - 1 }),
        ),
        balance: fc.constantFrom(1, 0.3, 0),
        stepScale: fc.constantFrom("sum" as const, "mean" as const),
        nonFinite: fc.constantFrom("skipTerm" as const, "skipStep" as const),
        unit: fc.constantFrom("tensor" as const, "network" as const),
        silence: fc.constantFrom("decay" as const, "rest" as const),
      }),
    });
  })
  // The library refuses others.
  .filter(({ options, gradientScale }) =>
    options.weights.every((weight) => Number.isFinite(Math.fround(weight / gradientScale))),
  );

function experiment({ lengths, tags, steps, wild, seed, options, gradientScale }: Model): Experiment {
  const random = randomSource(seed);
  const size = (): number => Math.min(LARGEST, 10 ** (random() < wild ? random() * 69 - 30 : 0));
  const value = (scale: number): number => (random() < 0.1 ? 0 : scale * (random() < 0.5 ? -1 : 1));
  return {
    init: lengths.map((length) => new Float32Array(length).fill(0.5)),
    tags,
    options: libraryOptions(options),
    gradientScale,
    gradients: Array.from({ length: steps }, () =>
      Array.from({ length: options.terms }, () => {
        const ofTerm = size();
        return lengths.map((length) => {
          const scale = random() < 0.5 ? ofTerm : size();
          return random() < 0.1 ? null : Float32Array.from({ length }, () => value(scale));
        });
      }),
    ),
  };
}

/** The parameters and state tensors that hold a NaN or an infinity. */
function notFinite({ parameters, state }: Outcome): string[] {
  const tensors: [string, unknown][] = [...parameters.entries()].map(([k, values]) => [`θ ${k}`, values]);
  return [...tensors, ...Object.entries(state)].flatMap(([name, values]) => {
    const floats = values instanceof Float32Array || values instanceof Float64Array;
    return floats && !values.every(Number.isFinite) ? [name] : [];
  });
}

const skippedOf = ({ state }: Outcome): number[] => Array.from(state["skipped"] as BigInt64Array, Number);

describe("gradients of any size", () => {
  test("leave parameters and state finite, and are skipped where the oracle skips them", async () => {
    let [skips, moves] = [0, 0];
    await fc.assert(
      fc.asyncProperty(model, fc.boolean(), async (drawn, streamed) => {
        const what = experiment(drawn);
        const oracle = oracleOf({ ...drawn, init: what.init });
        const streams = streamed && drawn.options.nonFinite !== "skipStep";
        const call = { gradientScale: drawn.gradientScale };
        trainOracle(oracle, what.gradients, call, streams);
        const outcome = await run(what, { device, way: streams ? "accumulate" : "step" });
        expect(notFinite(outcome)).toEqual([]);
        const skipped = skippedOf(outcome);
        expect(skipped).toEqual(oracle.skipped.flat());
        skips += skipped.filter((count) => count > 0).length;
        moves += outcome.parameters.filter((values) => values.some((each) => each !== 0.5)).length;
      }),
      { numRuns: isSlow ? 60 : 600, seed: 11 },
    );
    expect(skips).toBeGreaterThan(isSlow ? 20 : 200);
    expect(moves).toBeGreaterThan(isSlow ? 20 : 200);
  });

  test("give the same bits at once and term by term, with the first term as the anchor", async () => {
    await fc.assert(
      fc.asyncProperty(model, async (given) => {
        const drawn = {
          ...given,
          options: { ...given.options, anchor: "first" as const, nonFinite: "skipTerm" as const },
        };
        const what = experiment(drawn);
        expectSameBits(await run(what, { device, way: "accumulate" }), await run(what, { device }));
      }),
      { numRuns: isSlow ? 40 : 300, seed: 12 },
    );
  });
});

/** One parameter of two elements and two terms, "a" and "b". */
class Two {
  readonly theta = buffer(1, 1);
  readonly optimizer: MTAdam;

  constructor(options: Partial<MTAdamOptions> = {}) {
    this.optimizer = new MTAdam([this.theta], { terms: ["a", "b"], lr: 0.1, ...options });
  }

  /** A step with gradients whose elements all have these values; null = absent. */
  step(a: number | null, b: number | null, gradientScale = 1): void {
    const values = [a, b].map((value) => [value === null ? null : buffer(value, value)]);
    this.optimizer.step(values, { gradientScale });
  }

  async state(): Promise<unknown> {
    const { metadata, skipped, ...tensors } = await this.optimizer.stateDict();
    expect([metadata, skipped]).toHaveLength(2);
    return [tensors, await this.theta.download()];
  }

  async skipped(): Promise<number[]> {
    return [...(await this.optimizer.diagnostics()).skipped];
  }
}

const UNITS = ["tensor", "network"] as const;

describe.each(UNITS)('with unit: "%s"', (unit) => {
  test("an anchor that explodes is absent for that step; its former norm still anchors", async () => {
    const [exploding, expected] = [new Two({ unit }), new Two({ unit })];
    for (const two of [exploding, expected]) two.step(1, 3);
    exploding.step(1e21, 2);
    expected.step(null, 2);
    expect(await exploding.state()).toEqual(await expected.state());
    expect(await exploding.skipped()).toEqual([1, 0]);
    for (const two of [exploding, expected]) two.step(2, -1);
    expect(await exploding.state()).toEqual(await expected.state());
  });

  test("an anchor that explodes in its first step is not the anchor; the next one is", async () => {
    const [exploding, expected] = [new Two({ unit }), new Two({ unit })];
    exploding.step(1e21, 2);
    expected.step(null, 2);
    expect(await exploding.state()).toEqual(await expected.state());
    const { scales, shares } = await exploding.optimizer.diagnostics();
    expect([...scales]).toEqual([NaN, 1]);
    expect([...shares]).toEqual([NaN, 1]);
  });

  test("all anchors may explode, one after the other", async () => {
    for (const anchor of ["first", "max", "a", "b"] as const) {
      const two = new Two({ unit, anchor });
      const before = await two.state();
      two.step(1e21, 1e25);
      expect(await two.state()).toEqual(before);
      expect(await two.skipped()).toEqual([1, 1]);
    }
  });

  test("a term that is large beside a smaller anchor is only scaled down", async () => {
    const two = new Two({ unit });
    two.step(1, 1e21);
    expect(await two.skipped()).toEqual([0, 0]);
    const { scales } = await two.optimizer.diagnostics();
    expect(scales[1]).toBeCloseTo(1e-21, 26);
  });

  test("a term that is too large once it is scaled is absent, and so is one whose factor is too large", async () => {
    // An absent anchor keeps its norm of 1.4e17; the weight brings b to 1.4e19. Then the factor is 1e17 · 1e30.
    for (const [weight, gradientScale] of [
      [100, 1],
      [1, 1e-30],
    ] as const) {
      const [model, expected] = [
        new Two({ unit, weights: [1, weight] }),
        new Two({ unit, weights: [1, weight] }),
      ];
      for (const two of [model, expected]) two.step(1e17, null);
      model.step(null, gradientScale, gradientScale);
      expected.step(null, null);
      expect(await model.state()).toEqual(await expected.state());
      expect(await model.skipped()).toEqual([0, 1]);
    }
  });

  test("a collapsed loss scale freezes nothing for good", async () => {
    const two = new Two({ unit });
    for (let k = 0; k < 3; ++k) two.step(1, 2, 1e-30);
    expect([...(await two.theta.download())]).toEqual([1, 1]);
    expect(await two.skipped()).toEqual([3, 3]);
    two.step(1, 2);
    const [moved] = await two.theta.download();
    expect(moved).toBeCloseTo(0.8, 5); // both terms' first steps of lr
  });

  test("skipStep leaves everything as it was", async () => {
    for (const form of [{}, { amsgrad: true }, { firstMoment: "summed" }] as const) {
      const options = { unit, nonFinite: "skipStep", ...form } as const;
      const [model, expected] = [new Two(options), new Two(options)];
      model.step(1e21, 1);
      expect(await model.skipped()).toEqual([1, 0]);
      for (const two of [model, expected]) two.step(1, 2);
      model.step(1, 1e21); // only scaled down
      expected.step(1, 1e21);
      model.step(1e25, 1);
      model.step(2, 3);
      expected.step(2, 3);
      expect(await model.state()).toEqual(await expected.state());
      expect(await model.skipped()).toEqual([2, 0]);
    }
  });

  test("propagate computes with it", async () => {
    const two = new Two({ unit, nonFinite: "propagate" });
    two.step(1e21, 1);
    expect(await two.skipped()).toEqual([0, 0]);
    expect((await two.optimizer.norms())[0]).toBeCloseTo(Math.fround(Math.SQRT2 * 1e21), -15);
  });

  test("the mean of the norms is no anchor that could be absent", async () => {
    const two = new Two({ unit, anchor: "mean" });
    two.step(1e30, 1); // the mean is 1.4e15
    expect(await two.skipped()).toEqual([0, 0]);
    two.step(3e38, 1);
    expect(await two.skipped()).toEqual([1, 1]);
  });
});

describe('with unit: "network"', () => {
  const make = (options: Partial<MTAdamOptions> = {}): MTAdam =>
    new MTAdam(
      ["v", "w"].map((name) => ({ name, data: buffer(1, 1) })),
      { terms: 2, unit: "network", ...options },
    );

  test("a term leaves the whole unit, and each of its layers with a gradient counts that", async () => {
    const optimizer = make();
    optimizer.step([
      [buffer(1, 1), buffer(1, 1)],
      [buffer(1, 1), buffer(1, 1)],
    ]);
    const before = await optimizer.norms();
    optimizer.step([
      [buffer(1, 1), buffer(1e21, 1)],
      [buffer(2, 2), buffer(2, 2)],
    ]);
    const { norms, skipped } = await optimizer.diagnostics();
    expect([...norms.slice(0, 2)]).toEqual([...before.slice(0, 2)]);
    expect([...skipped]).toEqual([1, 1, 0, 0]);
    optimizer.step([
      [null, buffer(1e21, 1)],
      [buffer(2, 2), buffer(2, 2)],
    ]);
    expect([...(await optimizer.diagnostics()).skipped]).toEqual([1, 2, 0, 0]);
  });

  test("a term that leaves the first step has reached no tensor", async () => {
    const [model, expected] = [make(), make()];
    model.step([
      [buffer(1e21, 1), buffer(1, 1)],
      [null, null],
    ]);
    expected.step([
      [null, null],
      [null, null],
    ]);
    for (const optimizer of [model, expected]) {
      optimizer.step([
        [buffer(1, 1), null],
        [buffer(3, 3), buffer(5, 5)],
      ]);
    }
    expect([...(await model.norms())]).toEqual([...(await expected.norms())]);
  });
});

test("the cosine of a term that is too large is NaN", async () => {
  const two = new Two({ cosines: true });
  two.step(1e21, 1);
  expect([...(await two.optimizer.diagnostics()).cosines!]).toEqual([NaN, NaN, NaN, 1]);
});

test("terms that have moved stay, also if a later term makes them too large", async () => {
  // b is scaled down to the anchor a. The anchor then falls silent, and is below the floor when a comes.
  const two = new Two({ betas: [0.9, 0.999, 0] });
  two.step(1, 1);
  two.optimizer.accumulate("b", [buffer(1e21, 1e21)]);
  two.optimizer.accumulate("a", [buffer(0, 0)]);
  two.optimizer.update();
  expect(await two.skipped()).toEqual([0, 0]);
  expect((await two.theta.download()).every(Number.isFinite)).toBe(true);
});
