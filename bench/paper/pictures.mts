import type { PythonValue, TorchModel } from "mtadam/torch";
import { randomFor, type Random } from "../../examples/common/random.mjs";
import { ratesAround, type Experiment, type FurtherMeasure, type Results } from "../common/experiment.mjs";
import { mean } from "../common/statistics.mjs";
import { TUNING_SEEDS, VARIANTS, armsFor, isTuning } from "./arms.mjs";
import { FURTHER_RATES, factorsOf, recoveredOf, versionOf } from "./protocol.mjs";
import { trainedClassifier } from "./classifier.mjs";
import { curves } from "./curves.mjs";
import {
  choose,
  drawn,
  halves,
  loadData,
  twoSamples,
  type Data,
  type DataName,
  type Examples,
} from "./data.mjs";
import { frechetDistance, moments, type Moments } from "./frechet.mjs";
import { openModel } from "./python.mjs";
import { strip } from "../../examples/common/strip.mjs";
import { train, type Judgement, type Subject } from "./training.mjs";

/** How much a training of pictures costs besides its steps. */
export interface Effort {
  /** Pictures whose features are compared. */
  judged: number;
  /** Steps that the classifier is trained for. */
  classifierSteps: number;
}

export const FULL: Effort = { judged: 2000, classifierSteps: 1500 };

const SEEDS = 4;
const BATCH = 16;
const WIDTH = 16;
const BETA1 = 0.5;
const RATE = 6e-4;
const CRITIC_RATE = 2e-4;
const SAMPLES = 8;
/** A generator's distance changes much from moment to moment. */
const JUDGEMENTS = 5;

/** An experiment that makes pictures. */
interface Kind {
  key: string;
  model: string;
  data: DataName;
  terms: readonly string[];
  /** The keys of its arms. Left out: all. */
  arms?: readonly string[];
  criticTerm: string;
  /** The weights that the authors of the method use. */
  usual?: readonly number[];
  steps: number;
  /** The batch that is drawn for a step, by keyword. */
  draw(train: Data["train"], random: Random): Record<string, PythonValue>;
  further: readonly FurtherMeasure[];
}

interface Evaluated {
  /** By kind of picture: [judged × features]. */
  features: Record<string, Tensor>;
  figures: Record<string, number>;
}

interface Tensor {
  data: Float32Array;
  shape: number[];
}

const L1: FurtherMeasure = {
  detail: "l1",
  measure: "mean absolute error against the true pictures, which range from -1 to 1",
  better: "lower",
  show: (value) => value.toPrecision(3),
};

const paired = (train: Data["train"], random: Random) => {
  return { images: drawn(train, BATCH, random).images };
};

const pix2pix = (key: string, data: DataName): Kind => ({
  key,
  model: "pix2pix",
  data,
  terms: ["adversarial", "pixels"],
  criticTerm: "critic",
  steps: 1500,
  draw: paired,
  further: [L1],
});

const srgan = (key: string, data: DataName): Kind => ({
  key,
  model: "srgan",
  data,
  terms: ["pixels", "features", "adversarial"],
  criticTerm: "critic",
  steps: 1500,
  draw: paired,
  further: [
    { detail: "psnr", measure: "PSNR in dB", better: "higher", show: (value) => value.toFixed(2) },
    { detail: "ssim", measure: "SSIM", better: "higher", show: (value) => value.toFixed(4) },
  ],
});

const cyclegan: Kind = {
  key: "cyclegan",
  model: "cyclegan",
  data: "digits",
  terms: [
    "outlines adversarial",
    "pictures adversarial",
    "pictures cycle",
    "outlines cycle",
    "pictures identity",
    "outlines identity",
  ],
  criticTerm: "critics",
  usual: [1, 1, 10, 10, 5, 5],
  steps: 1000,
  // Pictures and outlines without pairs: no picture of one domain has its outline in the other.
  draw: (train, random) => {
    const [filled, outlined] = halves(train);
    return { ...paired(filled, random), others: drawn(outlined, BATCH, random).images };
  },
  further: [L1],
};

/** On the second data set: whether balancing and the search compare as on the first. */
const FEW_ARMS = ["adam", "hyperband", "recommended", "one-pair"];

const KINDS: readonly Kind[] = [
  pix2pix("pix2pix", "digits"),
  srgan("srgan", "digits"),
  cyclegan,
  { ...pix2pix("pix2pix-fashion", "fashion"), arms: FEW_ARMS },
  { ...srgan("srgan-fashion", "fashion"), arms: FEW_ARMS },
];

/** The experiments that make pictures. */
export function pictureExperiments(effort: Effort): Experiment[] {
  return KINDS.map((kind) => experimentOf(kind, effort));
}

