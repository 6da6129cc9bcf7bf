import { isIn, TUNED, type Arm, type Experiment, type Results } from "../common/experiment.mjs";
import type { Gradient } from "../common/gradient.mjs";
import type { Problem } from "./problem.mjs";
import { mean } from "../common/statistics.mjs";

/** The variant with wrong weights: every term is multiplied by a factor of its own; the learning rate is constant. */
export const WRONG = "wrong weights";

/** The variant that it is compared with. */
const RIGHT = "constant rate";

/** The keys of the arms that are trained with wrong weights. */
const TRAINED = ["adam", "default", "recommended", "lagged", "dial", "tagged", "tagged-dial"];

/** An experiment with a further variant, for some of its arms. */
export function alsoWithWrongWeights(experiment: Experiment): Experiment {
  const { arms, variants } = experiment;
  return {
    ...experiment,
    variants: [...variants, WRONG],
    arms: arms.map((arm) => (TRAINED.includes(arm.key) ? arm : { ...arm, variants })),
    remark: recovered,
  };
}

/** A problem whose terms are multiplied by constant factors. */
export class WronglyWeighted implements Problem {
  readonly #problem: Problem;
  readonly #factors: readonly number[];

  constructor(problem: Problem, factors: readonly number[]) {
    this.#problem = problem;
    this.#factors = factors;
  }

  get parameters(): readonly Float32Array[] {
    return this.#problem.parameters;
  }

  get gradients(): readonly Gradient[] {
    return this.#problem.gradients;
  }

  draw(): void {
    this.#problem.draw();
  }

  backward(): number[] {
    const losses = this.#problem.backward();
    for (const [term, gradient] of this.gradients.entries())
      for (const values of gradient)
        values?.forEach((value, k) => (values[k] = this.#factors[term]! * value));
    return losses.map((loss, term) => this.#factors[term]! * loss);
  }

  weights(exponent: number): readonly number[] {
    return this.#problem.weights(exponent).map((weight, term) => weight / this.#factors[term]!);
  }

  outcome() {
    return this.#problem.outcome();
  }
}

/** How much of the way from Adam with wrong weights to Adam with tuned weights each arm recovers, in a sentence. */
function recovered(results: Results): string {
  const average = (variant: string, key: string) =>
    mean(
      results
        .get(variant)!
        .find(({ arm }) => arm.key === key)!
        .outcomes.map(({ value }) => value),
    );
  const [wrong, tuned] = [average(WRONG, "adam"), average(RIGHT, TUNED.key)];
  const share = ({ key }: Arm) => Math.round((100 * (wrong - average(WRONG, key))) / (wrong - tuned));
  const shares = results
    .get(WRONG)!
    .filter(({ arm }) => isIn(arm, WRONG) && arm.key !== "adam")
    .map(({ arm }) => `${arm.name}: ${share(arm)} %`);
  return (
    "Wrong weights: for each seed every term is multiplied by a factor of its own, log-uniform over four decades. Of the way " +
    `from Adam on these terms to Adam with tuned weights at a constant rate, each recovers: ${shares.join("; ")}.`
  );
}
