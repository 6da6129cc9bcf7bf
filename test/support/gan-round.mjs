// Runs short trainings of the GAN example on a kind of device, in a separate process, and prints the results as JSON.
// node gan-round.mjs EXAMPLES cpu|executor|cuda FOLDER

import { createHash } from "node:crypto";
import { openDevice } from "./open-device.mjs";

const [examples, kind, folder] = process.argv.slice(2);
const { ARMS, BATCH, DISCRIMINATOR, FEATURES, GENERATOR, Gan, NOISE } = await import(
  `${examples}/gan/gan.mjs`
);
const { Checkpoints } = await import(`${examples}/gan/checkpoints.mjs`);
const { featureDistance, surpriseThatFake, surpriseThatReal } = await import(`${examples}/gan/losses.mjs`);
const { ringPoints } = await import(`${examples}/gan/ring.mjs`);
const { normals, randomFor } = await import(`${examples}/common/random.mjs`);

const SEED = 3;
const STEPS = 6;
const device = openDevice(kind);
const start = (arm) => new Gan({ device, arm, seed: SEED });

async function steps(gan, count) {
  for (let step = 0; step < count; ++step) await gan.step();
  return gan;
}

/** Parameters and the whole state of a side. */
async function digestOf({ optimizer, values }, player) {
  const hash = createHash("sha256");
  const { metadata, ...tensors } = await optimizer.stateDict();
  for (const array of [...(await values.call(player)), ...Object.values(tensors)]) {
    hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  }
  return hash.update(JSON.stringify({ ...metadata, options: null })).digest("hex");
}
const digest = (player) => digestOf(player, player);
const digests = async (gan) => [await digest(gan.generator), await digest(gan.discriminator)];

/** Takes half the steps and saves a checkpoint; another GAN takes the other half from it. */
async function resumed(arm) {
  const checkpoints = new Checkpoints(`${folder}/${arm.key}`);
  const first = await steps(start(arm), 1);
  await checkpoints.save(first.steps, (to) => first.save(to));
  await steps(first, STEPS / 2 - 1);
  await checkpoints.save(first.steps, (to) => first.save(to));
  const second = start(arm);
  await second.load(await checkpoints.latest());
  return steps(second, STEPS - second.steps);
}

/** The effect of one side's step on the state of both. */
async function disturbs(gan, mover) {
  const before = await digests(gan);
  const gradients = mover.network.initialValues(randomFor(SEED, 1, "gradients"));
  await mover.step(Object.fromEntries(mover.optimizer.terms.map((term) => [term, () => gradients])));
  const after = await digests(gan);
  return after.map((value, side) => value !== before[side]);
}

/** The gradient that each term of a side gets in the next step. */
async function gradientsOf(gan) {
  const caught = {};
  for (const player of [gan.generator, gan.discriminator]) {
    player.step = async (terms) => {
      caught[player.name] = Object.fromEntries(Object.entries(terms).map(([term, pass]) => [term, pass()]));
    };
  }
  await gan.step();
  return caught;
}

/**
 * Along its gradient, a loss rises by the gradient's squared norm. Returns the relative error of that, by central
 * differences.
 */
async function slopeErrors() {
  const gan = await steps(start(ARMS[0]), 3);
  const [values, critic] = [await gan.generator.values(), await gan.discriminator.values()];
  const random = randomFor(SEED, gan.steps, "batch");
  const points = ringPoints(BATCH, random);
  const [noise, otherNoise] = [normals(BATCH * NOISE, random), normals(BATCH * NOISE, random)];
  const judge = (parameters, inputs) => DISCRIMINATOR.forward(parameters, inputs);
  const make = (parameters, inputs) => GENERATOR.forward(parameters, inputs).at(-1);
  const hidden = GENERATOR.sizes.at(-2);
  // The penalty's gradient holds between the kinks, on the point's side of each.
  const judged = judge(critic, points);
  const features = judged[FEATURES];
  const losses = {
    discriminator: {
      real: (theta) => surpriseThatReal(judge(theta, points).at(-1)).loss,
      made: (theta) => surpriseThatFake(judge(theta, make(values, noise)).at(-1)).loss,
      penalty: (theta) => DISCRIMINATOR.slopePenalty(theta, judged).loss,
    },
    generator: {
      adversarial: (theta) => surpriseThatReal(judge(critic, make(theta, otherNoise)).at(-1)).loss,
      matching: (theta) =>
        featureDistance(features, judge(critic, make(theta, otherNoise))[FEATURES], hidden).loss,
    },
  };
  const gradients = await gradientsOf(gan);
  return Object.entries(losses).flatMap(([side, terms]) =>
    Object.entries(terms).map(([term, loss]) => {
      const gradient = gradients[side][term];
      const square = gradient
        .flatMap((part) => [...(part ?? [])])
        .reduce((sum, slope) => sum + slope * slope, 0);
      const step = 2e-3 / Math.sqrt(square);
      const theta = side === "generator" ? values : critic;
      const at = (way) =>
        loss(theta.map((part, k) => part.map((value, j) => value + way * (gradient[k]?.[j] ?? 0))));
      return [`${side}.${term}`, (at(step) - at(-step)) / (2 * step) / square - 1];
    }),
  );
}

const arms = {};
for (const arm of ARMS) {
  const gan = await steps(start(arm), STEPS);
  arms[arm.key] = { through: await digests(gan), resumed: await digests(await resumed(arm)) };
}
const adam = ARMS.find(({ key }) => key === "adam");
const undone = { ...adam, weight: adam.weight / 2, units: { matching: 2, penalty: 2 } };
const gan = await steps(start(ARMS[0]), 1);
console.log(
  JSON.stringify({
    arms,
    weighted: await digests(await steps(start(undone), STEPS)),
    byGenerator: await disturbs(gan, gan.generator),
    byDiscriminator: await disturbs(gan, gan.discriminator),
    biasesOfPenalty: (await gradientsOf(start(ARMS[0]))).discriminator.penalty.filter((part) => part === null)
      .length,
    slopeErrors: Object.fromEntries(await slopeErrors()),
  }),
);
