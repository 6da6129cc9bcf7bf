import * as jax from "@jax-js/jax";
import { jit, nn, numpy as np } from "@jax-js/jax";
import { MTAdam } from "mtadam";
import { openJax } from "mtadam/jax";
import { parseArguments, wholeNumber } from "../common/command-line.mjs";
import { randomFor } from "../common/random.mjs";
import { BATCH, CLASSES, intensities, loadMnist, PIXELS, type Dataset } from "../mnist/data.mjs";

// One network names the digit of an image and paints the image again, trained by MTAdam: one pass over MNIST, by default.
const values = parseArguments(process.argv.slice(2), { steps: { type: "string" } });
const steps = wholeNumber("steps", values.steps) ?? 937;

await jax.init("wasm");
jax.defaultDevice("wasm");
const { train, test } = await loadMnist();
const batches = Math.floor(train.count / BATCH);
const images = (set: Dataset, first: number, end: number): np.Array =>
  np.array(intensities(set, first, end)).reshape([end - first, PIXELS]);

interface Layer {
  w: np.Array;
  b: np.Array;
}
interface Network {
  hidden: Layer;
  namer: Layer;
  painter: Layer;
}

const layer = (inputs: number, outputs: number, name: string): Layer => {
  const random = randomFor(0, 0, name);
  const limit = 1 / Math.sqrt(inputs);
  const w = Float32Array.from({ length: inputs * outputs }, () => (2 * random() - 1) * limit);
  return { w: np.array(w).reshape([inputs, outputs]), b: np.zeros([outputs]) };
};
const apply = ({ w, b }: Layer, x: np.Array): np.Array => np.matmul(x, w).add(b);
const hidden = (network: Network, x: np.Array): np.Array => nn.relu(apply(network.hidden, x));

// Each loss is a pure function; jax-js consumes what it uses, and `ref` keeps an array for another use.
const model = await openJax(
  jax,
  {
    hidden: layer(PIXELS, 64, "hidden"),
    namer: layer(64, CLASSES, "namer"),
    painter: layer(64, PIXELS, "painter"),
  },
  {
    digits: (network: Network, x: np.Array, labels: np.Array) => {
      const logits = apply(network.namer, hidden(network, x));
      return np.mean(np.sum(nn.logSoftmax(logits, -1).mul(labels), 1)).neg();
    },
    pixels: (network: Network, x: np.Array) => {
      const painted = nn.sigmoid(apply(network.painter, hidden(network, x.ref)));
      // The sum over the pixels: many times as large as the other loss.
      return np.mean(np.sum(np.square(painted.sub(x)), 1));
    },
  },
);
const optimizer = new MTAdam(model.parameters, { terms: model.terms, lr: 2e-3 });

for (let step = 0; step < steps; ++step) {
  const first = (step % batches) * BATCH;
  const x = images(train, first, first + BATCH);
  const labels = nn.oneHot(
    np.array([...train.labels.subarray(first, first + BATCH)], { dtype: np.int32 }),
    CLASSES,
  );
  optimizer.step(await model.gradients(x, labels));
  if (step % 100 === 0) {
    const losses = model.terms.map((term) => `${term} ${model.losses[term]?.toFixed(3)}`);
    console.log(`step ${step}: ${losses.join(", ")}`);
  }
  x.dispose();
  labels.dispose();
}

const guess = jit((network: Network, x: np.Array) => np.argmax(apply(network.namer, hidden(network, x)), 1));
const guesses = (await guess(model.tree, images(test, 0, test.count)).data()) as Int32Array;
const right = test.labels.filter((digit, k) => digit === guesses[k]).length;
console.log(`MTAdam names ${((100 * right) / test.count).toFixed(2)} % of the test digits`);
model.close();
