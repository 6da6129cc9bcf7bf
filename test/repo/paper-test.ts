import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/folder";
import { python, withTorch } from "../support/torch";

// bench/paper: its figures are those of their definitions, and its command goes on where it was stopped.

interface Measured {
  distances: { general: number; singular: number; itself: number; notFinite: string };
  brackets: [configurations: number, resource: number][][][];
  search: { best: number; expected: number; drawn: number; counts: Record<string, number>; resource: number };
  pretended: {
    again: number;
    searched: number[];
    atRates: [steps: number, weights: string, rate: number][];
    chosenWeights: string;
    ranges: { weights: number[]; rates: number[] };
    best: number;
    chosen: number;
    reportedInWrong: string[];
  };
  wrongWeights: {
    given: number[];
    quarters: number[];
    products: number[];
    pairs: number[][];
    again: number[];
    other: number[];
  };
  furtherRates: { rates: number[]; chosen: number }[];
  versions: number[];
  sources: [one: string[], all: string[]];
  moments: number[][];
  strip: { size: number[]; values: number[] };
  twoAtOnce: { values: number[]; costs: string[] };
  changedMeanwhile: { error: string; kept: number };
  refusedFiles: (number | string)[];
}

const root = path.join(__dirname, "../..");
const folder = temporaryFolder();
let measured: Measured;

beforeAll(() => {
  // Not build/bench, which another test compiles at the same time. `npm run lint` checks types.
  const compiled = path.join(root, "build/test/paper");
  const compiler = require.resolve("typescript/bin/tsc");
  const args = ["-p", path.join(root, "bench"), "--noCheck", "--outDir", compiled];
  execFileSync(process.execPath, [compiler, ...args]);
  const script = path.join(root, "test/support/paper.mjs");
  measured = JSON.parse(execFileSync(process.execPath, [script, folder], { encoding: "utf8" })) as Measured;
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

  test("trains as scheduled, keeps the best, and takes the best of the full trainings", () => {
    const { best, expected, drawn, counts, resource } = measured.search;
    expect(drawn).toBe(17);
    expect(counts).toEqual({ 1: 9, 3: 8, 9: 5 });
    expect(resource).toBe(78);
    expect(best).toBe(expected);
    expect(Math.abs(best - 0.5)).toBeLessThan(Math.abs(best - 0.7));
  });
});

describe("an experiment with a search by Hyperband", () => {
  test("trains 17 configurations as long as scheduled, and chooses the best", () => {
    const { searched, best, chosen } = measured.pretended;
    const count = (steps: number) => searched.filter((one) => one === steps).length;
    expect([count(1), count(3), count(9)]).toEqual([9, 8, 5]);
    expect(chosen).toBeCloseTo(best, 12);
  });

  test("then gives them the best of the rates that every arm is trained with", () => {
    const { atRates, chosenWeights } = measured.pretended;
    expect(atRates).toEqual([0.1, 0.2, 0.4].map((rate) => [9, chosenWeights, rate]));
  });

  test("draws weights over four decades, and rates between those of the other arms", () => {
    const { weights, rates } = measured.pretended.ranges;
    expect(weights[0]).toBeGreaterThanOrEqual(0.01);
    expect(weights[0]).toBeLessThan(0.05);
    expect(weights[1]).toBeLessThanOrEqual(100);
    expect(weights[1]).toBeGreaterThan(20);
    expect(rates[0]).toBeGreaterThanOrEqual(0.1);
    expect(rates[1]).toBeLessThanOrEqual(0.4);
  });

  test("trains nothing twice, and an arm in its variants alone", () => {
    expect(measured.pretended.again).toBe(0);
    expect(measured.pretended.reportedInWrong).toEqual(["adam lr 0.1", "base lr 0.1"]);
  });

  test("reports what the searches took, further figures, curves and pictures", () => {
    const text = readFileSync(path.join(folder, "README.md"), "utf8");
    expect(text).toContain(
      "The search of Hyperband, beside that of the rate: given: 17 configurations in the steps of 8.7 trainings.",
    );
    expect(text).toMatch(
      /The search of Dial, beside that of the rate: given: 5 configurations in the steps of 5\.0 trainings\./,
    );
    expect(text).toMatch(/Error, lower is better; mean ± s\.d\. over 2 seeds, 9 steps:/);
    expect(text).toMatch(/\| Hyperband +\| \*\*2 ± 1\*\* +\| +– \|/);
    expect(text).toMatch(/\| Adam +\| \*\*2 ± 1\*\* +\| NaN ± NaN \|/);
    expect(text).toContain("A remark.");
    expect(text).toContain("![curves](pretended-curves.svg)");
    expect(readFileSync(path.join(folder, "pretended-curves.svg"), "utf8")).toMatch(/^<svg /);
    const picture = /!\[Adam, given\]\((pretended\/[^)]+\.png)\)/.exec(text);
    expect(existsSync(path.join(folder, picture![1]!))).toBe(true);
    const records =
      /How the terms were balanced: \[MTAdam, given\]\((pretended\/[^)]+\.jsonl)\); \[Dial, given\]/.exec(
        text,
      );
    expect(readFileSync(path.join(folder, records![1]!), "utf8")).toBe("records");
    expect(text).toContain("`npx mtadam report pretended/*.jsonl -o report.html`");
    expect(text).toMatch(/, 54 trainings in 0 minutes; raw results/);
  });
});

