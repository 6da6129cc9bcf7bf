import { randomFor } from "../common/random.mjs";
import type { Accuracy } from "./accuracy.mjs";
import { ARMS, Trainee } from "./arms.mjs";
import { CLASSES, batches, type Dataset } from "./data.mjs";
import { initialValues, type Model } from "./model.mjs";
import type { ArmResult, NormHistory, RoundResult } from "./results.mjs";
import type { Device } from "./storage.mjs";

/** The settings that all rounds share. */
export interface Experiment {
  train: Dataset;
  model: Model;
  accuracy: Accuracy;
  device: Device;
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
    for (const record of records) await record.after(step);
    experiment.onStep(round, step, trainees);
  }
  const arms: ArmResult[] = [];
  for (const record of records) arms.push(await record.finish(step));
  for (const trainee of trainees) trainee.dispose();
  return step > 0 ? { round, weights, steps: step, plannedSteps: steps, arms } : undefined;
}

/** Records the values that the report shows for one trainee. */
class Recorder {
  readonly #experiment: Experiment;
  readonly #trainee: Trainee;
  readonly #curve: [number, number][] = [];
  readonly #history: NormHistory | undefined;

  constructor(experiment: Experiment, trainee: Trainee, round: number) {
    this.#experiment = experiment;
    this.#trainee = trainee;
    if (trainee.arm.balanced && round === 1) this.#history = { layers: trainee.layers, steps: [], norms: [] };
  }

  async after(step: number): Promise<void> {
    const { steps } = this.#experiment;
    // Accuracy rises fast at first: four more points within the first interval of the twentieth part of a
    // round.
    const interval = Math.max(1, Math.round(steps / 20));
    if (step % interval === 0 || (step < interval && step % Math.ceil(interval / 5) === 0))
      await this.#measure(step);
    // The heat maps have a hundred columns.
    if (this.#history && (step === 1 || step % Math.ceil(steps / 100) === 0)) {
      this.#history.steps.push(step);
      this.#history.norms.push(await this.#trainee.norms());
    }
  }

  async finish(step: number): Promise<ArmResult> {
    if (step > 0 && this.#curve.at(-1)?.[0] !== step) await this.#measure(step);
    const { arm, gradientSeconds, optimizerSeconds } = this.#trainee;
    return { arm, curve: this.#curve, gradientSeconds, optimizerSeconds, history: this.#history };
  }

  async #measure(step: number): Promise<void> {
    this.#curve.push([step, await this.#experiment.accuracy.of(await this.#trainee.values())]);
  }
}
