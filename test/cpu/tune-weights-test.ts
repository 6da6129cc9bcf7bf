import fc from "fast-check";
import { MTAdam, tuneWeights, type Resume, type TuneOptions, type TuningRow } from "../../lib";
import { caught } from "../support/caught";

type Row = TuningRow<number>;

/**
 * The loss of a training: the distance of the weights from a target, in decades, with noise that falls with the length
 * of the training.
 */
function lossOf(target: readonly number[], weights: readonly number[], steps: number): number {
  const distance = weights.map((weight, term) => Math.log10(weight / weights[0]!) - target[term]!);
  return (
    1 + Math.hypot(...distance) + (0.3 * Math.abs(Math.sin(1000 * weights.join().length + steps))) / steps
  );
}

/** A search over terms whose best weights are 10 to the power of `target`; `calls` lists the arguments of `train`. */
function search(target: readonly number[], options: Partial<TuneOptions<number>> = {}) {
  const calls: { weights: number[]; steps: number; key: string; from: number }[] = [];
  const done = tuneWeights<number>(
    (weights, steps, { resume }) => {
      calls.push({ weights, steps, key: resume.key, from: resume.steps });
      return lossOf(target, weights, steps);
    },
    { terms: target.length, ...options },
  );
  return { calls, done };
}

const total = (table: readonly Row[]): number => table.reduce((sum, { steps }) => sum + steps, 0);

describe("the search", () => {
  test("trains all five combinations of two terms in full and returns the best", async () => {
    const { calls, done } = search([0, -2], { steps: 30 });
    const { weights, table } = await done;
    expect(weights).toEqual([10, 0.1]);
    expect(table.map(({ steps, bracket, rung }) => [steps, bracket, rung])).toEqual(
      new Array(5).fill([30, 0, 0]),
    );
    expect(table[0]!.weights).toEqual([1, 1]);
    expect(calls.map(({ weights }) => weights)).toEqual(table.map(({ weights }) => weights));
  });

  test("keeps the best third of each rung, and trains it three times as long", async () => {
    const { table } = await search([0, 1, 0, 1], { steps: 270 }).done;
    const rungs = [0, 1, 2, 3].map((rung) => table.filter((row) => row.rung === rung));
    expect(rungs.map((rows) => [rows.length, rows[0]!.steps])).toEqual([
      [65, 10],
      [21, 30],
      [7, 90],
      [2, 270],
    ]);
    for (const [rung, rows] of rungs.entries()) {
      const next = rungs[rung + 1] ?? [];
      const sorted = [...rows].sort((a, b) => a.loss - b.loss).slice(0, next.length);
      expect(next.map(({ weights }) => weights)).toEqual(sorted.map(({ weights }) => weights));
    }
  });

  test("finds the best of 65 combinations with at most 12 full trainings' worth of steps", async () => {
    for (const target of [
      [0, 1, 1, 1],
      [0, 0, -1, 1],
      [0, -1, 0, 0],
    ]) {
      const { weights, table } = await search(target, { steps: 270 }).done;
      expect(weights.map((weight) => Math.round(Math.log10(weight / weights[0]!)))).toEqual(target);
      expect(total(table)).toBeLessThanOrEqual(12 * 270);
    }
  });

  test("samples where there are too many combinations, with equal weights in every bracket", async () => {
    const { table } = await search([0, 1, -1, 0, 0, 1, -1, 0, 1, 0, 0, 0], { steps: 90 }).done;
    const equal = table.filter(({ weights }) => new Set(weights).size === 1);
    expect(equal.map(({ bracket, rung }) => [bracket, rung])).toContainEqual([2, 0]);
    expect(equal.at(-1)!.steps).toBe(90);
    expect(total(table)).toBeLessThanOrEqual(12 * 90);
  });

  test("spends no more than its budget on any terms and values", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 14 }),
        fc.uniqueArray(fc.constantFrom(0.1, 0.5, 1, 3, 10), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 0, max: 3000 }),
        fc.nat(),
        async (terms, values, steps, more, seed) => {
          const budget = steps + more;
          const target = new Array<number>(terms).fill(0);
          const { table, weights } = await search(target, { values, steps, budget, seed }).done;
          expect(total(table)).toBeLessThanOrEqual(budget);
          expect(weights).toHaveLength(terms);
          expect(new Set(table[0]!.weights).size).toBe(1);
          const keys = table.map((row) => `${row.weights.join()} ${row.steps}`);
          expect(new Set(keys).size).toBe(keys.length);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("is the same for the same seed, and different for another", async () => {
    const target = [0, 1, 0, -1, 0, 1];
    const of = async (seed: number) => (await search(target, { steps: 90, seed }).done).table;
    const [one, again, other] = [await of(1), await of(1), await of(2)];
    expect(again).toEqual(one);
    expect(other).not.toEqual(one);
    const large = [await of(2 ** 40), await of(2 ** 41)];
    expect(large[0]).not.toEqual(large[1]);
  });

  test("takes steps from the budget, and the budget from steps", async () => {
    const stepsOfFull = async (options: Partial<TuneOptions<number>>) =>
      Math.max(...(await search([0, 0], options).done).table.map(({ steps }) => steps));
    expect(await stepsOfFull({})).toBe(1000);
    expect(await stepsOfFull({ budget: 36_000 })).toBe(3000);
    expect(await stepsOfFull({ budget: 5 })).toBe(1);
    expect(await stepsOfFull({ steps: 7, budget: 1_000_000 })).toBe(7);
  });

  test("returns weights as MTAdam takes them: in order, or by name", async () => {
    const named = await tuneWeights((weights) => weights.style, {
      terms: ["content", "style", "__proto__"],
      steps: 1,
    });
    expect(Object.keys(named.weights)).toEqual(["content", "style", "__proto__"]);
    expect(named.weights.style).toBe(0.1);
    const parameters = [new Float32Array(1)];
    const terms = ["content", "style", "__proto__"];
    expect(new MTAdam(parameters, { terms, weights: named.weights }).weights[1]).toBe(0.1);
    const { weights } = await search([0, 1]).done;
    expect(new MTAdam(parameters, { terms: 2, weights }).weights).toEqual(weights);
  });
});

