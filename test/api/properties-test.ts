import fc from "fast-check";
import { MTAdam, type DeviceBuffer, type MTAdamOptions, type ParameterDescription } from "../../lib";
import { isSlow, testDevice } from "../support/device";
import { FORMS, withForms, type Form } from "../support/forms";
import { randomSource, randomTensor } from "../support/random";

// Properties of every training, tested with random numbers.

const device = testDevice();
const runs = { numRuns: isSlow ? 8 : 40, seed: 5 };

const place = (values: Float32Array): DeviceBuffer<"float32"> => device.buffer(values);

interface Training {
  readonly parameters: readonly ParameterDescription[];
  readonly options: MTAdamOptions;
  /** [step][term][parameter] */
  readonly gradients: readonly (readonly (readonly (Float32Array | null)[])[])[];
}

/** θ per parameter after the steps. */
async function train({ parameters, options, gradients }: Training): Promise<Float32Array[]> {
  const optimizer = new MTAdam(parameters, options);
  for (const ofStep of gradients) {
    optimizer.step(ofStep.map((ofTerm) => ofTerm.map((values) => values && place(values))));
  }
  const theta = parameters.map(({ data }) => (data as DeviceBuffer<"float32">).download());
  return Promise.all(theta);
}

const options = withForms({
  amsgrad: fc.boolean(),
  weightDecay: fc.constantFrom(0, 0.1),
  decoupledWeightDecay: fc.boolean(),
  stepScale: fc.constantFrom("sum" as const, "mean" as const),
  unit: fc.constantFrom("tensor" as const, "network" as const),
  silence: fc.constantFrom("decay" as const, "rest" as const),
  scales: fc.constantFrom("current" as const, "lagged" as const),
  betas: fc.constantFrom([0.9, 0.999, 0.99] as const, [0.9, 0.999, 0.999] as const),
});

const lengths = fc.array(fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(256, 4096, 4099)), {
  minLength: 1,
  maxLength: 5,
});

const TERMS = 3;
const STEPS = 4;

/** Values that depend on the seed alone, however they are split into tensors. */
const draw = (seed: number, counts: readonly number[], scale: number): Float32Array[] => {
  const random = randomSource(seed);
  return counts.map((count) => randomTensor(random, count, scale));
};

const gradientsOf = (
  seed: number,
  counts: readonly number[],
  scales: readonly number[],
): Float32Array[][][] =>
  Array.from({ length: STEPS }, (_, step) =>
    scales.map((scale, term) => draw(seed + 100 * step + term + 1, counts, scale)),
  );

/** Which gradients a training lacks, and which are zeros: heads, terms left out of a step, silent terms. */
const gaps = fc.record({
  /** By tensor, for the terms after the first. */
  heads: fc.array(fc.constantFrom(undefined, 1, 2), { minLength: 5, maxLength: 5 }),
  leftOut: fc.record({ term: fc.integer({ min: 1, max: 2 }), step: fc.nat(STEPS) }),
  /** With lagged scales, a term that begins with zeros is only weighted in its next step. So it is silent later. */
  silent: fc.record({ term: fc.integer({ min: 1, max: 2 }), step: fc.integer({ min: 2, max: STEPS }) }),
});
type Gaps = typeof gaps extends fc.Arbitrary<infer T> ? T : never;

/** Gradients with gaps. The first term reaches every tensor in every step. */
const withGaps = (
  gradients: readonly (readonly (readonly Float32Array[])[])[],
  { heads, leftOut, silent }: Gaps,
): (Float32Array | null)[][][] =>
  gradients.map((ofStep, step) =>
    ofStep.map((ofTerm, term) =>
      ofTerm.map((values, k) => {
        if (term > 0 && heads[k] === term) return null;
        if (term === leftOut.term && step === leftOut.step) return null;
        return term === silent.term && step === silent.step ? new Float32Array(values.length) : values;
      }),
    ),
  );

