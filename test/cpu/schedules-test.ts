/** The learning-rate schedules that ship, and `currentLr`. */

import fc from "fast-check";
import { cosine, exponential, MTAdam, warmup } from "../../lib";
import { caught } from "../support/caught";

const rate = fc.double({ min: 1e-6, max: 10, noNaN: true });
const steps = fc.integer({ min: 1, max: 100_000 });

describe.each([
  ["cosine", cosine],
  ["exponential", exponential],
] as const)("%s", (_, schedule) => {
  test("begins at lr, ends at end, and stays there", () => {
    fc.assert(
      fc.property(rate, rate, steps, fc.nat(1000), (lr, end, steps, more) => {
        const at = schedule(lr, { steps, end });
        expect(at(0)).toBe(lr);
        expect(at(steps)).toBe(end);
        expect(at(steps + more)).toBe(end);
      }),
    );
  });

  test("moves in one direction, between lr and end", () => {
    fc.assert(
      fc.property(rate, rate, steps, fc.nat(), (lr, end, steps, step) => {
        const at = schedule(lr, { steps, end });
        const i = step % steps;
        const rounding = 1e-14 * Math.max(lr, end);
        const [here, next] = [at(i), at(i + 1)];
        expect((next - here) * Math.sign(end - lr)).toBeGreaterThanOrEqual(-rounding);
        expect(here).toBeGreaterThanOrEqual(Math.min(lr, end) - rounding);
        expect(here).toBeLessThanOrEqual(Math.max(lr, end) + rounding);
      }),
    );
  });
});

test("cosine is halfway in the middle, and ends at 0 by default", () => {
  const at = cosine(0.4, { steps: 10 });
  expect(at(5)).toBeCloseTo(0.2, 12);
  expect(at(10)).toBe(0);
  expect(cosine(0.4, { steps: 3, end: 0.1 })(1)).toBeCloseTo(0.1 + (0.3 * 1.5) / 2, 12); // cos(π / 3) = 1 / 2
});

test("exponential is the geometric mean in the middle", () => {
  expect(exponential(1e-300, { steps: 10, end: 1e38 })(5) / 1e-131).toBeCloseTo(1, 9);
  expect(exponential(1e-2, { steps: 8, end: 1e-4 })(4)).toBeCloseTo(1e-3, 12);
});

describe("warmup", () => {
  test("rises linearly to the first rate of the schedule that follows, then hands over", () => {
    fc.assert(
      fc.property(rate, steps, steps, fc.nat(), fc.nat(), (lr, length, decay, before, after) => {
        const next = cosine(lr, { steps: decay, end: lr / 2 });
        const at = warmup(length, next);
        const i = before % length;
        expect(at(i)).toBeCloseTo((lr * (i + 1)) / (length + 1), 10);
        expect(at(i)).toBeGreaterThan(0);
        expect(at(i)).toBeLessThan(lr);
        expect(at(length)).toBe(lr);
        expect(at(length + after)).toBe(next(after));
      }),
    );
  });

  test("takes a number, and another warmup", () => {
    expect([0, 1, 2, 9].map(warmup(2, 0.3))).toEqual([0.3 / 3, 0.6 / 3, 0.3, 0.3]);
    expect(warmup(1, warmup(1, 0.4))(0)).toBeCloseTo(0.1, 12);
  });
});

describe("ERR_MTADAM_OPTION", () => {
  test.each<[string, () => unknown, string]>([
    [
      "no steps",
      () => cosine(1, {} as never),
      "`steps` must be a whole number of at least 1; got undefined.",
    ],
    ["0 steps", () => warmup(0, 1), "`steps` must be a whole number of at least 1; got 0."],
    [
      "1.5 steps",
      () => exponential(1, { steps: 1.5, end: 1 }),
      "`steps` must be a whole number of at least 1; got 1.5.",
    ],
    [
      "an lr below 0",
      () => cosine(-1, { steps: 1 }),
      "`lr` must be a finite number of at least 0, also when it is rounded to float32; got -1.",
    ],
    [
      "an end that is NaN",
      () => cosine(1, { steps: 1, end: NaN }),
      "`end` must be a finite number of at least 0, also when it is rounded to float32; got NaN.",
    ],
    [
      "exponential to 0",
      () => exponential(1, { steps: 1, end: 0 }),
      "`end` must be above 0 for `exponential`; got 0.",
    ],
    [
      "exponential from 0",
      () => exponential(0, { steps: 1, end: 1 }),
      "`lr` must be above 0 for `exponential`; got 0.",
    ],
    [
      "exponential without an end",
      () => exponential(1, { steps: 1 }),
      "`end` must be a finite number of at least 0, also when it is rounded to float32; got undefined.",
    ],
    [
      "another key",
      () => cosine(1, { steps: 1, stop: 0 } as never),
      '`options` has no option "stop" (did you mean `steps`?).',
    ],
    [
      "warmup to a text",
      () => warmup(1, "0.1" as never),
      '`next` must be a finite number of at least 0, also when it is rounded to float32, or a function of the iterations that returns one; got "0.1".',
    ],
  ])("%s", async (_, call, message) => {
    expect(await caught(call)).toMatchObject({ code: "ERR_MTADAM_OPTION", message });
  });
});

describe("currentLr", () => {
  test("is the rate that the next step uses", () => {
    const data = new Float32Array(1);
    const optimizer = new MTAdam([data], { terms: 1, lr: warmup(3, cosine(0.5, { steps: 4, end: 0.1 })) });
    for (let step = 0; step < 9; ++step) {
      const lr = optimizer.currentLr;
      data.fill(0);
      optimizer.step([[Float32Array.of(1)]]);
      expect(-data[0]! / lr).toBeCloseTo(1, 5);
    }
    expect(optimizer.currentLr).toBe(0.1);
  });

  test("follows `lr`, and is that of the first group", () => {
    const group = (lr: number): object => ({ parameters: [new Float32Array(1)], lr });
    const optimizer = new MTAdam([group(0.1), group(0.2)] as never, { terms: 1 });
    expect(optimizer.currentLr).toBe(0.1);
    optimizer.lr = (iterations) => 1 + iterations;
    expect(optimizer.currentLr).toBe(1);
    optimizer.update();
    expect(optimizer.currentLr).toBe(2);
  });

  test("is refused where the schedule returns no rate or reads it", async () => {
    const optimizer = new MTAdam([new Float32Array(1)], { terms: 1, lr: () => NaN });
    const error = await caught(() => optimizer.currentLr);
    expect(error.message).toMatch(/^`lr` must return a finite number of at least 0, .*; got NaN\.$/);
    optimizer.lr = () => optimizer.currentLr;
    expect(await caught(() => optimizer.currentLr)).toMatchObject({ code: "ERR_MTADAM_BUSY" });
  });
});
