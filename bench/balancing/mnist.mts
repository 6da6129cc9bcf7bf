import { MTAdam } from "mtadam";
import { Accuracy } from "../../examples/mnist/accuracy.mjs";
import { CLASSES, batches, loadMnist, type Dataset } from "../../examples/mnist/data.mjs";
import { Model, PARAMETERS, initialValues, type Values } from "../../examples/mnist/model.mjs";
import { randomFor } from "../../examples/common/random.mjs";
import { drawWeights } from "../../examples/mnist/train.mjs";
import { narrowed, widen } from "../common/bfloat16.mjs";
import type { Arm, Experiment, Outcome, Task } from "../common/experiment.mjs";

const BETAS = [0.9, 0.99, 0.999] as const;
const ANCHORS = ["first", "max", "mean"] as const;

/** Every anchor with every β₃; the defaults come first. */
const ANCHORS_AND_BETAS: readonly Arm[] = ANCHORS.flatMap((anchor) =>
  BETAS.map((beta3) => {
    const slow = beta3 === 0.9 ? "" : `β₃ = ${beta3}`;
    const other = anchor === "first" ? "" : `anchor: "${anchor}"`;
    return {
      key: `${anchor} ${beta3}`,
      name: [other, slow].filter(Boolean).join(", ") || "MTAdam",
      options: { anchor, betas: [0.9, 0.999, beta3] as const },
    };
  }),
);

const ARMS: readonly Arm[] = [
  { key: "adam", name: "Adam, wrong weights" },
  { key: "equal", name: "Adam, equal weights", exponent: 0 },
  ...ANCHORS_AND_BETAS,
  { key: "step-mean", name: 'stepScale: "mean"', options: { stepScale: "mean" } },
  {
    key: "step-mean 0.999",
    name: 'stepScale: "mean", β₃ = 0.999',
    options: { stepScale: "mean", betas: [0.9, 0.999, 0.999] },
  },
  { key: "balance", name: "balance: 0.5", options: { balance: 0.5 } },
  { key: "recommended", name: 'preset: "recommended"', options: { preset: "recommended" } },
];

/** Steps of an epoch. */
const EPOCH = 938;

interface Materials {
  train: Dataset;
  model: Model;
  accuracy: Accuracy;
}

let loaded: Promise<Materials> | undefined;

async function load(): Promise<Materials> {
  const [{ train, test }, model] = await Promise.all([loadMnist(), Model.create()]);
  return { train, model, accuracy: new Accuracy(model, test) };
}

/** The mean cross-entropy of the training images. */
async function lossOf({ train, model }: Materials, parameters: Values): Promise<number> {
  const ones = new Array<number>(CLASSES).fill(1);
  let sum = 0;
  for (const batch of batches(train, 1, randomFor(1, 1, "order"))) {
    const { losses } = await model.gradientOfSum(parameters, batch, ones);
    sum += batch.size * losses.reduce((total, loss) => total + loss, 0);
  }
  return sum / train.count;
}

/**
 * The demo's experiment (examples/mnist): ten terms, one per digit, with weights of 1 and U(0, 1000). A seed is a round
 * of the demo: the same draws, initial values and batches. After more than an epoch, the loss is among the details.
 */
async function run(arm: Arm, { seed, steps }: Task): Promise<Outcome> {
  const materials = await (loaded ??= load());
  const { train, model, accuracy } = materials;
  const parameters = initialValues(randomFor(1, seed, "parameters"));
  const weights = drawWeights(1, seed).map((weight) => weight ** (arm.exponent ?? 1));
  // The network computes with their values in float32.
  const codes = arm.narrow && parameters.map(narrowed);
  const widenAll = () => codes?.forEach((own, i) => widen(own, parameters[i]!));
  widenAll();
  const optimizer = new MTAdam(
    PARAMETERS.map(({ name, shape }, i) =>
      codes ? { name, shape, data: codes[i]!, dtype: "bfloat16" } : { name, shape, data: parameters[i]! },
    ),
    { ...arm.options, lr: 1e-3, terms: arm.options ? CLASSES : 1 },
  );
  let step = 0;
  const epochs = Math.ceil(steps / EPOCH);
  for (const batch of batches(train, epochs, randomFor(1, seed, "order"))) {
    if (++step > steps) break;
    const { gradients } = arm.options
      ? await model.gradientOfEach(parameters, batch, weights)
      : await model.gradientOfSum(parameters, batch, weights);
    optimizer.step(gradients);
    widenAll();
  }
  optimizer.dispose();
  const { all } = await accuracy.of(parameters);
  return { value: all, ...(epochs > 1 && { details: { loss: await lossOf(materials, parameters) } }) };
}

export const mnist: Experiment = {
  key: "mnist",
  measure: "test accuracy in %",
  better: "higher",
  variants: ["one epoch"],
  arms: ARMS,
  seeds: 5,
  steps: EPOCH,
  show: (value) => (100 * value).toFixed(1),
  run,
};
