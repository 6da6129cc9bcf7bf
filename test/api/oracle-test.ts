import fc from "fast-check";
import { isSlow, testDevice } from "../support/device";
import { difference, euclidean } from "../support/golden";
import { oracleOf, trainOracle, type Oracle, type OracleOptions } from "../support/oracle";
import { randomSource, randomTensor } from "../support/random";
import { withForms } from "../support/forms";
import {
  expectSameBits,
  libraryOptions,
  makeOptimizer,
  plainestLike,
  run,
  waysOf,
  type Experiment,
} from "../support/run";

// Lengths around every vector width and chunk; few of the long ones.
const length = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 70 }) },
  { weight: 1, arbitrary: fc.constantFrom(255, 256, 257, 4095, 4096, 4097, 12_300) },
);

interface Model {
  lengths: number[];
  tags: (number | undefined)[];
  groups: { lr: number; weightDecay: number; eps: number; maximize: boolean }[];
  terms: number;
  steps: number;
  presence: number;
  /** How often a gradient is 0. */
  silent: number;
  /** How often a gradient holds a value that is not finite. */
  spoiled: number;
  seed: number;
  options: Pick<OracleOptions, "amsgrad" | "firstMoment" | "secondMoment"> &
    Pick<OracleOptions, "initialNorm" | "decoupledWeightDecay"> &
    Pick<OracleOptions, "anchor" | "balance" | "stepScale" | "nonFinite" | "unit" | "silence" | "scales"> & {
      betas: [number, number, number];
      weights: number[];
    };
  gradientScale: number;
}

const group = fc.record({
  lr: fc.constantFrom(1e-3, 0.02),
  weightDecay: fc.constantFrom(0, 0.1),
  eps: fc.constantFrom(1e-8, 1e-4, 1),
  maximize: fc.boolean(),
});

/** The options with those values that lagged scales allow. */
function lagged(options: Model["options"]): Model["options"] {
  const [beta1, beta2, beta3] = options.betas;
  return { ...options, betas: [beta1, beta2, Math.max(beta3, 0.99)], nonFinite: "skipElement" };
}

const model: fc.Arbitrary<Model> = fc
  .record({ terms: fc.integer({ min: 1, max: 12 }), tensors: fc.integer({ min: 1, max: 6 }) })
  .chain(({ terms, tensors }) => {
    const perTensor = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
      fc.array(arbitrary, { minLength: tensors, maxLength: tensors });
    return fc.record({
      lengths: perTensor(length),
      tags: perTensor(fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined })),
      groups: perTensor(group),
      terms: fc.constant(terms),
      steps: fc.integer({ min: 1, max: 6 }),
      presence: fc.constantFrom(1, 0.7),
      silent: fc.constantFrom(0, 0.3),
      spoiled: fc.constantFrom(0, 0.02),
      seed: fc.integer({ min: 0, max: 2 ** 31 }),
      options: withForms({
        amsgrad: fc.boolean(),
        initialNorm: fc.constantFrom("first" as const, 1),
        decoupledWeightDecay: fc.boolean(),
        anchor: fc.oneof(
          fc.constantFrom("first" as const, "max" as const, "mean" as const),
          fc.integer({ min: 0, max: terms - 1 }),
        ),
        balance: fc.oneof(fc.constantFrom(1, 0.5, 0), fc.double({ min: 0, max: 1, noNaN: true })),
        stepScale: fc.constantFrom("sum" as const, "mean" as const),
        nonFinite: fc.constantFrom("skipTerm" as const, "skipStep" as const),
        unit: fc.constantFrom("tensor" as const, "network" as const),
        silence: fc.constantFrom("decay" as const, "rest" as const),
        betas: fc.constantFrom<[number, number, number][]>(
          [0.9, 0.999, 0.9],
          [0.8, 0.95, 0.999],
          [0, 0.9, 0],
        ),
        scales: fc.constantFrom("current" as const, "lagged" as const),
        weights: fc.array(fc.constantFrom(1, 0.5, 3, 0), { minLength: terms, maxLength: terms }),
      }).map((options) => (options.scales === "lagged" ? lagged(options) : options)),
      gradientScale: fc.constantFrom(1, 1024, 3),
    });
  });

/** Gradients whose scales differ by orders of magnitude from term to term and step to step. */
function experiment({
  lengths,
  tags,
  groups,
  terms,
  steps,
  presence,
  silent,
  spoiled,
  seed,
  options,
  gradientScale,
}: Model): Experiment {
  const random = randomSource(seed);
  const scales = Array.from({ length: terms }, () => 10 ** (random() * 6 - 3));
  return {
    init: lengths.map((count) => randomTensor(random, count, 1)),
    tags,
    groups,
    options: libraryOptions({ terms, ...options }),
    gradientScale,
    gradients: Array.from({ length: steps }, () =>
      scales.map((scale) =>
        lengths.map((count) => {
          if (random() >= presence) return null;
          if (random() < silent) return new Float32Array(count);
          const values = randomTensor(random, count, scale * (0.5 + random()));
          if (count > 0 && random() < spoiled)
            values[Math.floor(random() * count)] = random() < 0.5 ? NaN : Infinity;
          return values;
        }),
      ),
    ),
  };
}

