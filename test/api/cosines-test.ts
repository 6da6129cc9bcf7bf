/** The option `cosines`: the cosine between the gradients of two terms, per layer, in the last step. */

import fc from "fast-check";
import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { caught } from "../support/caught";
import { isSlow, onCuda, testDevice } from "../support/device";
import { Oracle } from "../support/oracle";
import { randomSource, randomTensor } from "../support/random";

const device = testDevice();

type Gradient = DeviceBuffer<"float32"> | null;
const gradient = (...values: number[]): Gradient => device.buffer(Float32Array.from(values));

/** Two terms, and three tensors of two elements: two layers, of which the second has two tensors. */
const make = (options: Partial<MTAdamOptions> = {}): MTAdam =>
  new MTAdam(
    [
      { name: "w", data: device.buffer(2) },
      { name: "b", data: device.buffer(2), layer: "unit" },
      { name: "c", data: device.buffer(2), layer: "unit" },
    ],
    { terms: ["one", "two"], cosines: true, ...options },
  );

const cosinesOf = async (optimizer: MTAdam): Promise<Float32Array | undefined> =>
  (await optimizer.diagnostics()).cosines;

/** The cosines between the two terms, in the layers "w" and "unit". */
async function between(optimizer: MTAdam): Promise<number[]> {
  const cosines = await cosinesOf(optimizer);
  expect(cosines).toHaveLength(2 * 2 * 2);
  const [forth, back] = [[...cosines!.slice(2, 4)], [...cosines!.slice(4, 6)]];
  expect(back).toEqual(forth);
  return forth;
}

/** Compares within a rounding of float32; NaN must equal NaN. */
function expectNear(actual: ArrayLike<number>, expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length);
  for (const [at, cosine] of expected.entries()) {
    const difference = Object.is(actual[at], cosine) ? 0 : Math.abs(actual[at]! - cosine);
    if (!(difference < 1e-6)) throw new Error(`cosine ${at} is ${actual[at]}, due is ${cosine}`);
  }
}

describe("two gradients", () => {
  const g = (): Gradient => gradient(3, -4);
  const cases: [string, Gradient[], Gradient[], [number, number]][] = [
    ["that are orthogonal", [g(), g(), g()], [gradient(4, 3), gradient(8, 6), gradient(4, 3)], [0, 0]],
    ["that are opposite", [g(), g(), g()], [gradient(-6, 8), gradient(-3, 4), gradient(-3, 4)], [-1, -1]],
    ["that are equal", [g(), g(), g()], [g(), g(), g()], [1, 1]],
    ["at 60 degrees", [gradient(1, 0), g(), g()], [gradient(1, Math.sqrt(3)), g(), g()], [0.5, 1]],
    // (9 + 16) / (5 · √50): the dot product is over the tensors that both terms reach, the norms are over all.
    ["of which one is absent in a tensor", [g(), g(), null], [g(), g(), g()], [1, Math.SQRT1_2]],
    ["that share no tensor", [g(), g(), null], [g(), null, g()], [1, 0]],
    ["of which one is absent in a layer", [g(), null, null], [g(), g(), g()], [1, NaN]],
    ["of which one is absent", [g(), g(), g()], [null, null, null], [NaN, NaN]],
    ["of which one is zero", [g(), g(), g()], [gradient(0, 0), g(), gradient(0, 0)], [NaN, Math.SQRT1_2]],
    ["of which one is not finite", [g(), g(), g()], [g(), g(), gradient(NaN, 1)], [1, NaN]],
    [
      "of which one has squares too large for float32",
      [g(), g(), g()],
      [gradient(3e30, -4e30), g(), g()],
      [1, 1],
    ],
    [
      "of which one has squares too small for float32",
      [gradient(3e-30, -4e-30), g(), g()],
      [g(), g(), g()],
      [1, 1],
    ],
  ];
  test.each(cases)("%s", async (_, one, two, expected) => {
    const optimizer = make();
    optimizer.step({ one, two });
    const actual = await between(optimizer);
    expectNear(actual, expected);
  });

  test("are 1 for a term with itself if its norm is finite and not 0, else NaN", async () => {
    const optimizer = make();
    optimizer.step({ one: [g(), g(), g()], two: [gradient(0, 0), null, g()] });
    const cosines = await cosinesOf(optimizer);
    expect([...cosines!.slice(0, 2), ...cosines!.slice(6, 8)]).toEqual([1, 1, NaN, 1]);
  });

  test("never exceed 1, despite rounding", async () => {
    const random = randomSource(3);
    for (let round = 0; round < 20; ++round) {
      const values = randomTensor(random, 2, 10 ** (random() * 20 - 10));
      const optimizer = make();
      const half = device.buffer(values.map((value) => value / 2));
      optimizer.step({ one: [device.buffer(values), null, null], two: [half, null, null] });
      expect((await between(optimizer))[0]).toBe(1);
    }
  });
});

