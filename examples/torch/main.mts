import { MTAdam } from "mtadam";
import { openTorch } from "mtadam/torch";
import { parseArguments, wholeNumber } from "../common/command-line.mjs";
import { BATCH, loadMnist, PIXELS, type Dataset } from "../mnist/data.mjs";

// A convolutional network in PyTorch (model.py), trained by MTAdam from here: one pass over MNIST, by default.
const { python, ...values } = parseArguments(process.argv.slice(2), {
  python: { type: "string", default: "python3" },
  steps: { type: "string" },
  seed: { type: "string" },
});
const steps = wholeNumber("steps", values.steps) ?? 938;
const seed = wholeNumber("seed", values.seed, 0) ?? 0;

const { train, test } = await loadMnist();
const images = ({ pixels }: Dataset, first: number, end: number) => {
  const data = pixels.subarray(first * PIXELS, end * PIXELS);
  return { data, shape: [data.length / PIXELS, 1, 28, 28] };
};

// This program is compiled to build/examples/torch.
const file = new URL("../../../examples/torch/model.py", import.meta.url);
const model = await openTorch(file, { python, args: { seed } });
const optimizer = new MTAdam(model.parameters, { terms: model.terms, lr: 4e-3 });

for (let step = 0; step < steps; ++step) {
  const first = (step * BATCH) % train.count;
  const gradients = await model.gradients({
    images: images(train, first, first + BATCH),
    digits: train.labels.subarray(first, first + BATCH),
  });
  optimizer.step(gradients);
  if (step % 100 === 0) {
    const losses = model.terms.map((term) => `${term} ${model.losses[term]?.toFixed(3)}`);
    console.log(`step ${step}: ${losses.join(", ")}`);
  }
}

const accuracy = Number(await model.call("accuracy", [images(test, 0, test.count), test.labels]));
console.log(`MTAdam names ${(100 * accuracy).toFixed(2)} % of the test digits`);
await model.close();