const oracleOfModel = ({ tags, groups, terms, options }: Model, init: readonly Float32Array[]): Oracle =>
  oracleOf({ init, tags, groups, options: { ...options, terms } });

describe("random models", () => {
  test("are within 1e-6 of the oracle, relative to the distance moved", async () => {
    await fc.assert(
      fc.asyncProperty(model, fc.boolean(), async (drawn, streamed) => {
        const what = experiment(drawn);
        const oracle = oracleOfModel(drawn, what.init);
        const call = { gradientScale: drawn.gradientScale };
        const streams = streamed && drawn.options.nonFinite !== "skipStep";
        trainOracle(oracle, what.gradients, call, streams);
        const way = streams ? "accumulate" : "step";
        const { parameters } = await run(what, { device: testDevice(), way });
        const error = euclidean(difference(parameters, oracle.parameters));
        const moved = euclidean(difference(oracle.parameters, what.init));
        const size = euclidean(oracle.parameters.flatMap((values) => [...values]));
        // If parameters move little, the remaining error is half a rounding of θ per step.
        expect(error).toBeLessThanOrEqual(1e-6 * moved + 2 ** -24 * drawn.steps * size);
      }),
      { numRuns: isSlow ? 25 : 200, seed: 1 },
    );
  });

  test("are equally close to it if steps are discarded", async () => {
    await fc.assert(
      fc.asyncProperty(model, fc.nat(), async (given, choice) => {
        const nonFinite = given.options.scales === "lagged" ? "skipElement" : "skipTerm";
        const drawn: Model = { ...given, options: { ...given.options, nonFinite } };
        const what = experiment(drawn);
        const oracle = oracleOfModel(drawn, what.init);
        const device = testDevice();
        const { optimizer, buffers } = makeOptimizer(what, what.init, device);
        const call = { gradientScale: drawn.gradientScale };
        for (const [step, gradients] of what.gradients.entries()) {
          // Every other step is discarded after some of its terms, and the next step starts from the beginning.
          const some = gradients.slice(0, choice % (gradients.length + 1));
          for (const list of step % 2 === 0 ? [some, gradients] : [gradients]) {
            for (const [term, ofTerm] of list.entries()) {
              oracle.accumulate(term, ofTerm, call);
              const onDevice = ofTerm.map((values) => values && device.buffer(values));
              optimizer.accumulate(term, onDevice, call);
            }
            const end = list === gradients ? "update" : "discard";
            oracle[end]();
            optimizer[end]();
          }
        }
        expect(optimizer.iterations).toBe(oracle.iterations);
        const parameters = await Promise.all(buffers.map((buffer) => buffer.download()));
        const error = euclidean(difference(parameters, oracle.parameters));
        const moved = euclidean(difference(oracle.parameters, what.init));
        const size = euclidean(oracle.parameters.flatMap((values) => [...values]));
        expect(error).toBeLessThanOrEqual(1e-6 * moved + 2 ** -24 * drawn.steps * size);
      }),
      { numRuns: isSlow ? 15 : 100, seed: 4 },
    );
  });

  test("with propagated NaNs and infinities have them in the same places as the oracle", async () => {
    let found = 0;
    // 1e-5 is loose: this test is about values that are not finite.
    const agrees = (actual: number, expected: number): boolean =>
      Number.isFinite(expected)
        ? Math.abs(actual - expected) <= 1e-5 * (1 + Math.abs(expected))
        : Object.is(actual, expected);
    await fc.assert(
      fc.asyncProperty(model, async (given) => {
        const options = { ...given.options, nonFinite: "propagate" as const };
        const drawn = { ...given, spoiled: 0.1, options };
        const what = experiment(drawn);
        const oracle = oracleOfModel(drawn, what.init);
        for (const gradients of what.gradients)
          oracle.step(gradients, { gradientScale: drawn.gradientScale });
        const { parameters } = await run(what, { device: testDevice() });
        const wrong = oracle.parameters.flatMap((expected, tensor) =>
          [...expected].filter((value, k) => !agrees(parameters[tensor]![k]!, value)),
        );
        expect(wrong).toEqual([]);
        found += oracle.parameters.flatMap((values) => [...values]).filter(Number.isNaN).length;
      }),
      { numRuns: isSlow ? 20 : 60, seed: 3 },
    );
    expect(found).toBeGreaterThan(isSlow ? 100 : 1000);
  });

  test("have the same bits for every kind of step, any number of threads and after a restart", async () => {
    const one = testDevice({ threads: 1, instructionSet: "baseline" });
    const seven = testDevice({ threads: 7 });
    await fc.assert(
      fc.asyncProperty(model, fc.nat(), async (drawn, choice) => {
        const what = experiment(drawn);
        const ways = waysOf(what.options);
        const way = ways[choice % ways.length]!;
        const expected = await run(what, { device: one, way: plainestLike(way, what.options) });
        expectSameBits(await run(what, { device: seven, way, restoreBefore: drawn.steps >> 1 }), expected);
      }),
      { numRuns: isSlow ? 12 : 100, seed: 2 },
    );
  });
});
