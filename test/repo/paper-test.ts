import { execFileSync } from "node:child_process";
import path from "node:path";

// bench/paper: its figures are those of their definitions, and its command goes on where it was stopped.

interface Measured {
  distances: { general: number; singular: number; itself: number; notFinite: string };
  brackets: [configurations: number, resource: number][][][];
  search: { best: number; drawn: number; counts: Record<string, number>; resource: number };
}

const root = path.join(__dirname, "../..");
let measured: Measured;

beforeAll(() => {
  execFileSync(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", path.join(root, "bench")]);
  const script = path.join(root, "test/support/paper.mjs");
  measured = JSON.parse(execFileSync(process.execPath, [script], { encoding: "utf8" })) as Measured;
});

describe("the Fréchet distance", () => {
  // test/support/frechet.py prints these two figures.
  test("is what numpy computes by the definition", () => {
    expect(Math.abs(measured.distances.general - 155.57850338738209)).toBeLessThan(1e-6);
  });

  test("is what numpy computes where features do not vary", () => {
    expect(Math.abs(measured.distances.singular - 156.10548509895685)).toBeLessThan(1e-6);
  });

  test("of samples to themselves is 0", () => {
    expect(Math.abs(measured.distances.itself)).toBeLessThan(1e-9);
  });

  test("to features that are not finite is NaN", () => {
    expect(measured.distances.notFinite).toBe("NaN");
  });
});

describe("Hyperband", () => {
  // n = ⌈B/R·η^s/(s + 1)⌉ and r = R·η^−s, nᵢ = ⌊n·η^−i⌋ and rᵢ = r·η^i.
  test("has the published schedule for R = 81 and η = 3", () => {
    // prettier-ignore
    expect(measured.brackets[0]).toEqual([
      [[81, 1], [27, 3], [9, 9], [3, 27], [1, 81]],
      [[34, 3], [11, 9], [3, 27], [1, 81]],
      [[15, 9], [5, 27], [1, 81]],
      [[8, 27], [2, 81]],
      [[5, 81]],
    ]);
  });

  test("has 17 configurations for R = 9 and η = 3, and one for R = 1", () => {
    // prettier-ignore
    expect(measured.brackets[1]).toEqual([
      [[9, 1], [3, 3], [1, 9]],
      [[5, 3], [1, 9]],
      [[3, 9]],
    ]);
    expect(measured.brackets[2]).toEqual([[[1, 1]]]);
  });

  test("trains as scheduled, keeps the best, and takes the best seen", () => {
    const { best, drawn, counts, resource } = measured.search;
    expect(drawn).toBe(17);
    expect(counts).toEqual({ 1: 9, 3: 8, 9: 5 });
    expect(resource).toBe(78);
    expect(best).toBeCloseTo(0.7, 12);
  });
});
