import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/folder";
import { cellsOf } from "../support/markdown";

// bench/balancing: its gradients belong to its losses, its criteria are correct, and it keeps finished trainings.

interface Measured {
  toyGradients: number;
  dominations: number;
  distances: number[];
  trunkGradients: number[];
  pinnGradients: number[][];
  rivals: {
    shares: number[];
    mgda: { pair: number[][]; excess: number };
    cagrad: { distance: number; worst: number; best: number; heads: number[][] };
    pcgrad: number[][];
    gradNorm: number[][];
    famo: number[][];
    uncertainty: number[];
    annealing: number[][][];
    firstNorms: number[][][];
    ownDenominators: number[];
  };
  layered: Record<string, number[]>;
  batches: Record<string, { pictures: number[]; labels: number[] }>;
  pictures: { isBlack: boolean; turns: number[][][]; thumbnail: number[]; label: number };
  losses: { crossEntropy: number; squaredError: number; wrong: number };
  solutionErrors: number[];
  derivatives: number[];
  errorOfNothing: number;
  pretended: {
    counts: [done: boolean, trainings: number][];
    chosen: number[];
    onlyOfTuning: number;
    fixedInTable: string[];
    otherSteps: unknown;
    table: string[];
  };
  searched: {
    counts: number[];
    keys: string[];
    twice: number;
    interrupted: string;
    diverged: string;
    weighted: string;
    table: string[];
  };
  wrong: {
    factors: { losses: number[]; gradients: (number[] | null)[]; weights: number[] };
    heads: Record<"plain" | "byTrainer" | "byHand", number[][]>;
    ofWrong: number;
    large: string;
    recovered: string[];
  };
  filled: string;
  appended: string;
  refusals: string[];
  silences: { name: string; least: number; after: number; last: number }[];
}

const root = path.join(__dirname, "../..");
const folder = temporaryFolder();
let measured: Measured;

beforeAll(() => {
  const compiler = require.resolve("typescript/bin/tsc");
  // `npm run lint` checks types.
  execFileSync(process.execPath, [compiler, "-p", path.join(root, "bench"), "--noCheck"]);
  const script = path.join(root, "test/support/balancing.mjs");
  const output = execFileSync(process.execPath, [script, path.join(folder, "pretended")], {
    encoding: "utf8",
  });
  measured = JSON.parse(output) as Measured;
});

describe("gradients agree with central differences:", () => {
  test("the two objectives", () => {
    expect(measured.toyGradients).toBeLessThan(1e-5);
  });

  test("each task of the shared trunk, in its own head and the trunk alone", () => {
    expect(measured.trunkGradients).toHaveLength(2);
    for (const error of measured.trunkGradients) expect(error).toBeLessThan(1e-5);
  });

  test("each term of the Helmholtz, heat and Burgers equations, through the derivatives", () => {
    expect(measured.pinnGradients.map(({ length }) => length)).toEqual([5, 4, 3]);
    for (const error of measured.pinnGradients.flat()) expect(error).toBeLessThan(1e-5);
  });
});

describe("gradients of problems made of layers agree with central differences:", () => {
  test.each([
    ["digits", 3],
    ["autoencoder", 3],
    ["vae", 3],
  ])("%s", (name, terms) => {
    const errors = measured.layered[name]!;
    expect(errors).toHaveLength(terms);
    for (const error of errors) expect(error).toBeLessThan(1e-5);
  });
});

test("each picture of a batch has its own label", () => {
  expect(Object.keys(measured.batches)).toEqual(["DigitsProblem", "VaeProblem"]);
  for (const { pictures, labels } of Object.values(measured.batches)) {
    expect(new Set(pictures).size).toBeGreaterThan(30);
    expect(labels).toEqual(pictures);
  }
});

test("losses have the values of their definitions", () => {
  expect(measured.losses.crossEntropy).toBeCloseTo(Math.log(2) + Math.log(4 / 3), 12);
  expect(measured.losses.squaredError).toBe(7.5);
  expect(measured.losses.wrong).toBe(1);
});

test("digits are made small and turned, and their thumbnails are upright", () => {
  const { isBlack, turns, thumbnail, label } = measured.pictures;
  expect(isBlack).toBe(true);
  const square = (x: number, y: number) => [[x, y], [x + 1, y], [x, y + 1], [x + 1, y + 1]]; // prettier-ignore
  expect(turns).toEqual([square(0, 0), expect.anything(), square(12, 12)]);
  expect([square(12, 0), square(0, 12)]).toContainEqual(turns[1]);
  expect(thumbnail[0]).toBeCloseTo(16 / 49, 12);
  expect(thumbnail.slice(1).every((value) => value === 0)).toBe(true);
  expect(label).toBe(4);
});