test("are independent of gradientScale and of maximize", async () => {
  const gradients = [
    [gradient(1, 2), gradient(3, -1), gradient(5, 0.5)],
    [gradient(0.1, -7), gradient(3, 3), gradient(-2, 1)],
  ];
  const plain = make();
  plain.step(gradients);
  const expected = await between(plain);
  expect(expected.every((cosine) => Math.abs(cosine) < 0.99)).toBe(true);
  for (const gradientScale of [1024, 2 ** -30, 1e10]) {
    const scaled = make({ maximize: true });
    scaled.step(gradients, { gradientScale });
    const actual = await between(scaled);
    expectNear(actual, expected);
  }
});

describe("cosines are of the last step", () => {
  const step = (optimizer: MTAdam): void => {
    optimizer.step([
      [gradient(1, 1), null, null],
      [gradient(1, 1), null, null],
    ]);
  };
  const NOTHING = new Float32Array(8).fill(NaN);

  test("and NaN before the first step, after an update alone and after a skipped step", async () => {
    const optimizer = make({ nonFinite: "skipStep" });
    expect(await cosinesOf(optimizer)).toEqual(NOTHING);
    step(optimizer);
    expect(await between(optimizer)).toEqual([1, NaN]);
    optimizer.update();
    expect(await cosinesOf(optimizer)).toEqual(NOTHING);
    step(optimizer);
    optimizer.step([[gradient(1, NaN)], [gradient(1, 1)]].map(([w]) => [w!, null, null]));
    expect(await cosinesOf(optimizer)).toEqual(NOTHING);
    step(optimizer);
    expect(await between(optimizer)).toEqual([1, NaN]);
  });

  test("and NaN after a state was loaded or parameters were added, until the next step", async () => {
    const optimizer = make();
    step(optimizer);
    await optimizer.loadStateDict(await optimizer.stateDict());
    expect(await cosinesOf(optimizer)).toEqual(NOTHING);
    step(optimizer);
    optimizer.addParamGroup({ parameters: [{ name: "new", data: device.buffer(2) }] });
    expect(await cosinesOf(optimizer)).toEqual(new Float32Array(12).fill(NaN));
    const g = gradient(1, 1);
    optimizer.step([
      [null, null, null, g],
      [null, null, null, g],
    ]);
    expect([...(await cosinesOf(optimizer))!.slice(3, 6)]).toEqual([NaN, NaN, 1]);
  });

  test("with the current terms", async () => {
    const optimizer = make();
    const w = (...values: number[]): Gradient[] => [gradient(...values), null, null];
    optimizer.addTerm("three");
    expect(await cosinesOf(optimizer)).toEqual(new Float32Array(18).fill(NaN));
    const inW = async (): Promise<number[]> =>
      [...(await cosinesOf(optimizer))!]
        .filter((_, at) => at % 2 === 0)
        .map((c) => Math.round(c * 100) / 100);
    optimizer.step([w(1, 0), w(0, 1), w(-1, 0)]);
    expect(await inW()).toEqual([1, 0, -1, 0, 1, 0, -1, 0, 1]);
    optimizer.removeTerm("one");
    expect(await cosinesOf(optimizer)).toEqual(NOTHING);
    optimizer.step([w(1, 1), w(1, 0)]);
    expect(await inW()).toEqual([1, 0.71, 0.71, 1]);
    optimizer.addTerm("four");
    optimizer.step([w(1, 1), w(1, 0), w(0, 3)]);
    expect(await inW()).toEqual([1, 0.71, 0.71, 0.71, 1, 0, 0.71, 0, 1]);
  });

  test("as at the time of the call, also from onStats", async () => {
    const optimizer = make();
    const told: (Float32Array | undefined)[] = [];
    optimizer.onStats(({ cosines }) => told.push(cosines), { every: 1 });
    step(optimizer);
    const pending = optimizer.diagnostics();
    optimizer.update();
    expect((await pending).cosines![0]).toBe(1);
    expect(told[0]![0]).toBe(1);
    expect(await cosinesOf(optimizer)).toEqual(NOTHING);
  });
});

describe("without the option", () => {
  test("diagnostics have no cosines, and no memory is allocated for them", async () => {
    const optimizer = make({ cosines: false });
    expect(Object.keys(await optimizer.diagnostics())).not.toContain("cosines");
    const parameters = [device.buffer(4096 * 50)];
    const bytes = (terms: number, cosines: boolean): number =>
      MTAdam.stateBytes(parameters, { terms, cosines });
    expect(bytes(4, false)).toBe(MTAdam.stateBytes(parameters, { terms: 4 }));
    // 8 bytes for each of the 50 chunks and 6 pairs; 4 for each of 6 pairs and 4 terms in the one layer.
    const more = bytes(4, true) - bytes(4, false);
    expect(more).toBeGreaterThanOrEqual(6 * 50 * 8 + 10 * 4);
    expect(more).toBeLessThan(6 * 50 * 8 + 10 * 4 + 4 * 4096);
  });
});

