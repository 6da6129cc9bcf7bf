import { MTAdam } from "mtadam";
import type { PythonValue, TorchModel } from "mtadam/torch";
import { randomFor, type Random } from "../../examples/common/random.mjs";
import type { Arm, Finished, Task } from "../common/experiment.mjs";
import { Trainer } from "../common/trainer.mjs";
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
  open(seed: number): Promise<TorchModel>;
  /** The terms that are balanced. */
  terms: readonly string[];
  /** Adam's β₁. */
  beta1: number;
  /** The network that learns against the balanced terms; `rate` is its fixed learning rate, with Adam. */
  critic?: { term: string; rate: number };
  draw(random: Random): Batch;
  /** @param isLast whether the training is finished; otherwise the judgement may use fewer images */
  judge(model: TorchModel, isLast: boolean): Promise<Judgement>;
  /** Makes a picture of samples, called before the first step and at the end of each quarter. */
  sampler?(): { look(model: TorchModel): Promise<void>; png(): Uint8Array };
}

const MOMENTS = 4;

/** Trains an arm. Reported trainings also keep the value after each quarter; that of seed 1 keeps samples. */
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
  const weights = [...weightsOf(task, terms.length)];
  const opponent = critic && new Opponent(model, critic);
  const random = randomFor(1, task.seed, "batches");
  const sampler = task.seed === 1 ? subject.sampler?.() : undefined;
  const curve: number[] = [];
  let trainer: Trainer | undefined;
  let judgement: Judgement | undefined;
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
      },
    );
    trainer.step(terms.map((term) => model.losses[term]!));
    await opponent?.step(batch);
    const isLast = step === task.steps;
    if (isLast || (!isTuning(task) && isEndOfQuarter(step, task.steps))) {
      judgement = await subject.judge(model, isLast);
      curve.push(judgement.value);
      await sampler?.look(model);
    }
  }
  trainer!.dispose();
  opponent?.dispose();
  const { value, details } = judgement!;
  const png = sampler?.png();
  return { value, details: { ...details, curve }, ...(png && { png }) };
}

function isEndOfQuarter(step: number, steps: number): boolean {
  return Math.floor((step * MOMENTS) / steps) > Math.floor(((step - 1) * MOMENTS) / steps);
}

/** The factors of the losses: 1, or drawn log-uniformly from 1/100 to 100. */
export function weightsOf({ variant, seed }: Task, terms: number): readonly number[] {
  const random = randomFor(1, seed, "wrong weights");
  return Array.from({ length: terms }, () => (variant === GIVEN ? 1 : 10 ** (4 * random() - 2)));
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