test("the derivatives of a network agree with differences", () => {
  expect(measured.derivatives).toHaveLength(3);
  for (const error of measured.derivatives) expect(error).toBeLessThan(1e-5);
});

test("the solutions solve their equations, and the residuals' derivatives are correct", () => {
  expect(measured.solutionErrors).toHaveLength(3);
  for (const error of measured.solutionErrors) expect(error).toBeLessThan(1e-4);
});

test("a network with the output 0 has a relative error of 1", () => {
  expect(measured.errorOfNothing).toBe(1);
});

test("no point is better in both objectives than one of the Pareto set", () => {
  expect(measured.dominations).toBe(0);
});

test("distances to the Pareto set", () => {
  const [on, above, beside, atEnd] = measured.distances;
  expect(on).toBeLessThan(0.01);
  expect(above).toBeCloseTo(3, 2);
  expect(beside).toBeCloseTo(3, 2);
  expect(atEnd).toBeLessThan(0.001);
});

describe("a bench", () => {
  test("starts nothing after the time limit, trains missing runs, and all runs when asked to", () => {
    const trainings = 6 + 2 * 4;
    expect(measured.pretended.counts).toEqual([
      [false, 0],
      [true, trainings],
      [true, 0],
      [true, trainings],
    ]);
  });

  test("chooses fixed weights by the tuning seeds, of equals the first, and reports them on the others", () => {
    expect(measured.pretended.chosen).toEqual([0, 2]);
    expect(measured.pretended.onlyOfTuning).toBe(6);
    expect(measured.pretended.fixedInTable).toEqual([
      "fixed 0 a 1",
      "fixed 2 b 1",
      "fixed 0 a 2",
      "fixed 2 b 2",
    ]);
  });

  test("does not accept a training of another length", () => {
    expect(measured.pretended.otherSteps).toBeNull();
  });

  test("shows mean and deviation, and the best of each column in bold", () => {
    expect(measured.pretended.table).toEqual([
      "|  | a | b |",
      "| --- | ---: | ---: |",
      "| Adam, tuned weights | **1.0 ± 0.0** | **1.0 ± 0.0** |",
      '| `anchor: "max"`, β₃ = 0.5 | 3.5 ± 0.7 | 3.5 ± 0.7 |',
    ]);
  });

  test("writes its part of the report and leaves the rest", () => {
    const part = "<!-- results of a -->\n\nnew\n\n<!-- end of a -->";
    expect(measured.filled).toBe(`before\n${part}\nafter`);
    expect(measured.appended).toBe(`before\n\n${part}\n`);
    const text = readFileSync(path.join(folder, "pretended", "README.md"), "utf8");
    expect(text).toContain("Tuned weights, the best of 3 on 1 other seed: a: exponent 0; b: exponent 2.");
    expect(readFileSync(path.join(folder, "pretended", "pretended.svg"), "utf8")).toMatch(/^<svg /);
  });
});

describe("a bench with learning rates and weights to find", () => {
  test("gives every arm its best rate on the tuning seeds, and found weights", () => {
    expect(measured.searched.keys).toEqual([
      "adam lr 0.3",
      "lost lr 0.1",
      "base lr 0.3",
      "base lr 0.3 w 1 0.1",
    ]);
    expect(measured.searched.weighted).toBe("base w 1 2");
  });

  test("trains nothing twice, goes on from its results, and trains all of it again when asked to", () => {
    // Per variant: three arms at three rates on two tuning seeds, five weights on one seed, and four arms on two seeds.
    const trainings = 2 * (3 * 3 * 2 + 5 + 4 * 2);
    expect(measured.searched.interrupted).toBe("interrupted");
    const before = 3 * 3 * 2 + 2;
    expect(measured.searched.counts).toEqual([before, trainings - before, 0, trainings]);
    expect(measured.searched.twice).toBe(0);
  });

  test("keeps a figure that is not finite, and never chooses it", () => {
    expect(measured.searched.diverged).toBe("NaN");
    expect(measured.searched.table[3]).toBe("| Lost | NaN ± NaN | NaN ± NaN |");
    expect(measured.searched.table[5]).toMatch(/^\| MTAdam, found weights \| \*\*1\.0/);
  });

  test("reports what was chosen", () => {
    const text = readFileSync(path.join(folder, "pretended", "README.md"), "utf8");
    expect(text).toContain(
      "MTAdam, found weights, by `tuneWeights` on another seed: constant: 1 : 0.1; decaying: 1 : 0.1.",
    );
    expect(text).toContain(
      "Learning rates, the best of 0.1, 0.3, 0.9 on 2 other seeds (constant, decaying): Adam: 0.3, 0.3; Lost: 0.1, 0.1; MTAdam: 0.3, 0.3;",
    );
  });
});

