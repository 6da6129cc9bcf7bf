import { writeFile } from "node:fs/promises";
import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-layers"; // registers the gradients
import { MTAdamOptimizer } from "mtadam/tfjs";
import { parseArguments, wholeNumber } from "../common/command-line.mjs";
import { draws, randomFor } from "../common/random.mjs";
import { strip } from "../common/strip.mjs";
import { loadMnist } from "../mnist/data.mjs";
import { fake, newDiscriminator, newGenerator, real } from "./networks.mjs";
import { outlinesOf, picturesOf } from "./pictures.mjs";
import "./wasm-convolutions.mjs";

// Learns to paint digits from their outlines (pix2pix), without Python: the pictures should be near the true ones, and
// a discriminator should not tell them from true ones. MTAdam balances the two losses of the generator.
const { out, ...values } = parseArguments(process.argv.slice(2), {
  steps: { type: "string" },
  seed: { type: "string" },
  out: { type: "string", default: "build/pix2pix.png" },
});
const steps = wholeNumber("steps", values.steps) ?? 1500;
const seed = wholeNumber("seed", values.seed, 0) ?? 1;

const [WIDTH, BATCH, SAMPLES] = [16, 16, 10] as const;
/** Learning rates, those of bench/paper. */
const [OF_GENERATOR, OF_DISCRIMINATOR] = [6e-4, 2e-4] as const;

await tf.setBackend("wasm");
const { train, test } = await loadMnist();
const random = randomFor(seed, 1, "batches");
const generator = newGenerator(WIDTH, seed);
const discriminator = newDiscriminator(WIDTH, seed);

const optimizer = new MTAdamOptimizer({
  terms: ["adversarial", "pixels"],
  preset: "recommended",
  lr: OF_GENERATOR,
  betas: [0.5, 0.999, 1 - 2 / Math.max(steps, 4)],
});
const ofDiscriminator = tf.train.adam(OF_DISCRIMINATOR, 0.5);

const truth = picturesOf(
  test,
  Array.from({ length: SAMPLES }, (_, k) => k),
);
const given = outlinesOf(truth);
/** Rows of pictures: outlines, true pictures, then those made at each moment. */
const rows = [given.dataSync(), truth.dataSync()] as Float32Array[];

async function look(step: number, losses: Record<string, number>): Promise<void> {
  rows.push(tf.tidy(() => generator.apply(given).dataSync()) as Float32Array);
  await writeFile(out, strip(rows));
  const shown = Object.entries(losses).map(([term, loss]) => `${term} ${loss.toFixed(3)}`);
  console.log(`step ${step}: ${shown.join(", ")}`);
}

for (let step = 1; step <= steps; ++step) {
  const pictures = picturesOf(train, draws(BATCH, train.count, random));
  const outlines = outlinesOf(pictures);
  const losses = optimizer.minimizeTerms(
    {
      adversarial: () => real(discriminator.apply(outlines, generator.apply(outlines))),
      pixels: () => tf.mean(tf.abs(tf.sub(generator.apply(outlines), pictures))),
    },
    true,
    generator.variables,
  )!;
  const made = tf.tidy(() => generator.apply(outlines));
  const judged = ofDiscriminator.minimize(
    () =>
      tf.div<tf.Scalar>(
        tf.add(real(discriminator.apply(outlines, pictures)), fake(discriminator.apply(outlines, made))),
        2,
      ),
    true,
    discriminator.variables,
  )!;
  if (step === 1 || step === steps || step % Math.ceil(steps / 5) === 0) {
    await look(step, {
      adversarial: losses.adversarial!.dataSync()[0]!,
      pixels: losses.pixels!.dataSync()[0]!,
      discriminator: judged.dataSync()[0]!,
    });
  }
  tf.dispose([pictures, outlines, losses, made, judged]);
}

console.log(`Outlines, true pictures and those made, from the first step to the last: ${out}`);
