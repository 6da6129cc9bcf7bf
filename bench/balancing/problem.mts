import type { LearningRate } from "mtadam";
import { randomFor } from "../../examples/common/random.mjs";
import type { Arm, Experiment, Outcome, Task } from "../common/experiment.mjs";
import type { Gradient } from "../common/gradient.mjs";
import { Trainer } from "../common/trainer.mjs";
import { WRONG, WronglyWeighted, wrongWeights } from "./wrong-weights.mjs";

/** A training problem with several terms. */
export interface Problem {
  /** The parameters, updated in place. */
  readonly parameters: readonly Float32Array[];
  /** The gradients, by term, then by parameter; `backward` writes them. */
  readonly gradients: readonly Gradient[];
  /** Draws the next batch. */
  draw(): void;
  /** The terms' losses on the batch; writes their gradients. */
  backward(): number[];
  /** Adam's fixed weights for an exponent in the experiment's family of weights. */
  weights(exponent: number): readonly number[];
  /** How good the parameters are on test data. */
  outcome(): Outcome;
}

/** The schedules of the learning rate: the variants of an experiment. */
const SCHEDULES = new Map<string, (done: number) => number>([
  ["constant rate", () => 1],
  ["cosine decay", (done) => (1 + Math.cos(Math.PI * done)) / 2],
]);

/** The fields that most experiments share. */
export const USUAL = {
  better: "lower",
  variants: [...SCHEDULES.keys()],
  tuningSeeds: [101, 102],
  logarithmic: true,
  show: (value: number) => value.toPrecision(2),
} as const;

/** `run` of an experiment with the variants of {@link USUAL}, and with wrong weights. */
export function training(make: (seed: number) => Problem | Promise<Problem>): Experiment["run"] {
  return async (arm, task) => {
    const factor = SCHEDULES.get(task.variant) ?? (() => 1);
    const problem = await make(task.seed);
    return train(
      task.variant === WRONG
        ? new WronglyWeighted(problem, wrongWeights(problem.gradients.length, task.seed))
        : problem,
      arm,
      task,
      (iterations) => arm.rate! * factor(iterations / task.steps),
    );
  };
}

/** Trains an arm on a problem and evaluates the result. */
export function train(problem: Problem, arm: Arm, { seed, steps }: Task, lr: number | LearningRate): Outcome {
  const trainer = new Trainer(arm, problem.parameters, problem.gradients, {
    lr,
    weights: arm.exponent === undefined ? problem.gradients.map(() => 1) : problem.weights(arm.exponent),
    random: randomFor(1, seed, "rival"),
  });
  for (let step = 0; step < steps; ++step) {
    problem.draw();
    trainer.step(problem.backward());
    trainer.look(() => problem.backward());
  }
  trainer.dispose();
  return problem.outcome();
}
