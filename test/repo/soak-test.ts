// eslint-disable-next-line @typescript-eslint/no-require-imports -- a script without types
const { BOUNDS, verdicts } = require("../../scripts/test/soak.js") as {
  BOUNDS: Record<string, number>;
  verdicts: (samples: Record<string, number>[]) => { measure: string; flat: boolean }[];
};

/** Samples of a run in which some measures grow by so much per cycle, with noise. */
const samples = (growth: Record<string, number>): Record<string, number>[] =>
  Array.from({ length: 80 }, (_, k) => {
    const cycles = 50 * k;
    const measures = Object.keys(BOUNDS).map((measure) => {
      const warmUp = 1e6 * Math.min(k, 20);
      return [measure, warmUp + cycles * (growth[measure] ?? 0) + (k % 3)] as const;
    });
    return { cycles, ...Object.fromEntries(measures) };
  });

const growing = (growth: Record<string, number>): string[] =>
  verdicts(samples(growth))
    .filter(({ flat }) => !flat)
    .map(({ measure }) => measure);

describe("the soak", () => {
  test("takes no growth at the beginning for a leak", () => {
    expect(growing({})).toEqual([]);
  });

  test.each(Object.entries(BOUNDS))("reports %s that grows by twice %d per cycle", (measure, bound) => {
    expect(growing({ [measure]: 2 * bound })).toEqual([measure]);
    expect(growing({ [measure]: bound / 2 })).toEqual([]);
  });
});
