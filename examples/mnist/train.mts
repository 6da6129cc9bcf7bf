import { join } from "node:path";
import type { BalanceMonitor } from "mtadam";
import { randomFor } from "../common/random.mjs";
import type { Accuracy, Recognised } from "./accuracy.mjs";
import { ARMS, Trainee } from "./arms.mjs";
import { CLASSES, batches, type Dataset } from "./data.mjs";
import { initialValues, type Model } from "./model.mjs";
import type { ArmResult, RoundResult } from "./results.mjs";
import type { Device } from "./storage.mjs";

/** The settings that all rounds share. */
export interface Experiment {
  train: Dataset;
  model: Model;
  accuracy: Accuracy;
  device: Device;
  /** A folder for the monitors' files. */
  folder: string;
  seed: number;
  epochs: number;
  /** Steps of a round. */
  steps: number;
  /** Asks to stop after the current step. */
  stop: AbortSignal;
  /** Called after each step of all arms. */
  onStep: (round: number, step: number, trainees: readonly Trainee[]) => void;
}

/** The weights of a round: 1 for term 0, for the others a uniform draw up to 1000. */
export function drawWeights(seed: number, round: number): number[] {
  const random = randomFor(seed, round, "weights");
  return Array.from({ length: CLASSES }, (_, term) => (term === 0 ? 1 : 1000 * random()));
}

/**
 * Trains all arms from the same initial values, side by side on the same batches, so that a round that is stopped
 * compares them after the same number of steps. Returns undefined if it is stopped before the first step.
 */
export async function trainRound(experiment: Experiment, round: number): Promise<RoundResult | undefined> {
  const { seed, model, device, steps, stop } = experiment;
  const weights = drawWeights(seed, round);
  const initial = initialValues(randomFor(seed, round, "parameters"));
  const trainees = ARMS.map((arm) => new Trainee(arm, model, device, initial, weights));
  const records = trainees.map((trainee) => new Recorder(experiment, trainee, round));
  let step = 0;
  for (const batch of batches(experiment.train, experiment.epochs, randomFor(seed, round, "order"))) {
    // jax-js on WebAssembly never waits for the event loop, so signals arrive only here.
    await new Promise((resume) => setImmediate(resume));
    if (stop.aborted || step === steps) break;
    for (const trainee of trainees) await trainee.step(batch);
    ++step;
    const recognised: Record<string, number> = {};
    for (const record of records) Object.assign(recognised, await record.after(step));
    for (const record of records) record.tell(recognised);
    experiment.onStep(round, step, trainees);
  }
  const arms: ArmResult[] = [];
  const recognised: Record<string, number> = {};
  for (const record of records) Object.assign(recognised, await record.end(step));
  for (const record of records) {
    record.tell(recognised);
    arms.push(await record.finish());
  }
  for (const trainee of trainees) trainee.dispose();
  return step > 0 ? { round, weights, steps: step, plannedSteps: steps, arms } : undefined;
}

/** Records the values that the table and the report show for one trainee. */
class Recorder {
  readonly #experiment: Experiment;
  readonly #trainee: Trainee;
  readonly #curve: [number, number][] = [];
  readonly #monitored: string | undefined;
  readonly #monitor: BalanceMonitor | undefined;

  constructor(experiment: Experiment, trainee: Trainee, round: number) {
    this.#experiment = experiment;
    this.#trainee = trainee;
    if (!trainee.arm.balanced || round > 1) return;
    this.#monitored = join(experiment.folder, `${trainee.arm.name}.jsonl`);
    this.#monitor = trainee.monitor(this.#monitored, Math.ceil(experiment.steps / 100));
  }

  /** Returns the test accuracy for all reports, in steps in which it is measured. */
  async after(step: number): Promise<Record<string, number>> {
    const { steps } = this.#experiment;
    // Accuracy rises fast at first: four more points within the first interval of the twentieth part of a
    // round.
    const interval = Math.max(1, Math.round(steps / 20));
    const isDue = step % interval === 0 || (step < interval && step % Math.ceil(interval / 5) === 0);
    return isDue ? this.#measure(step) : {};
  }

  /** The same after the last step. */
  async end(step: number): Promise<Record<string, number>> {
    return step > 0 && this.#curve.at(-1)?.[0] !== step ? this.#measure(step) : {};
  }

  /** Hands values of all arms to the monitor. */
  tell(values: Record<string, number>): void {
    this.#monitor?.record({ ...values, "cross-entropy/mean of all images": this.#trainee.crossEntropy });
  }

  async finish(): Promise<ArmResult> {
    await this.#monitor?.close();
    const { arm, gradientSeconds, optimizerSeconds } = this.#trainee;
    return { arm, curve: this.#curve, gradientSeconds, optimizerSeconds, monitored: this.#monitored };
  }

  async #measure(step: number): Promise<Record<string, number>> {
    const { all, recall }: Recognised = await this.#experiment.accuracy.of(await this.#trainee.values());
    this.#curve.push([step, all]);
    recall.forEach((share, digit) => this.#monitor?.record({ [`recall/${digit}`]: share }));
    return { [`test accuracy/${this.#trainee.arm.name}`]: all };
  }
}
