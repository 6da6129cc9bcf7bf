// Takes a few steps of the demo on a kind of device, in a separate process, and prints the arms' results as JSON. node
// demo-round.mjs EXAMPLES cpu|executor|cuda

import { openDevice } from "./open-device.mjs";

const [examples, kind] = process.argv.slice(2);
const demo = `${examples}/mnist/`;
const STEPS = 2;

const { Accuracy } = await import(`${demo}accuracy.mjs`);
const { loadMnist } = await import(`${demo}data.mjs`);
const { Model } = await import(`${demo}model.mjs`);
const { trainRound } = await import(`${demo}train.mjs`);

const [{ train, test }, model] = await Promise.all([loadMnist(), Model.create()]);
const round = await trainRound(
  {
    train,
    model,
    accuracy: new Accuracy(model, test),
    device: openDevice(kind),
    seed: 1,
    epochs: 1,
    steps: STEPS,
    stop: new AbortController().signal,
    onStep: () => undefined,
  },
  1,
);
const arms = round.arms.map(({ arm, curve, history }) => ({ arm: arm.name, curve, norms: history?.norms }));
console.log(JSON.stringify({ steps: round.steps, arms }));
