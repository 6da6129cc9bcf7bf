import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { temporaryFolder } from "../support/folder";
import { python, withTorch } from "../support/torch";

// bench/paper: its models compute the losses and figures of their formulas, from images with their own classes.

type Pair = [value: number, expected: number];

interface Drawn {
  shapes: number[][];
  own: boolean;
  labels: number[];
}

interface DataSet {
  counts: number[];
  lengths: number[][];
  places: boolean[];
  chosen: Drawn;
  fromValidation: Drawn;
  drawn: Drawn;
}

const root = path.join(__dirname, "../..");
const folder = temporaryFolder();
const fashion = existsSync("/usr/share/datasets/fashion-mnist");
const data = {} as {
  sets: Record<string, DataSet>;
  samples: [{ indices: number[]; own: boolean }, { indices: number[]; own: boolean }];
};

const support = (name: string): string => path.join(root, "test/support", name);

beforeAll(() => {
  // A folder of its own, since other tests compile at the same time. `npm run lint` checks types.
  const compiled = path.join(root, "build/test/paper-models");
  const compiler = require.resolve("typescript/bin/tsc");
  const args = ["-p", path.join(root, "bench"), "--noCheck", "--outDir", compiled];
  execFileSync(process.execPath, [compiler, ...args]);
  const names = ["digits", ...(fashion ? ["fashion"] : [])];
  const output = execFileSync(process.execPath, [support("paper-data.mjs"), ...names], { encoding: "utf8" });
  Object.assign(data, JSON.parse(output));
});

/** Tests of a data set. Without Debian's package, those of fashion are skipped. */
function withData(name: string, body: () => void): void {
  if (name !== "fashion" || fashion) {
    describe(name, body);
    return;
  }
  process.stderr.write("skipped: fashion needs Debian's package dataset-fashion-mnist\n");
  describe.skip(name, body);
}

for (const name of ["digits", "fashion"]) {
  withData(name, () => {
    test("are 50,000 for training, the 10,000 after them for validation, and the 10,000 test images", () => {
      const { counts, lengths, places } = data.sets[name]!;
      expect(counts).toEqual([50_000, 10_000, 10_000]);
      expect(lengths).toEqual(counts.map((count) => [count * 784, count]));
      expect(places).toEqual([true, true, true]);
    });

    test("come with their own classes, chosen or drawn", () => {
      const { chosen, fromValidation, drawn } = data.sets[name]!;
      for (const [{ shapes, own, labels }, count] of [
        [chosen, 4],
        [fromValidation, 2],
        [drawn, 5],
      ] as const) {
        expect(own).toBe(true);
        // prettier-ignore
        expect(shapes).toEqual([[count, 28, 28], [count]]);
        // Equal classes would also fit images in another order.
        expect(new Set(labels).size).toBeGreaterThan(1);
      }
    });
  });
}

test("two samples have no image in common, and each image keeps its class", () => {
  const [one, two] = data.samples;
  expect([one.own, two.own]).toEqual([true, true]);
  expect([one.indices.length, two.indices.length]).toEqual([250, 250]);
  expect(new Set([...one.indices, ...two.indices]).size).toBe(500);
});