test("the tensors that one term alone reaches get its tag", () => {
  const { plain, byTrainer, byHand } = measured.wrong.heads;
  expect(byTrainer).toEqual(byHand);
  // Without a tag, the first step scales the smaller term's head as it scales the trunk.
  expect(plain[1]).not.toEqual(byTrainer[1]);
});

describe("wrong weights and the summary", () => {
  const page = () => readFileSync(path.join(folder, "pretended", "wrong", "README.md"), "utf8");

  test("multiply losses and gradients, and divide the weights in true units", () => {
    const { losses, gradients, weights } = measured.wrong.factors;
    expect(losses).toEqual([28, 4]);
    expect(gradients).toEqual([[4, 8], null, [2.5, 3], [1.5]]);
    expect(weights).toEqual([1 / 4, 20]);
  });

  test("train Adam and MTAdam only, and say what is recovered", () => {
    expect(page()).toContain("each recovers: MTAdam: 88 %.");
    expect(page()).toMatch(/\| Adam +\| +3\.0 ± 0\.0 \| +9\.0 ± 0\.0 \|/);
    expect(page()).toMatch(/\| Other +\| +8\.0 ± 0\.0 \| +– \|/);
  });

  test("say where wrong weights cost nothing, and what diverged", () => {
    expect(measured.wrong.recovered).toEqual([
      "Of the way from Adam with wrong weights to Adam with tuned weights, each recovers: MTAdam: 50 %.",
      "Adam with wrong weights is as good as Adam with tuned weights: there is nothing to recover.",
      "Adam with wrong weights diverged.",
      "Of the way from Adam with wrong weights to Adam with tuned weights, each recovers: MTAdam: diverged.",
    ]);
  });

  test("compare each arm with tuned weights over the problems that are complete", () => {
    const rows = page()
      .split("<!-- results of summary -->")[1]!
      .split("\n")
      .filter((line) => line.startsWith("|"));
    const cells = rows.map(cellsOf);
    expect(cells[0]).toEqual([
      "",
      "mean of 1 column, with other methods",
      "worst",
      "mean of all 2 columns",
      "worst",
    ]);
    const at = "(a, constant rate)";
    expect(cells.slice(2)).toEqual([
      ["Adam / Adam, as it comes", "3.00", `3.0 ${at}`, "3.00", `3.0 ${at}`],
      ["Adam, tuned weights", "1.00", "1.0", "1.00", "1.0"],
      ["MTAdam", "2.00", `2.0 ${at}`, "2.00", `2.0 ${at}`],
      ["Other", "8.00", `8.0 ${at}`, "–", "–"],
    ]);
    expect(page()).toContain("Without missing, whose trainings are not complete.");
    expect(measured.wrong.ofWrong).toBe(0);
    expect(measured.wrong.large).toBe("| Lost | 150.40 | 150 (x) | 150.40 | 150 (x) |");
  });
});

describe("methods to compare with", () => {
  const close = (actual: readonly number[], expected: readonly number[], digits = 6) => {
    expect(actual).toHaveLength(expected.length);
    for (const [k, value] of expected.entries()) expect(actual[k]).toBeCloseTo(value, digits);
  };

  test("shares on a simplex, by golden sections", () => {
    close(measured.rivals.shares, [0.6, 0.3, 0.1, 0], 5);
  });

  test("MGDA: the shortest mixture, α = (g₂ − g₁)·g₂/|g₁ − g₂|² for two; heads as they come", () => {
    const { pair, excess } = measured.rivals.mgda;
    close(pair[0]!, [1 / 5, 2 / 5]);
    expect(pair.slice(1)).toEqual([[5], [7]]);
    expect(excess).toBeCloseTo(0, 4);
  });

  test("CAGrad: at c·|g₀| from the mean, and no other there is better for the worst term", () => {
    const { distance, worst, best, heads } = measured.rivals.cagrad;
    expect(distance).toBeCloseTo(1, 5);
    expect(worst).toBeGreaterThan(best - 1e-4);
    expect(heads).toEqual([[5], [7]]);
  });

  test("PCGrad: each without what points against the other, added up", () => {
    // g₁ = (1, 0) and g₂ = (−1, 1): g₁ + g₂/2 = (1/2, 1/2) and g₂ + g₁ = (0, 1).
    expect(measured.rivals.pcgrad).toEqual([[0.5, 1.5], [5], [7]]);
  });

  test("GradNorm: one step of the weights by the sign of Gᵢ − Ḡ·rᵢ^α, their sum kept", () => {
    const [first, second] = measured.rivals.gradNorm;
    close(first!, [3, 5]);
    // G = 5 and 1 with target 3: the first weight falls and the second rises, by the learning rate each.
    close(second!, [0.975 * 3, 0.975 * 4 + 1.025]);
  });

  test("FAMO: weights zᵢ/ℓᵢ over their sum; the term that fell less gains", () => {
    const [first, second] = measured.rivals.famo;
    close(first!, [0.8, 0.2]);
    const [z1, z2] = [Math.exp(-0.025), Math.exp(0.025)];
    close(second!, [z1 / (z1 + z2 / 8), z2 / 8 / (z1 + z2 / 8)]);
  });

  test("uncertainty weighting comes to exp(−sᵢ) = 1/Lᵢ where losses stay", () => {
    close(measured.rivals.uncertainty, [1 / 4, 1 / 16], 4);
  });

  test("λ annealing: a tenth of max|∇L₀|/mean|∇Lᵢ| each step", () => {
    const [first, second] = measured.rivals.annealing;
    const [one, two] = [0.9 + 0.1 * 6, 0.9 * (0.9 + 0.1 * 6) + 0.1 * 6]; // 8 over a mean of 4/3
    close(first!.flat(), [1 + one, -8 + one, 2 - 2 * one], 5);
    close(second!.flat(), [1 + two, -8 + two, 2 - 2 * two], 5);
  });

  test("fixed 1/n₀: by the norms of the first step over what is shared", () => {
    const [first, second] = measured.rivals.firstNorms;
    close(first!.flat(), [6, 8, 5, 70], 4);
    close(second!.flat(), [303, 404, 5, 70], 3);
  });

  test("own denominators: Adam per term, added up (AdaTask) or averaged (MultiAdam)", () => {
    for (const error of measured.rivals.ownDenominators) expect(error).toBeLessThan(1e-6);
  });
});