function experimentOf(kind: Kind, effort: Effort): Experiment {
  const measure = "classifier-FID";
  const show = (value: number) => value.toPrecision(3);
  return {
    key: kind.key,
    measure,
    better: "lower",
    variants: VARIANTS,
    arms: armsFor(BETA1, kind.steps, kind.usual).filter(({ key }) => kind.arms?.includes(key) ?? true),
    rates: ratesAround(RATE),
    furtherRates: FURTHER_RATES,
    version: () => versionOf(["classifier", kind.model], constantsOf(kind, effort)),
    tuningSeeds: TUNING_SEEDS,
    terms: kind.terms,
    seeds: SEEDS,
    steps: kind.steps,
    logarithmic: true,
    show,
    further: kind.further,
    remark: (results) =>
      `Real pictures against other real pictures, the lowest figure to expect: ${show(floorOf(results))}. ` +
      `${factorsOf(kind, results)} ${recoveredOf(results)}`,
    curves: {
      caption: "classifier-FID over the training",
      draw: (results) => curves(results, { measure, show }),
    },
    run: async (arm, task) => train(await subjectOf(kind, effort, isTuning(task)), arm, task),
  };
}

function constantsOf({ data, terms, criticTerm }: Kind, effort: Effort): object {
  return { BATCH, WIDTH, BETA1, CRITIC_RATE, JUDGEMENTS, ...effort, data, terms, criticTerm };
}

function floorOf(results: Results): number {
  const outcomes = [...results.values()].flatMap((rows) => rows.flatMap(({ outcomes }) => outcomes));
  const floors = outcomes.map(({ details }) => details!["floor"] as number);
  // Machines may differ in the last bits.
  if (Math.max(...floors) > (1 + 1e-4) * Math.min(...floors)) {
    throw new Error(
      "The trainings were judged by several classifiers, since a machine trains its own. " +
        "Copy the first one's build/paper, or train all again with --again.",
    );
  }
  return mean(floors);
}

async function subjectOf(kind: Kind, effort: Effort, tuning: boolean): Promise<Subject> {
  const data = await loadData(kind.data);
  const classifier = await trainedClassifier(kind.data, effort.classifierSteps);
  const set = tuning ? data.validation : data.test;
  const [inputs, others] = twoSamples(set, effort.judged, randomFor(1, 1, "judged"));
  let references: References | undefined;
  return {
    key: kind.key,
    open: (seed) => openModel(kind.model, { seed, width: WIDTH, classifier }),
    terms: kind.terms,
    beta1: BETA1,
    judgements: JUDGEMENTS,
    critic: { term: kind.criticTerm, rate: CRITIC_RATE },
    draw: (random) => kind.draw(data.train, random),
    judge: async (model) => judge(model, inputs, (references ??= await referencesOf(model, inputs, others))),
    sampler: () =>
      sampler(
        choose(
          set,
          Array.from({ length: SAMPLES }, (_, k) => k),
        ),
      ),
  };
}

/** By kind of picture: the moments of real pictures, and their distance to other real pictures. */
type References = Map<string, { moments: Moments; floor: number }>;

async function referencesOf(model: TorchModel, inputs: Examples, others: Examples): Promise<References> {
  const features = async ({ images }: Examples) =>
    (await model.call("reference", { images })) as Record<string, Tensor>;
  const [same, real] = [await features(inputs), await features(others)];
  return new Map(
    Object.entries(real).map(([name, tensor]) => {
      const ofReal = momentsOf(tensor);
      return [name, { moments: ofReal, floor: frechetDistance(momentsOf(same[name]!), ofReal) }];
    }),
  );
}

/** Compares pictures made from the inputs with other real pictures: the mean over the kinds of picture. */
async function judge(model: TorchModel, { images }: Examples, references: References): Promise<Judgement> {
  const made = (await model.call("evaluate", { images })) as Evaluated;
  const distances = [...references].map(([name, { moments }]) =>
    frechetDistance(momentsOf(made.features[name]!), moments),
  );
  const floor = mean([...references.values()].map((reference) => reference.floor));
  return { value: mean(distances), details: { ...made.figures, floor } };
}

function momentsOf({ data, shape }: Tensor): Moments {
  return moments(data, shape[1]!);
}

/** Samples at fixed inputs: the rows of the inputs and true pictures first, then those made at each moment. */
function sampler({ images }: Examples): ReturnType<NonNullable<Subject["sampler"]>> {
  const rows: Float32Array[] = [];
  const add = ({ data, shape }: Tensor) => {
    const length = data.length / shape[0]!;
    for (let row = 0; row < shape[0]!; ++row) rows.push(data.slice(row * length, (row + 1) * length));
  };
  return {
    look: async (model) => {
      const { given, made } = (await model.call("samples", { images })) as Record<string, Tensor>;
      if (rows.length === 0) add(given!);
      else add(made!);
    },
    png: () => strip(rows),
  };
}