withTorch("with PyTorch,", () => {
  interface Compared {
    shape: number[];
    error: number;
  }
  interface Checked {
    terms: string[];
    order: string[];
    losses: Record<string, Pair>;
    ratios: number[][];
    reached: Record<string, string[]>;
    parameters: string[];
  }
  interface Made {
    keys: string[][];
    features: Record<string, Compared>;
    reference: Record<string, Compared>;
    figures: Record<string, Pair>;
    samples: { given: Compared; made: Compared };
  }
  interface Named {
    evaluate: { keys: string[]; shapes: number[][]; figures: Record<string, Pair> };
  }
  interface Formulas {
    models: Record<"pix2pix" | "srgan", Checked & Made> &
      Record<"cyclegan", Checked & Made & { plain: { error: number; size: number } }> &
      Record<"hard" | "soft", Checked & Named> & {
        mnist: Checked & Named & { dropout: { losses: Pair; evaluations: Pair; again: Pair } };
      };
    qualities: { psnr: Pair; ssim: [first: Pair, second: Pair, both: Pair] };
  }
  interface Request {
    part: string;
    weights?: number[];
    terms: string[];
    networks: string[];
  }
  interface AskedTask {
    requests: Request[];
    own: boolean;
    labelled?: number[];
    images: number[];
    classes: number;
    turns?: [shape: number[], values: number[]];
    judged: {
      calls: string[];
      own: boolean;
      indices: number[];
      turns?: [shape: number[], values: number[]];
    };
    value: number;
  }
  interface AskedPictures {
    requests: Request[];
    images: number[];
    others?: number[];
    calls: string[];
    inputs: number[];
    compared: number[];
    made: number[];
    figures: Record<string, number>;
    outcome: { value: number; details: Record<string, number> };
  }
  interface Asked {
    terms: Record<string, string[]>;
    tasks: Record<"hard" | "soft" | "mnist", AskedTask>;
    pictures: Record<"pix2pix" | "srgan" | "cyclegan", AskedPictures>;
    tuning: { hard: AskedTask; pix2pix: AskedPictures };
  }

  const PICTURES = ["pix2pix", "srgan", "cyclegan"] as const;
  const TASKS = ["hard", "soft", "mnist"] as const;
  const MODELS = [...PICTURES, ...TASKS];
  const digits = Array.from({ length: 10 }, (_, digit) => `digit ${digit}`);
  let formulas: Formulas;
  let asked: Asked;
  let distances: Record<string, { value: number; floor: number }>;

  beforeAll(async () => {
    const run = async <Result>(program: string, args: string[]): Promise<Result> => {
      const environment = { env: { ...process.env, MTADAM_PYTHON: python }, maxBuffer: 2 ** 24 };
      const { stdout } = await promisify(execFile)(program, args, environment);
      // Lines before it tell how good the classifier is.
      return JSON.parse(stdout.trim().split("\n").at(-1)!) as Result;
    };
    [formulas, asked] = await Promise.all([
      run<Formulas>(python!, [support("paper-losses.py"), folder]),
      run<Asked>(process.execPath, [support("paper-asked.mjs"), folder]),
    ]);
    const files = ["pix2pix-1", "srgan-1", "cyclegan-1", "pix2pix-101"];
    const args = files.map((name) => path.join(folder, `${name}.json`));
    distances = await run(python!, [support("paper-distances.py"), ...args]);
  });

  /** The names of the values that differ from those expected, by more than rounding. */
  function wrong(pairs: Record<string, Pair>): string[] {
    const differs = ([value, expected]: Pair) => !(Math.abs(value / expected - 1) < 1e-5);
    return Object.keys(pairs).filter((name) => differs(pairs[name]!));
  }

  describe("the losses", () => {
    test.each(MODELS)("of %s are those of their formulas", (name) => {
      const { terms, losses } = formulas.models[name];
      expect(Object.keys(losses)).toEqual(terms);
      expect(wrong(losses)).toEqual([]);
    });

    test.each(MODELS)("of %s come in the order of its terms, which is the experiment's", (name) => {
      const { terms, order } = formulas.models[name];
      expect(order).toEqual(terms);
      const balanced = asked.terms[name]!;
      expect(terms.slice(0, balanced.length)).toEqual(balanced);
      // The critic's loss is not balanced.
      expect(terms).toHaveLength(balanced.length + (name in asked.pictures ? 1 : 0));
    });

    test.each(MODELS)("of %s have a weight each", (name) => {
      const { ratios } = formulas.models[name];
      expect(ratios).toHaveLength(asked.terms[name]!.length);
      for (const [term, row] of ratios.entries()) {
        expect(row).toHaveLength(ratios.length);
        for (const [of, ratio] of row.entries()) expect(ratio).toBeCloseTo(of === term ? 3 : 1, 5);
      }
    });

    // A critic's loss reaches no generator: the pictures that it judges are detached. An adversarial loss reaches the critic;
    // a training asks for the generator's gradients only.
    test.each<[(typeof MODELS)[number], Record<string, string[]>]>([
      ["pix2pix", { adversarial: ["generator", "critic"], pixels: ["generator"], critic: ["critic"] }],
      [
        "srgan",
        {
          pixels: ["generator"],
          features: ["generator"],
          adversarial: ["generator", "critic"],
          critic: ["critic"],
        },
      ],
      [
        "cyclegan",
        {
          "outlines adversarial": ["generator.outline", "critic.outlines"],
          "pictures adversarial": ["generator.fill", "critic.pictures"],
          "pictures cycle": ["generator.outline", "generator.fill"],
          "outlines cycle": ["generator.outline", "generator.fill"],
          "pictures identity": ["generator.fill"],
          "outlines identity": ["generator.outline"],
          critics: ["critic.pictures", "critic.outlines"],
        },
      ],
      ["hard", { class: ["trunk", "classes"], turn: ["trunk", "turns"], picture: ["trunk", "picture"] }],
      [
        "soft",
        {
          class: ["class_trunk", "classes"],
          turn: ["turn_trunk", "turns"],
          similar: ["class_trunk", "turn_trunk"],
        },
      ],
      ["mnist", Object.fromEntries(digits.map((digit) => [digit, ["network"]]))],
    ])("of %s have gradients for the tensors that they depend on, and for no others", (name, expected) => {
      expect(formulas.models[name].reached).toEqual(expected);
    });

    test("of pictures have no parameters but those of generators and critics", () => {
      for (const name of PICTURES) {
        expect(formulas.models[name].parameters).toEqual(["critic", "generator"]);
      }
    });
  });

  test("cyclegan's generator computes what pix2pix's does", () => {
    const { error, size } = formulas.models.cyclegan.plain;
    expect(size).toBeGreaterThan(0.1);
    expect(error).toBeLessThan(1e-5 * size);
  });

  describe("the figures", () => {
    test.each(PICTURES)("of %s are those of the pictures that it makes", (name) => {
      const { keys, features, reference, figures } = formulas.models[name];
      const further = name === "srgan" ? ["psnr", "ssim"] : ["l1"];
      expect(keys).toEqual([["features", "figures"], further, ["given", "made"]]);
      expect(wrong(figures)).toEqual([]);
      expect(Object.keys(figures)).toEqual(further);
      for (const of of [features, reference]) {
        expect(Object.keys(of)).toEqual(name === "cyclegan" ? ["pictures", "outlines"] : ["pictures"]);
        for (const { shape, error } of Object.values(of)) {
          expect(shape).toEqual([60, 64]);
          expect(error).toBeLessThan(1e-5);
        }
      }
    });

    test.each(PICTURES)(
      "of %s come with samples: a row of inputs, a row of true pictures, those made",
      (name) => {
        const { given, made } = formulas.models[name].samples;
        expect(given.shape).toEqual([2, 60, 1, 32, 32]);
        expect(made.shape).toEqual([name === "cyclegan" ? 2 : 1, 60, 1, 32, 32]);
        expect(given.error).toBeLessThan(1e-5);
        expect(made.error).toBeLessThan(1e-5);
      },
    );

    test.each([
      ["hard", ["class", "picture", "turn"]],
      ["soft", ["class", "turn"]],
      ["mnist", ["class"]],
    ] as const)("of %s are percentages by their definitions", (name, expected) => {
      const { keys, shapes, figures } = formulas.models[name].evaluate;
      expect(keys).toEqual(expected);
      expect(shapes).toEqual(keys.map(() => []));
      expect(wrong(figures)).toEqual([]);
    });

    test("PSNR and SSIM of unlike pictures are what numpy computes by the definitions", () => {
      const { psnr, ssim } = formulas.qualities;
      const [first, second, both] = ssim;
      expect(wrong({ psnr, first, second, both })).toEqual([]);
    });
  });

  test("dropout is on in losses, also after an evaluation, and off in evaluations", () => {
    const { losses, evaluations, again } = formulas.models.mnist.dropout;
    expect(losses[0]).not.toBe(losses[1]);
    expect(again[0]).not.toBe(again[1]);
    expect(evaluations[0]).toBe(evaluations[1]);
    expect(wrong({ error: [evaluations[0], formulas.models.mnist.evaluate.figures["class"]![1]] })).toEqual(
      [],
    );
  });

  const first = (count: number, from = 0) => Array.from({ length: count }, (_, index) => from + index);
  const unlike = (indices: number[]) => new Set(indices).size;

  /** Expects indices of the 50,000 training images, or of a part; those for validation follow in the same file. */
  function expectTrained(indices: number[], count: number, [start, end] = [0, 50_000]): void {
    expect(indices).toHaveLength(count);
    expect(Math.min(...indices)).toBeGreaterThanOrEqual(start);
    expect(Math.max(...indices)).toBeLessThan(end);
    // Images are drawn from all of them, not from the first ones.
    expect(Math.max(...indices)).toBeGreaterThan((start + end) / 2);
  }

  describe("an experiment with tasks", () => {
    test.each(TASKS)("asks for the gradients of all terms of %s, with weights of 1", (name) => {
      const [request, ...further] = asked.tasks[name].requests;
      const terms = asked.terms[name]!;
      expect(request).toMatchObject({ terms, weights: terms.map(() => 1) });
      expect([...request!.networks].sort()).toEqual(formulas.models[name].parameters);
      expect(further).toEqual([]);
    });

    test.each(TASKS)("gives %s training images with their own classes", (name) => {
      const { own, images, classes, turns } = asked.tasks[name];
      expect(own).toBe(true);
      expectTrained(images, name === "mnist" ? 64 : 32);
      expect(classes).toBeGreaterThan(1);
      if (name === "mnist") expect([classes, turns]).toEqual([10, undefined]);
      else expect(turns).toEqual([[32], [0, 1, 2, 3]]);
    });

    test("gives soft the classes of the first 1,000 images, and other images to turn", () => {
      const { labelled, images } = asked.tasks.soft;
      expect(labelled).toHaveLength(32);
      expect(Math.min(...labelled!)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...labelled!)).toBeLessThan(1000);
      expect(Math.max(...labelled!)).toBeGreaterThan(500);
      expect(labelled).not.toEqual(images);
      expect(asked.tasks.hard.labelled).toBeUndefined();
    });

    test.each(TASKS)("judges %s by all test images with their own classes", (name) => {
      const { calls, own, indices, turns } = asked.tasks[name].judged;
      expect(calls).toEqual(["evaluate"]);
      expect(own).toBe(true);
      expect(indices).toEqual(first(10_000));
      expect(turns).toEqual(name === "mnist" ? undefined : [[10_000], [0, 1, 2, 3]]);
    });

    test("judges by validation images where rates and weights are chosen", () => {
      const { own, indices } = asked.tuning.hard.judged;
      expect(own).toBe(true);
      expect(indices).toEqual(first(10_000, 50_000));
    });

    test("has the mean of the figures as its value", () => {
      // `evaluate` is replaced: 10 for classes, 20 for turns, 60 for pictures.
      expect(TASKS.map((name) => asked.tasks[name].value)).toEqual([30, 15, 10]);
    });
  });

  describe("an experiment with pictures", () => {
    test.each(PICTURES)(
      "asks %s for the generator's gradients of its terms, then for the critic's",
      (name) => {
        const terms = asked.terms[name]!;
        const critic = formulas.models[name].terms.slice(terms.length);
        expect(asked.pictures[name].requests).toEqual([
          { part: "generator", weights: terms.map(() => 1), terms, networks: ["generator"] },
          { part: "critic", terms: critic, networks: ["critic"] },
        ]);
      },
    );

    test.each(PICTURES)("gives %s training images", (name) => {
      const { images, others } = asked.pictures[name];
      if (name !== "cyclegan") {
        expectTrained(images, 16);
        expect(others).toBeUndefined();
      } else {
        // No picture of one domain has its outline in the other.
        expectTrained(images, 16, [0, 25_000]);
        expectTrained(others!, 16, [25_000, 50_000]);
      }
    });

    test.each(PICTURES)("compares what %s makes of some test images with others", (name) => {
      const { calls, inputs, compared, made } = asked.pictures[name];
      expect(calls).toEqual(["samples", "reference", "reference", "evaluate", "samples"]);
      expect([inputs.length, compared.length]).toEqual([100, 100]);
      expect(Math.min(...inputs, ...compared)).toBeGreaterThanOrEqual(0);
      expect(unlike([...inputs, ...compared])).toBe(200);
      expect(made).toEqual(inputs);
    });

    test("compares by validation images where rates and weights are chosen", () => {
      const { inputs, compared, made } = asked.tuning.pix2pix;
      expect(Math.min(...inputs, ...compared)).toBeGreaterThanOrEqual(50_000);
      expect(unlike([...inputs, ...compared])).toBe(200);
      expect(made).toEqual(inputs);
    });

    test.each([
      ["pix2pix-1", () => asked.pictures.pix2pix],
      ["srgan-1", () => asked.pictures.srgan],
      ["cyclegan-1", () => asked.pictures.cyclegan],
      ["pix2pix-101", () => asked.tuning.pix2pix],
    ])("has the distances that numpy computes from the same features (%s)", (key, of) => {
      const { outcome, figures } = of();
      const { value, floor } = distances[key]!;
      expect(Math.abs(outcome.value / value - 1)).toBeLessThan(1e-6);
      expect(Math.abs(outcome.details["floor"]! / floor - 1)).toBeLessThan(1e-6);
      expect(outcome.details).toMatchObject(figures);
    });
  });
});