test("wrong weights are log-uniform over four decades, in pairs of reciprocals, and other ones in each experiment", () => {
  const { given, quarters, products, pairs, again, other } = measured.wrongWeights;
  expect(given).toEqual([1, 1]);
  for (const share of quarters) expect(Math.abs(share - 0.25)).toBeLessThan(0.04);
  expect(products).toHaveLength(4);
  for (const product of products) expect(product).toBeCloseTo(1, 12);
  expect(pairs[0]).toEqual(again);
  expect(new Set([...pairs.flat(), ...other]).size).toBe(6);
});

test("the search of the rate goes on beyond an end that is best, as often as the experiment says", () => {
  const [inside, above, below] = measured.furtherRates;
  expect(inside).toEqual({ rates: [0.1, 0.3, 0.9], chosen: 0.3 });
  expect(above).toEqual({ rates: [0.1, 0.3, 0.9, 2.7, 8.1], chosen: 8.1 });
  expect(below).toEqual({ rates: [0.1, 0.3, 0.9, 0.033, 0.011], chosen: 0.011 });
});

test("a result of another version or of other options does not count", () => {
  expect(measured.versions).toEqual([1, 1, 2, 3, 3]);
});

test("the sources of a model include what it imports, once", () => {
  const [one, all] = measured.sources;
  expect(one).toContain("turned"); // soft imports it from hard
  expect(one).toContain("new_trunk");
  expect(one).toEqual(all);
});

test("a result is the mean over moments of the last sixth, where an experiment asks for several", () => {
  expect(measured.moments).toEqual([[1500, 1440, 1380, 1320, 1260], [4, 3], [400]]);
});

test("a strip shows pictures from black to white, row by row", () => {
  expect(measured.strip.size).toEqual([32, 64, 1]);
  expect(measured.strip.values).toEqual([0, 0, 127, 255]);
});

test("two stores may add to one file", () => {
  expect(measured.twoAtOnce.values.sort((a, b) => a - b)).toEqual([1, 2, 11, 12]);
  expect(measured.twoAtOnce.costs).toEqual(["2 trainings in 1 minute", "2 trainings in 1 minute"]);
});

test("a result is not kept if the model's sources changed meanwhile", () => {
  expect(measured.changedMeanwhile).toEqual({
    error: "The sources of the model changed while it was trained. The result is not kept.",
    kept: 1,
  });
});