/** Throws unless values that started at `init` differ by no more than the rounding of sums and of θ. */
function expectAlike(
  actual: readonly Float32Array[],
  expected: readonly Float32Array[],
  init: readonly Float32Array[],
): void {
  const [values, wanted, start] = [actual, expected, init].map((each) => each.flatMap((part) => [...part]));
  const error = Math.hypot(...wanted!.map((value, k) => value - values![k]!));
  const moved = Math.hypot(...wanted!.map((value, k) => value - start![k]!));
  expect(error).toBeLessThanOrEqual(1e-6 * moved + STEPS * 2 ** -24 * Math.hypot(...wanted!));
}

describe("a training", () => {
  test("over its parameters in another order gives the same values in that order", async () => {
    const permuted = lengths.chain((counts) =>
      fc.record({
        counts: fc.constant(counts),
        order: fc.shuffledSubarray([...counts.keys()], { minLength: counts.length }),
      }),
    );
    await fc.assert(
      fc.asyncProperty(permuted, options, fc.nat(1e6), gaps, async ({ counts, order }, given, seed, gaps) => {
        const gradients = withGaps(gradientsOf(seed, counts, [1, 100, 0.01]), gaps);
        const theta = draw(seed, counts, 1);
        const run = (positions: readonly number[]): Promise<Float32Array[]> =>
          train({
            parameters: positions.map((k) => ({ name: `p${k}`, data: place(theta[k]!) })),
            options: { ...given, terms: TERMS },
            gradients: gradients.map((ofStep) => ofStep.map((ofTerm) => positions.map((k) => ofTerm[k]!))),
          });
        const straight = await run([...counts.keys()]);
        const expected = order.map((k) => straight[k]!);
        // A unit adds up its tensors in their order.
        if (given.unit === "tensor") expect(await run(order)).toEqual(expected);
        const init = order.map((k) => theta[k]!);
        expectAlike(await run(order), expected, init);
      }),
      runs,
    );
  });

  test.each(["first", "max"] as const)(
    "does not change when a term that is not the anchor is scaled by a power of two, with anchor: %j",
    async (anchor) => {
      const power = fc.integer({ min: -12, max: 12 });
      await fc.assert(
        fc.asyncProperty(
          lengths,
          options,
          fc.nat(1e6),
          power,
          gaps,
          async (counts, given, seed, power, gaps) => {
            // The first term is the largest, too.
            const gradients = withGaps(gradientsOf(seed, counts, [1e6, 7, 0.1]), gaps);
            const run = (scale: number): Promise<Float32Array[]> =>
              train({
                parameters: draw(seed, counts, 1).map((values) => ({ data: place(values) })),
                options: { ...given, terms: TERMS, anchor },
                gradients: gradients.map((ofStep) =>
                  ofStep.map((ofTerm, term) =>
                    ofTerm.map((values) =>
                      term === 1 && values ? values.map((value) => value * scale) : values,
                    ),
                  ),
                ),
              });
            expect(await run(2 ** power)).toEqual(await run(1));
          },
        ),
        runs,
      );
    },
  );

  test("with its terms in another order changes by no more than rounding", async () => {
    await fc.assert(
      fc.asyncProperty(
        lengths,
        options,
        fc.nat(1e6),
        fc.shuffledSubarray([0, 1, 2], { minLength: TERMS }),
        gaps,
        async (counts, given, seed, order, gaps) => {
          const gradients = withGaps(gradientsOf(seed, counts, [1, 100, 0.01]), gaps);
          const init = draw(seed, counts, 1);
          const run = (terms: readonly number[]): Promise<Float32Array[]> =>
            train({
              parameters: init.map((values) => ({ data: place(values) })),
              options: { ...given, terms: TERMS, anchor: "max" },
              gradients: gradients.map((ofStep) => terms.map((term) => ofStep[term]!)),
            });
          expectAlike(await run(order), await run([0, 1, 2]), init);
        },
      ),
      runs,
    );
  });

  test("changes by no more than rounding when a tensor is split in two within a unit", async () => {
    const split = fc
      .integer({ min: 2, max: 9000 })
      .chain((count) => fc.record({ count: fc.constant(count), at: fc.integer({ min: 1, max: count - 1 }) }));
    await fc.assert(
      fc.asyncProperty(split, options, fc.nat(1e6), gaps, async ({ count, at }, given, seed, gaps) => {
        const [init] = draw(seed, [count], 1) as [Float32Array];
        const gradients = withGaps(gradientsOf(seed, [count], [1, 100, 0.01]), gaps);
        // Without a tag, the halves would be two units where one term alone has reached them.
        const tag = { layer: "one" };
        const halves = (values: Float32Array): Float32Array[] => [values.slice(0, at), values.slice(at)];
        const [whole] = (await train({
          parameters: [{ data: place(init), ...tag }],
          options: { ...given, terms: TERMS },
          gradients,
        })) as [Float32Array];
        const parts = await train({
          parameters: halves(init).map((values) => ({ data: place(values), ...tag })),
          options: { ...given, terms: TERMS },
          gradients: gradients.map((ofStep) =>
            ofStep.map(([values]) => (values ? halves(values) : [null, null])),
          ),
        });
        expectAlike([Float32Array.from(parts.flatMap((values) => [...values]))], [whole], [init]);
      }),
      runs,
    );
  });

  test("of one term has the same bits in every form of the moments", async () => {
    await fc.assert(
      fc.asyncProperty(lengths, options, fc.nat(1e6), async (counts, given, seed) => {
        const run = (form: Form): Promise<Float32Array[]> =>
          train({
            parameters: draw(seed, counts, 1).map((values) => ({ data: place(values) })),
            options: { ...given, ...form, terms: 1 },
            gradients: gradientsOf(seed, counts, [3]),
          });
        const [expected, ...others] = await Promise.all(FORMS.map(run));
        for (const other of others) expect(other).toEqual(expected);
      }),
      runs,
    );
  });

  test("with both moments summed and no balancing has the bits of one term with the sum", async () => {
    await fc.assert(
      fc.asyncProperty(lengths, options, fc.nat(1e6), async (counts, given, seed) => {
        const gradients = gradientsOf(seed, counts, [1, 100, 0.01]);
        const run = (terms: number, steps: Training["gradients"]): Promise<Float32Array[]> =>
          train({
            parameters: draw(seed, counts, 1).map((values) => ({ data: place(values) })),
            options: {
              ...given,
              firstMoment: "summed",
              secondMoment: "summed",
              balance: 0,
              stepScale: "sum",
              terms,
            },
            gradients: steps,
          });
        const sums = gradients.map(([first, ...rest]) => [
          first!.map((values, k) =>
            values.map((value, e) => rest.reduce((sum, ofTerm) => Math.fround(sum + ofTerm[k]![e]!), value)),
          ),
        ]);
        expect(await run(TERMS, gradients)).toEqual(await run(1, sums));
      }),
      runs,
    );
  });

  test("is not changed by steps in which every gradient is absent", async () => {
    await fc.assert(
      fc.asyncProperty(lengths, options, fc.nat(1e6), fc.nat(STEPS), async (counts, given, seed, at) => {
        const gradients: Training["gradients"] = gradientsOf(seed, counts, [1, 100, 0.01]);
        const nothing = Array.from({ length: TERMS }, () => counts.map(() => null));
        const run = (steps: Training["gradients"]): Promise<Float32Array[]> =>
          train({
            parameters: draw(seed, counts, 1).map((values) => ({ data: place(values) })),
            options: { ...given, terms: TERMS },
            gradients: steps,
          });
        const paused = [...gradients.slice(0, at), nothing, nothing, ...gradients.slice(at)];
        expect(await run(paused)).toEqual(await run(gradients));
      }),
      runs,
    );
  });
});
