// A few steps of the demo on a kind of device, in a process of its own: prints what its arms have learned, as JSON.
//   node demo-round.mjs cpu|executor|cuda

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const [kind] = process.argv.slice(2);
const demo = "../../build/examples/mnist/";
const STEPS = 2;

function openDevice() {
  if (kind !== "executor") return require("../../dist").openDevice(kind);
  const addon = require("../../build/executor/mtadam.node");
  addon.simt.reset("hide_device_memory=0");
  return require("../../dist/device.js").openCuda(addon, 0);
}

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
    device: openDevice(),
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