describe("figures that are not finite", () => {
  test.each([NaN, Infinity, -Infinity])("%d counts as the worst", async (bad) => {
    const { weights, table } = await tuneWeights(
      (weights, steps) => (weights[1]! < 1 ? bad : 1e300 * weights[1]! * steps),
      { terms: 2, values: [0.1, 1], budget: 8, steps: 3 },
    );
    expect(weights).toEqual([1, 1]);
    expect(table.map(({ loss }) => loss)).toContainEqual(bad);
  });

  test("lose against any finite figure in a rung", async () => {
    const { weights } = await tuneWeights(
      (weights, steps) => (weights.every((weight) => weight === 1) && steps > 10 ? NaN : weights[3]!),
      { terms: 4, steps: 270 },
    );
    expect(weights[3]).toBe(0.1);
  });

  test("of all trainings leave equal weights", async () => {
    const { weights, table } = await tuneWeights(() => NaN, { terms: 4, steps: 27 });
    expect(weights).toEqual([1, 1, 1, 1]);
    expect(table).toHaveLength(65 + 21 + 7 + 2);
  });

  test("of all full trainings leave the best of the shorter ones", async () => {
    const { weights } = await tuneWeights((weights, steps) => (steps === 27 ? NaN : weights[0]!), {
      terms: 4,
      steps: 27,
    });
    expect(weights[0]).toBe(0.1);
  });
});

describe("a training goes on", () => {
  test("from the steps and the state of its last rung", async () => {
    interface Run {
      weights: number[];
      steps: number;
    }
    let started = 0;
    const { table } = await tuneWeights<number, Run>(
      (weights, steps, { resume }) => {
        if (!resume.state) {
          expect(resume.steps).toBe(0);
          ++started;
        }
        const run = (resume.state ??= { weights, steps: 0 });
        expect(run.weights).toEqual(weights);
        expect(run.steps).toBe(resume.steps);
        expect(steps).toBeGreaterThan(run.steps);
        run.steps = steps;
        return lossOf([0, 1, 0, 0, 1], weights, steps);
      },
      { terms: 5, steps: 270 },
    );
    expect(started).toBe(new Set(table.map(({ weights }) => weights.join())).size);
    expect(started).toBeLessThan(table.length);
  });

  test("with a key that names its weights and is fit for a file", async () => {
    const { calls, done } = search([0, 1, 0, 1], { steps: 27, values: [1e-7, 1, 1e7] });
    await done;
    const keyOf = new Map(calls.map(({ weights, key }) => [weights.join(), key]));
    expect(new Set(keyOf.values()).size).toBe(keyOf.size);
    for (const { weights, key } of calls) {
      expect(key).toBe(keyOf.get(weights.join()));
      expect(key).toMatch(/^[\w.+-]+$/);
    }
  });

  test("and the state of a dropped combination is forgotten", async () => {
    const resumes: Resume[] = [];
    await tuneWeights(
      (weights, steps, { resume }) => {
        if (resume.steps === 0) resumes.push(resume);
        resume.state = { steps };
        return lossOf([0, 1, 0, 0], weights, steps);
      },
      { terms: 4, steps: 27 },
    );
    expect(resumes).toHaveLength(65);
    expect(resumes.slice(1).every(({ state }) => state === undefined)).toBe(true);
  });
});

