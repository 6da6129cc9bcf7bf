// Takes a few steps of the demo on a kind of device, in a separate process, and prints the arms' results as JSON. node
// demo-round.mjs EXAMPLES cpu|executor|cuda

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { openDevice } from "./open-device.mjs";

const [examples, kind] = process.argv.slice(2);
const demo = `${examples}/mnist/`;
const STEPS = 2;

const { Accuracy } = await import(`${demo}accuracy.mjs`);
const { loadMnist } = await import(`${demo}data.mjs`);
const { Model } = await import(`${demo}model.mjs`);
const { trainRound } = await import(`${demo}train.mjs`);

const folder = mkdtempSync(path.join(tmpdir(), "mtadam-demo-"));
const [{ train, test }, model] = await Promise.all([loadMnist(), Model.create()]);
const round = await trainRound(
  {
    train,
    model,
    accuracy: new Accuracy(model, test),
    device: openDevice(kind),
    folder,
    seed: 1,
    epochs: 1,
    steps: STEPS,
    stop: new AbortController().signal,
    onStep: () => undefined,
  },
  1,
);
/** The records of a monitor's file, without the time. */
const records = (file) =>
  readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => ({ ...JSON.parse(line), time: 0 }));
const arms = round.arms.map(({ arm, curve, monitored }) => ({
  arm: arm.name,
  curve,
  records: monitored && records(monitored),
}));
rmSync(folder, { recursive: true });
console.log(JSON.stringify({ steps: round.steps, arms }));
