import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BalanceMonitor, MTAdam } from "mtadam";
import type { PythonValue, TorchModel } from "mtadam/torch";
import { randomFor, type Random } from "../../examples/common/random.mjs";
import type { Arm, Finished, Task } from "../common/experiment.mjs";
import { Trainer } from "../common/trainer.mjs";
import { randomUnits } from "../common/units.mjs";
import { mean } from "../common/statistics.mjs";
import { GIVEN, isTuning } from "./arms.mjs";

/** Batches of training data by keyword; further keywords say which losses are needed. */
type Batch = Record<string, PythonValue>;

/** What a training judges a model by. */
export interface Judgement {
  value: number;
  details?: Record<string, number>;
}

/** A model that arms train. */
export interface Subject {
  /** The experiment's key. */
  key: string;
  open(seed: number): Promise<TorchModel>;
  /** The terms that are balanced. */
  terms: readonly string[];
  /** Adam's β₁. */
  beta1: number;
  /** The network that learns against the balanced terms; `rate` is its fixed learning rate, with Adam. */
  critic?: { term: string; rate: number };
  draw(random: Random): Batch;
  /** At how many moments of the end the model is judged; the result is the mean. */
  judgements: number;
  /** @param isLast whether the training is finished; otherwise the judgement may use fewer images */
  judge(model: TorchModel, isLast: boolean): Promise<Judgement>;
  /** Makes a picture of samples, called before the first step and at the end of each quarter. */
  sampler?(): { look(model: TorchModel): Promise<void>; png(): Uint8Array };
}

const QUARTERS = 4;

/** What part of the training passes between two judgements at its end. */
const APART = 1 / 25;

/** Records of a training that is monitored. */
const RECORDS = 60;

/**
 * Trains an arm. Reported trainings also keep the value after each of the first quarters, and the result; that of
 * seed 1 keeps samples, and the records of an arm that is monitored.
 */
export async function train(subject: Subject, arm: Arm, task: Task): Promise<Finished> {
  const model = await subject.open(task.seed);
  try {
    return await trainModel(model, subject, arm, task);
  } finally {
    await model.close();
  }
}

async function trainModel(model: TorchModel, subject: Subject, arm: Arm, task: Task): Promise<Finished> {
  const { terms, critic } = subject;
  const parameters = model.parameters.filter(({ name }) => !critic || name.startsWith("generator"));
  const names = parameters.map(({ name }) => name);
  const weights = [...weightsOf(subject, task)];
  const opponent = critic && new Opponent(model, critic);
  const random = randomFor(1, task.seed, "batches");
  const sampler = task.seed === 1 ? subject.sampler?.() : undefined;
  const curve: number[] = [];
  const judgements: Judgement[] = [];
  const last = lastMoments(task.steps, subject.judgements);
  let trainer: Trainer | undefined;
  using records = arm.monitored && task.seed === 1 ? new Records(task.steps) : null;
  await sampler?.look(model);
  for (let step = 1; step <= task.steps; ++step) {
    const batch = subject.draw(random);
    const found = await model.gradients(
      { ...batch, part: "generator", weights },
      { terms, parameters: names },
    );
    // The arrays are the same in every step.
    trainer ??= new Trainer(
      arm,
      parameters.map(({ data }) => data),
      terms.map((term) => names.map((name) => found[term]![name]!)),
      {
        lr: arm.rate!,
        weights: arm.fixedWeights ?? terms.map(() => 1),
        betas: [subject.beta1, 0.999],
        random: randomFor(1, task.seed, "rival"),
        names: { terms, parameters: names },
      },
    );
    records?.add(trainer.balanced!, model.losses);
    trainer.step(terms.map((term) => model.losses[term]!));
    await opponent?.step(batch);
    const ofCurve = !isTuning(task) && isEndOfQuarter(step, task.steps);
    const counts = last.includes(step);
    if (!ofCurve && !counts) continue;
    const isLast = step === task.steps;
    const judgement = await subject.judge(model, isLast);
    if (counts) judgements.push(judgement);
    if (!ofCurve) continue;
    if (!isLast) curve.push(judgement.value);
    await sampler?.look(model);
  }
  const jsonl = await records?.close();
  trainer!.dispose();
  opponent?.dispose();
  const { value, details } = meanOf(judgements);
  curve.push(value);
  const png = sampler?.png();
  return { value, details: { ...details, curve }, ...(png && { png }), ...(jsonl && { jsonl }) };
}

