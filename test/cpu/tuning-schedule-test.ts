import fc from "fast-check";
import { Combinations } from "../../lib/tuning/combinations";
import { bracket, hyperband, plan, stepsOf } from "../../lib/tuning/schedule";

const sizes = (brackets: ReturnType<typeof hyperband>): number[][][] =>
  brackets.map((rungs) => rungs.map(({ combinations, steps }) => [combinations, steps]));

test("Hyperband's brackets are those of its paper: Table 1, R = 81 and η = 3", () => {
  expect(sizes(hyperband(25 * 81, 81, 4))).toEqual([
    [
      [81, 1],
      [27, 3],
      [9, 9],
      [3, 27],
      [1, 81],
    ],
    [
      [34, 3],
      [11, 9],
      [3, 27],
      [1, 81],
    ],
    [
      [15, 9],
      [5, 27],
      [1, 81],
    ],
    [
      [8, 27],
      [2, 81],
    ],
    [[5, 81]],
  ]);
});

const extent = fc
  .record({
    steps: fc.integer({ min: 1, max: 100_000 }),
    ratio: fc.double({ min: 1, max: 200, noNaN: true }),
  })
  .map(({ steps, ratio }) => ({ steps, budget: Math.floor(steps * ratio) }));
const count = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constant(Infinity));

describe("a plan", () => {
  test("follows nᵢ = ⌊n·η⁻ⁱ⌋ and rᵢ = ⌊R·ηⁱ⁻ˢ⌋ in each bracket, and ends with full trainings", () => {
    fc.assert(
      fc.property(count, extent, (combinations, { budget, steps }) => {
        const brackets = plan(combinations, budget, steps);
        expect(brackets.length).toBeGreaterThan(0);
        for (const rungs of brackets) {
          const s = rungs.length - 1;
          const n = rungs[0]!.combinations;
          expect(rungs).toEqual(
            rungs.map((_, i) => ({
              combinations: Math.floor(n / 3 ** i),
              steps: Math.floor(steps / 3 ** (s - i)),
            })),
          );
          expect(rungs.at(-1)!.steps).toBe(steps);
          expect(rungs[0]!.steps).toBeGreaterThanOrEqual(Math.max(1, Math.floor(steps / 27)));
          expect(rungs.at(-1)!.combinations).toBeGreaterThanOrEqual(1);
        }
      }),
    );
  });

  test("never costs more than its budget", () => {
    fc.assert(
      fc.property(count, extent, (combinations, { budget, steps }) => {
        const cost = plan(combinations, budget, steps).reduce((sum, rungs) => sum + stepsOf(rungs), 0);
        expect(cost).toBeLessThanOrEqual(budget);
      }),
    );
  });

  test("is one bracket of all combinations, with the fewest halvings, where the budget has room for it", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), extent, (combinations, { budget, steps }) => {
        const fits = [0, 1, 2, 3].filter((s) => {
          const rungs = bracket(combinations, steps, s);
          return steps >= 3 ** s && combinations >= 3 ** s && stepsOf(rungs) <= budget;
        });
        const brackets = plan(combinations, budget, steps);
        if (fits.length > 0) expect(brackets).toEqual([bracket(combinations, steps, fits[0]!)]);
        else expect(brackets[0]![0]!.combinations).toBeLessThan(combinations);
      }),
    );
  });

  test.each([
    [5, 12, [[[5, 900]]]],
    [
      65,
      12,
      [
        [
          [65, 33],
          [21, 100],
          [7, 300],
          [2, 900],
        ],
      ],
    ],
    [
      Infinity,
      9,
      [
        [
          [9, 100],
          [3, 300],
          [1, 900],
        ],
        [
          [5, 300],
          [1, 900],
        ],
        [[3, 900]],
      ],
    ],
    [Infinity, 1, [[[1, 900]]]],
  ])("of %d combinations in %d trainings", (combinations, trainings, expected) => {
    expect(sizes(plan(combinations, trainings * 900, 900))).toEqual(expected);
  });

  test("for the largest numbers takes no time", () => {
    const most = plan(Infinity, Number.MAX_SAFE_INTEGER, 1);
    expect(sizes(most)).toEqual([[[10_000, 1]]]);
  });
});

describe("combinations", () => {
  const values = fc.uniqueArray(fc.constantFrom(0.01, 0.1, 0.5, 1, 2, 10, 30, 100), {
    minLength: 1,
    maxLength: 5,
  });
  const ratios = (weights: readonly number[]): string =>
    weights.map((weight) => (weight / weights[0]!).toPrecision(9)).join();

  test("are all ratios of the values, each once, equal weights first", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), values, fc.nat(), (terms, list, seed) => {
        const combinations = new Combinations(terms, list);
        const found = [...combinations.inRandomOrder(seed)];
        const all = Array.from({ length: list.length ** terms }, (_, index) =>
          Array.from(
            { length: terms },
            (_, term) => list[Math.floor(index / list.length ** term) % list.length]!,
          ),
        );
        expect(new Set(found.map(ratios))).toEqual(new Set(all.map(ratios)));
        expect(new Set(found.map(ratios)).size).toBe(found.length);
        expect(found.length).toBe(combinations.count);
        expect(ratios(found[0]!)).toBe(ratios(new Array<number>(terms).fill(1)));
        for (const weights of found) for (const weight of weights) expect(list).toContain(weight);
      }),
    );
  });

  test("of three values by tens are 5 for two terms, 19 for three and 65 for four", () => {
    expect([2, 3, 4].map((terms) => new Combinations(terms, [0.1, 1, 10]).count)).toEqual([5, 19, 65]);
  });

  test("are those of their ratio that are closest to 1", () => {
    const combinations = new Combinations(4, [0.1, 1, 10]);
    expect(combinations.equal).toEqual([1, 1, 1, 1]);
    expect(combinations.representative([1, 10, 10, 10])).toEqual([0.1, 1, 1, 1]);
    expect(combinations.representative([100, 1000, 100, 1000])).toEqual([0.1, 1, 0.1, 1]);
  });

  test("that are too many to list are drawn, none twice, equal weights first", () => {
    fc.assert(
      fc.property(fc.integer({ min: 11, max: 400 }), fc.nat(), (terms, seed) => {
        const combinations = new Combinations(terms, [0.1, 1, 10]);
        expect(combinations.count).toBe(Infinity);
        const draw = () => {
          const drawn: (readonly number[])[] = [];
          for (const weights of combinations.inRandomOrder(seed)) if (drawn.push(weights) === 40) break;
          return drawn;
        };
        const drawn = draw();
        expect(draw()).toEqual(drawn);
        expect(drawn[0]).toEqual(combinations.equal);
        expect(new Set(drawn.map(ratios)).size).toBe(40);
      }),
      { numRuns: 20 },
    );
  });
});