test("terms one at a time are refused, and no step opens", async () => {
  const optimizer = make();
  const message =
    /^`cosines` must not be true for `(accumulate|stepEach)`, whose terms come one at a time; use `step`\.$/;
  const called = jest.fn();
  for (const call of [
    () => optimizer.accumulate("one", [null, null, null]),
    () => optimizer.stepEach({ one: called }),
  ]) {
    expect(await caught(call)).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: expect.stringMatching(message) as string,
    });
  }
  expect(called).not.toHaveBeenCalled();
  optimizer.step([null, null]);
  expect(optimizer.iterations).toBe(1);
});

test("computing cosines changes nothing else", async () => {
  const random = randomSource(11);
  const [theta, other] = [1, 2].map(() => [device.buffer(5000), device.buffer(3)]);
  const terms = ["a", "b", "c"];
  const [plain, watched] = [new MTAdam(theta!, { terms }), new MTAdam(other!, { terms, cosines: true })];
  for (let step = 0; step < 3; ++step) {
    const gradients = terms.map(() =>
      [5000, 3].map((length) => device.buffer(randomTensor(random, length, 1))),
    );
    for (const optimizer of [plain, watched]) optimizer.step(gradients);
  }
  expect(await watched.stateDict()).toEqual(await plain.stateDict());
  expect(await other![0]!.download()).toEqual(await theta![0]!.download());
  const { cosines, ...rest } = await watched.diagnostics();
  expect(cosines).toBeDefined();
  expect(rest).toEqual(await plain.diagnostics());
});

test("random models have the oracle's cosines", async () => {
  const model = fc.record({
    lengths: fc.array(fc.constantFrom(0, 1, 33, 300, 4097), { minLength: 1, maxLength: 4 }),
    layers: fc.integer({ min: 1, max: 3 }),
    terms: fc.constantFrom(1, 2, 3, 9),
    maximize: fc.boolean(),
    nonFinite: fc.constantFrom("skipTerm" as const, "skipStep" as const, "propagate" as const),
    gradientScale: fc.constantFrom(1, 1024, 3),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(model, async ({ lengths, layers, terms, seed, gradientScale, ...options }) => {
      const random = randomSource(seed);
      const tags = lengths.map((_, k) => `tag ${k % layers}`);
      const optimizer = new MTAdam(
        lengths.map((length, k) => ({ name: `${k}`, data: device.buffer(length), layer: tags[k]! })),
        { terms, cosines: true, ...options },
      );
      const oracle = new Oracle(
        lengths.map((length, k) => ({ init: new Float32Array(length), layer: tags[k]! })),
        { terms, ...options },
      );
      for (let step = 0; step < 2; ++step) {
        // The gradients share a component, so that cosines of every size occur.
        const common = lengths.map((length) => randomTensor(random, length, 1));
        const gradients = Array.from({ length: terms }, () => {
          const [share, scale] = [random() * 2 - 1, 10 ** (random() * 6 - 3)];
          return lengths.map((length, k) => {
            if (random() < 0.2) return null;
            const own = randomTensor(random, length, 1);
            if (length > 0 && random() < 0.03)
              own[Math.floor(random() * length)] = random() < 0.5 ? NaN : Infinity;
            return own.map((value, e) => scale * (value + share * common[k]![e]!));
          });
        });
        oracle.step(gradients, { gradientScale });
        const onDevice = gradients.map((ofTerm) => ofTerm.map((values) => values && device.buffer(values)));
        optimizer.step(onDevice, { gradientScale });
        const expected = oracle.cosines().flat(2);
        const actual = await cosinesOf(optimizer);
        expectNear(actual!, expected);
      }
    }),
    { numRuns: isSlow ? 15 : 30, seed: 5 },
  );
});

onCuda("a captured step", () => {
  test("computes cosines when it is replayed", async () => {
    const optimizer = make();
    const [one, two] = [device.buffer(Float32Array.of(1, 0)), device.buffer(Float32Array.of(0, 1))];
    const captured = optimizer.captureStep(
      optimizer.prepare([
        [one, null, null],
        [two, null, null],
      ]),
    );
    expect(await cosinesOf(optimizer)).toEqual(new Float32Array(8).fill(NaN));
    captured.replay();
    expect(await between(optimizer)).toEqual([0, NaN]);
    two.upload(Float32Array.of(-5, 0));
    captured.replay({ gradientScale: 8 });
    expect(await between(optimizer)).toEqual([-1, NaN]);
    optimizer.update();
    expect((await between(optimizer))[0]).toBeNaN();
    captured.replay();
    expect((await between(optimizer))[0]).toBe(-1);
  });
});