describe("an anchor that falls silent", () => {
  test("starves its layer by default until its norm is negligible", () => {
    const byDefault = measured.silences.find(({ name }) => name === "default")!;
    expect(byDefault.least).toBeLessThan(1e-8);
    expect(byDefault.after).toBe(218);
    expect(byDefault.last).toBeGreaterThan(1);
  });

  test.each(['anchor: "max"', 'anchor: "b"', "absent, not zero", 'silence: "rest"'])(
    "does not with %s",
    (name) => {
      expect(measured.silences.find((silence) => silence.name === name)!.least).toBeGreaterThan(0.8);
    },
  );
});

describe("the command", () => {
  const bench = (...args: string[]) =>
    spawnSync(process.execPath, [path.join(root, "build/bench/balancing/main.mjs"), ...args], {
      encoding: "utf8",
    });

  test("trains, reports, and trains nothing twice", () => {
    const out = path.join(folder, "command");
    const args = ["--steps", "2", "--seeds", "1", "--experiment", "helmholtz", "--out", out];
    const first = bench(...args);
    expect(first.stderr).toBe("");
    expect(first.status).toBe(0);
    expect(readdirSync(out).sort()).toEqual([
      "README.md",
      "helmholtz.json",
      "helmholtz.svg",
      "silent-anchor.svg",
    ]);
    const second = bench(...args);
    expect(second.status).toBe(0);
    expect(first.stdout.split("\n").length).toBeGreaterThan(10);
    expect(second.stdout.split("\n").length).toBe(3);
  });

  test("trains the arms and variants that are asked for, and makes no tables of them", () => {
    const out = path.join(folder, "part");
    const args = ["--steps", "2", "--seeds", "1", "--experiment", "helmholtz", "--out", out];
    const part = bench(...args, "--arm", "default", "--arm", "adam", "--variant", "five terms");
    expect([part.stderr, part.status]).toEqual(["", 0]);
    expect(readdirSync(out)).toEqual(["helmholtz.json"]);
    const { runs } = JSON.parse(readFileSync(path.join(out, "helmholtz.json"), "utf8")) as {
      runs: { arm: string; variant: string }[];
    };
    expect(runs.map(({ arm }) => arm).sort()).toEqual(["adam", "default"]);
  });

  test.each(["arm", "variant"])("refuses an unknown %s", (option) => {
    const { status, stderr } = bench("--experiment", "helmholtz", "--out", folder, `--${option}`, "x");
    expect(status).toBe(2);
    expect(stderr).toContain(`--${option} of helmholtz must be one of `);
    expect(stderr).toContain('; got "x".');
  });

  test("refuses invalid options in one sentence", () => {
    expect(measured.refusals).toEqual([
      "--steps must come with --out: a quick look is no result to keep.",
      '--experiment must be one of a, b; got "x".',
      '--seeds must be a whole number of at least 1; got "0".',
      "--seeds must come with --out: a quick look is no result to keep.",
      "--again cannot come with --minutes: it would begin anew each time.",
      "",
    ]);
    const { status, stderr } = bench("--unknown");
    expect(status).toBe(2);
    expect(stderr).toContain("'--unknown'");
  });
});