/** What `BalanceMonitor` records of a training, in a file that goes away. */
class Records {
  readonly #folder = mkdtempSync(join(tmpdir(), "mtadam-paper-"));
  readonly #file = join(this.#folder, "records.jsonl");
  readonly #every: number;
  #monitor: BalanceMonitor | undefined;

  constructor(steps: number) {
    this.#every = Math.ceil(steps / RECORDS);
  }

  /** @param losses before the step that follows */
  add(optimizer: MTAdam, losses: TorchModel["losses"]): void {
    this.#monitor ??= new BalanceMonitor(optimizer, { file: this.#file, every: this.#every });
    this.#monitor.record(losses);
  }

  /** Returns the lines of the file. */
  async close(): Promise<Uint8Array> {
    await this.#monitor!.close();
    return readFile(this.#file);
  }

  /** Also after a training that has thrown. */
  [Symbol.dispose](): void {
    // The file is closed later; its errors do not matter any more.
    void this.#monitor?.close().catch(() => undefined);
    rmSync(this.#folder, { recursive: true });
  }
}

function isEndOfQuarter(step: number, steps: number): boolean {
  return Math.floor((step * QUARTERS) / steps) > Math.floor(((step - 1) * QUARTERS) / steps);
}

/** The steps after which a training is judged for its result; the last one is among them. */
export function lastMoments(steps: number, count: number): number[] {
  return Array.from({ length: count }, (_, k) => steps - Math.round(k * APART * steps)).filter(
    (step, k, all) => step > 0 && step !== all[k - 1],
  );
}

function meanOf(judgements: readonly Judgement[]): Judgement {
  const keys = Object.keys(judgements[0]!.details ?? {});
  const meanOfDetail = (key: string) => mean(judgements.map(({ details }) => details![key]!));
  return {
    value: mean(judgements.map(({ value }) => value)),
    details: Object.fromEntries(keys.map((key) => [key, meanOfDetail(key)])),
  };
}

/**
 * The factors of the losses: 1, or drawn log-uniformly from 1/100 to 100. Each even seed has the reciprocals of the
 * seed before it, so that no loss is mostly enlarged or mostly made smaller.
 */
export function weightsOf(
  { key, terms }: Pick<Subject, "key" | "terms">,
  { variant, seed }: Pick<Task, "variant" | "seed">,
): readonly number[] {
  if (variant === GIVEN) return terms.map(() => 1);
  const odd = seed - ((seed + 1) % 2);
  const factors = randomUnits(terms.length, randomFor(1, odd, `wrong weights of ${key}`));
  return factors.map((factor) => (seed === odd ? factor : 1 / factor));
}

/** The critic, which Adam trains in the same way for all arms. */
class Opponent {
  readonly #model: TorchModel;
  readonly #term: string;
  readonly #names: string[];
  readonly #optimizer: MTAdam;

  constructor(model: TorchModel, { term, rate }: { term: string; rate: number }) {
    const parameters = model.parameters.filter(({ name }) => name.startsWith("critic"));
    this.#model = model;
    this.#term = term;
    this.#names = parameters.map(({ name }) => name);
    this.#optimizer = new MTAdam(parameters, { terms: [term], lr: rate, betas: [0.5, 0.999, 0.9] });
  }

  async step(batch: Batch): Promise<void> {
    const chosen = { terms: [this.#term], parameters: this.#names };
    this.#optimizer.step(await this.#model.gradients({ ...batch, part: "critic" }, chosen));
  }

  dispose(): void {
    this.#optimizer.dispose();
  }
}