describe("a search is resumed", () => {
  test("from its table, also as JSON, after any training, with the same result", async () => {
    const target = [0, 1, 0, -1, 1];
    const options = { steps: 27, seed: 3 };
    const lossWithGaps = (weights: number[], steps: number) =>
      weights[1] === 0.1 ? NaN : lossOf(target, weights, steps);
    const whole = await tuneWeights(lossWithGaps, { terms: 5, ...options });
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: whole.table.length }), fc.boolean(), async (stop, asJson) => {
        let table: readonly Row[] = [];
        let trained = 0;
        const interrupted = tuneWeights(
          (weights, steps) => {
            if (trained === stop) throw new Error("interrupted");
            ++trained;
            return lossWithGaps(weights, steps);
          },
          { terms: 5, ...options, onProgress: (progress) => (table = progress.table) },
        );
        if (stop < whole.table.length) await expect(interrupted).rejects.toThrow("interrupted");
        else await interrupted;
        expect(table).toHaveLength(stop);
        const resume = asJson ? (JSON.parse(JSON.stringify(table)) as Row[]) : table;
        const from = new Map(table.map(({ weights, steps }) => [weights.join(), steps]));
        let more = 0;
        const rest = await tuneWeights(
          (weights, steps, { resume }) => {
            ++more;
            expect(resume.steps).toBeGreaterThanOrEqual(from.get(weights.join()) ?? 0);
            return lossWithGaps(weights, steps);
          },
          { terms: 5, ...options, resume },
        );
        expect(more).toBe(whole.table.length - stop);
        expect(rest).toEqual(whole);
      }),
      { numRuns: 25 },
    );
  });

  test("with weights by name or in order, and any multiple of them", async () => {
    let trained = 0;
    const { table } = await tuneWeights(() => ++trained, {
      terms: ["a", "b"],
      steps: 2,
      resume: [
        { weights: { b: 2, a: 2 }, steps: 2, loss: 5 },
        { weights: { a: 1, b: 10 }, steps: 2, loss: 6 },
        { weights: { a: 1, b: 10 }, steps: 1, loss: 7 },
      ],
    });
    expect(trained).toBe(3);
    expect(table[0]).toEqual({ weights: { a: 1, b: 1 }, steps: 2, loss: 5, bracket: 0, rung: 0 });
    expect(table.map(({ loss }) => loss).sort()).toEqual([1, 2, 3, 5, 6]);
  });
});

test("progress counts steps up to the total, and waits", async () => {
  const seen: [steps: number, total: number, rows: number][] = [];
  let waiting = false;
  await tuneWeights(
    async (weights, steps) => {
      expect(waiting).toBe(false);
      return lossOf([0, 1, 0, 1, -1], weights, steps);
    },
    {
      terms: 5,
      steps: 270,
      onProgress: async ({ steps, total, table }) => {
        waiting = true;
        await new Promise(setImmediate);
        waiting = false;
        seen.push([steps, total, table.length]);
      },
    },
  );
  expect(seen.map(([, , rows]) => rows)).toEqual(seen.map((_, index) => index + 1));
  for (const [index, [steps, total]] of seen.entries()) {
    expect(total).toBe(seen[0]![1]);
    expect(steps).toBeGreaterThan(seen[index - 1]?.[0] ?? 0);
  }
  expect(seen.at(-1)![0]).toBe(seen[0]![1]);
});

