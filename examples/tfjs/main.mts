import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import * as layers from "@tensorflow/tfjs-layers";
import { MTAdamOptimizer } from "mtadam/tfjs";
import { parseArguments, wholeNumber } from "../common/command-line.mjs";
import { BATCH, CLASSES, intensities, loadMnist, PIXELS, type Dataset } from "../mnist/data.mjs";

// One network names the digit of an image and paints the image again, trained by MTAdam: one pass over MNIST, by default.
const values = parseArguments(process.argv.slice(2), { steps: { type: "string" } });
const steps = wholeNumber("steps", values.steps) ?? 937;

await tf.setBackend("wasm");
const { train, test } = await loadMnist();
const batches = Math.floor(train.count / BATCH);
const images = (set: Dataset, first: number, end: number) =>
  tf.tensor2d(intensities(set, first, end), [end - first, PIXELS]);

const { dense } = layers.layers;
const weights = (seed: number) => layers.initializers.glorotUniform({ seed });
const input = layers.input({ shape: [PIXELS] });
const hidden = dense({ units: 64, activation: "relu", kernelInitializer: weights(1) }).apply(input);
const namer = layers.model({
  inputs: input,
  outputs: dense({ units: CLASSES, kernelInitializer: weights(2) }).apply(hidden) as layers.SymbolicTensor,
});
const painter = layers.model({
  inputs: input,
  outputs: dense({ units: PIXELS, activation: "sigmoid", kernelInitializer: weights(3) }).apply(
    hidden,
  ) as layers.SymbolicTensor,
});

const optimizer = new MTAdamOptimizer({ terms: ["digits", "pixels"], lr: 2e-3 });
for (let step = 0; step < steps; ++step) {
  const first = (step % batches) * BATCH;
  const x = images(train, first, first + BATCH);
  const digits = tf.tensor1d(Int32Array.from(train.labels.subarray(first, first + BATCH)), "int32");
  const labels = tf.oneHot(digits, CLASSES);
  const losses = optimizer.minimizeTerms(
    {
      digits: () => tf.losses.softmaxCrossEntropy(labels, namer.apply(x) as tf.Tensor2D),
      // The sum over the pixels: many times as large as the other loss.
      pixels: () => tf.mean(tf.sum(tf.squaredDifference(painter.apply(x) as tf.Tensor2D, x), 1)),
    },
    true,
  )!;
  if (step % 100 === 0) {
    const shown = Object.entries(losses).map(([term, loss]) => `${term} ${loss.dataSync()[0]!.toFixed(3)}`);
    console.log(`step ${step}: ${shown.join(", ")}`);
  }
  tf.dispose([x, digits, labels, losses]);
}

const guesses = tf.tidy(() =>
  tf.argMax(namer.predict(images(test, 0, test.count)) as tf.Tensor2D, 1).dataSync(),
);
const right = test.labels.filter((digit, k) => digit === guesses[k]).length;
console.log(`MTAdam names ${((100 * right) / test.count).toFixed(2)} % of the test digits`);