test("files that are not a data set's are refused", () => {
  expect(measured.refusedFiles).toEqual([
    1,
    "A set, images, should be an IDX file of unsigned bytes, count × 28 × 28.",
    "A set, images, should be an IDX file of unsigned bytes, count × 28 × 28.",
    "A set, labels, should be an IDX file of unsigned bytes, count.",
    "A set: images and labels differ in number.",
  ]);
});

withTorch("with PyTorch,", () => {
  interface Checked {
    subBatches: number;
    outline: number[][];
    psnr: number;
    ssim: [same: number, negative: number];
    turned: number[][][];
    residual: [exact: number, mean: number];
  }
  interface Trained {
    value: number;
    details: { l1: number; floor: number; curve: number[] };
    picture: boolean;
    pageHas: boolean[];
  }
  let checked: Checked;

  beforeAll(() => {
    const program = path.join(root, "test/support/paper-models.py");
    checked = JSON.parse(execFileSync(python!, [program], { encoding: "utf8" })) as Checked;
  });

  /** Trains in a folder until it is done, or until the first training of a line has finished. Gives the lines. */
  function trainIn(place: string, stopAfterFirst: boolean): Promise<string[]> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [path.join(root, "test/support/paper-training.mjs"), place], {
        env: { ...process.env, MTADAM_PYTHON: python },
        stdio: ["ignore", "pipe", "inherit"],
      });
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        output += text;
        if (stopAfterFirst && /^trained /m.test(output)) child.kill("SIGKILL");
      });
      child.on("error", reject);
      child.on("close", () => {
        resolve(output.trim().split("\n"));
      });
    });
  }

  test("the gradients of MNIST's digits by sub-batches are those of the whole batch", () => {
    expect(checked.subBatches).toBeLessThan(1e-5);
  });

  test("outlines are the ink beside the background", () => {
    const row = (...ink: number[]) => ink.map((one) => 2 * one - 1);
    expect(checked.outline).toEqual([
      row(0, 0, 0, 0, 0),
      row(0, 1, 1, 1, 0),
      row(0, 1, 0, 1, 0),
      row(0, 1, 0, 1, 0),
      row(0, 1, 1, 1, 0),
      row(0, 0, 0, 0, 0),
    ]);
  });

  test("PSNR, SSIM, quarter turns and the unexplained variance are those of their definitions", () => {
    expect(checked.psnr).toBeCloseTo(20, 4); // a difference of 0.1 on a scale of 1
    expect(checked.ssim[0]).toBeCloseTo(1, 6);
    expect(checked.ssim[1]).toBeLessThan(0);
    expect(checked.turned).toEqual([
      [[1, 2], [3, 4]],
      [[2, 4], [1, 3]],
    ]); // prettier-ignore
    expect(checked.residual[0]).toBe(0);
    expect(checked.residual[1]).toBeCloseTo(1, 6);
  });

  test("a training that was killed is repeated, a finished one is not, and the results are the same", async () => {
    const [interrupted, whole] = [path.join(folder, "interrupted"), path.join(folder, "whole")];
    const first = await trainIn(interrupted, true);
    expect(first.filter((line) => line.startsWith("trained "))).toHaveLength(1);
    const second = await trainIn(interrupted, false);
    expect(second.filter((line) => line.startsWith("trained "))).toHaveLength(1);
    expect(second[0]).toContain("seed 2");
    const outcomes = JSON.parse(second.at(-1)!) as Trained[];
    expect(JSON.parse((await trainIn(whole, false)).at(-1)!)).toEqual(outcomes);
    for (const [index, { value, details, picture, pageHas }] of outcomes.entries()) {
      expect(value).toBeGreaterThan(details.floor);
      expect(details.floor).toBeGreaterThan(0);
      expect(details.curve).toHaveLength(4);
      expect(details.curve.at(-1)).toBe(value);
      expect(picture).toBe(index === 0);
      expect(pageHas).toEqual(index === 0 ? [true, true, true] : []);
    }
  });
});