describe("refusals", () => {
  const call = (options: unknown, train: unknown = () => 1) =>
    tuneWeights(train as () => number, options as TuneOptions);
  const row = { weights: [1, 1], steps: 1, loss: 1 };

  test.each([
    ["no training", { terms: 2 }, "OPTION", "`train` must be a function; got null.", null],
    [
      "no terms",
      {},
      "OPTION",
      "`terms` must be a whole number from 1 to 65536 or a list of names; got undefined.",
    ],
    [
      "an unknown option",
      { terms: 2, value: [1] },
      "OPTION",
      '`options` has no option "value" (did you mean `values`?).',
    ],
    [
      "no values",
      { terms: 2, values: [] },
      "OPTION",
      "`values` must be a list of 1 to 32 weights; got an array of 0.",
    ],
    [
      "a value of 0",
      { terms: 2, values: [1, 0] },
      "OPTION",
      "`values` must be finite numbers above 0, also when rounded to float32; got 0.",
    ],
    [
      "a hole",
      { terms: 2, values: new Array(2) },
      "OPTION",
      "`values` must be finite numbers above 0, also when rounded to float32; got undefined.",
    ],
    [
      "half a step",
      { terms: 2, steps: 0.5 },
      "OPTION",
      "`steps` must be a whole number of at least 1; got 0.5.",
    ],
    ["no budget", { terms: 2, budget: 0 }, "OPTION", "`budget` must be a whole number of at least 1; got 0."],
    [
      "a budget for less than one training",
      { terms: 2, steps: 10, budget: 9 },
      "OPTION",
      "`budget` must be a whole number of at least 10, the option `steps`; got 9.",
    ],
    [
      "a negative seed",
      { terms: 2, seed: -1 },
      "OPTION",
      "`seed` must be a whole number of at least 0; got -1.",
    ],
    ["no listener", { terms: 2, onProgress: 1 }, "OPTION", "`onProgress` must be a function; got 1."],
    [
      "no table",
      { terms: 2, resume: {} },
      "OPTION",
      "`resume` must be the table of a search; got an object.",
    ],
    ["no row", { terms: 2, resume: [1] }, "OPTION", "`resume` must be a list of the rows of a table; got 1."],
    [
      "a row of three weights",
      { terms: 2, resume: [{ ...row, weights: [1, 1, 1] }] },
      "LENGTH",
      "`resume[…].weights` must have 2 entries, one per term; got an array of 3.",
    ],
    [
      "a row of another term",
      { terms: ["a", "b"], resume: [{ ...row, weights: { a: 1, c: 1 } }] },
      "TERM",
      '`resume[…].weights` must have names of terms (a, b) as keys; got "c".',
    ],
    [
      "a row without a weight",
      { terms: ["a", "b"], resume: [{ ...row, weights: { a: 1 } }] },
      "OPTION",
      "`resume[…].weights` must be finite numbers above 0, also when rounded to float32; got undefined.",
    ],
    [
      "a row without steps",
      { terms: 2, resume: [{ weights: [1, 1], loss: 1 }] },
      "OPTION",
      "`resume[…].steps` must be a whole number of at least 1; got undefined.",
    ],
    [
      "a row without a loss",
      { terms: 2, resume: [{ weights: [1, 1], steps: 1 }] },
      "OPTION",
      "`resume[…].loss` must be a number; got undefined.",
    ],
    ["no figure", { terms: 2 }, "OPTION", "`train` must return a number; got undefined.", () => undefined],
    ["a figure as text", { terms: 2 }, "OPTION", '`train` must return a number; got "1".', async () => "1"],
  ])("%s", async (_, options, code, message, train: unknown = () => 1) => {
    const error = await caught(() => call(options, train));
    expect([error.code, error.message]).toEqual([`ERR_MTADAM_${code}`, message]);
  });

  test("errors of train and onProgress are rethrown unchanged", async () => {
    const own = new Error("mine");
    const fails = () => {
      throw own;
    };
    await expect(tuneWeights(fails, { terms: 2 })).rejects.toBe(own);
    await expect(tuneWeights(() => Promise.reject(own), { terms: 2 })).rejects.toBe(own);
    await expect(tuneWeights(() => 1, { terms: 2, onProgress: fails })).rejects.toBe(own);
  });

  test("any argument is refused or starts a search", async () => {
    const options = fc.record(
      {
        terms: fc.oneof(fc.constantFrom<unknown>(1, 2, ["a", "b"]), fc.anything()),
        values: fc.oneof(fc.constant([1, 2]), fc.anything()),
        budget: fc.oneof(fc.constant(30), fc.anything()),
        steps: fc.oneof(fc.constant(2), fc.anything()),
        seed: fc.anything(),
        resume: fc.oneof(fc.constant([row]), fc.array(fc.anything()), fc.anything()),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(options, fc.anything(), async (given, figure) => {
        const outcome = await call(given, () => figure).then(
          ({ table }) => table.length > 0,
          (error: unknown) => (error as { code?: unknown }).code,
        );
        expect([true, "ERR_MTADAM_OPTION", "ERR_MTADAM_LENGTH", "ERR_MTADAM_TERM"]).toContain(outcome);
      }),
      { numRuns: 300 },
    );
  });
});
