import { randomFor } from "../../examples/common/random.mjs";
import { only, TUNED, type Experiment } from "../common/experiment.mjs";
import type { Gradient } from "../common/gradient.mjs";
import { recovered } from "../common/recovered.mjs";
import { randomUnits } from "../common/units.mjs";
import type { Problem } from "./problem.mjs";

/** The variant with wrong weights: every term is multiplied by a factor of its own; the learning rate is constant. */
export const WRONG = "wrong weights";

/** The variant that it is compared with. */
const RIGHT = "constant rate";

/** The keys of the arms that are trained with wrong weights. */
const TRAINED = ["adam", "default", "recommended", "lagged", "dial", "tagged", "tagged-dial"];

/** An experiment with a further variant, for some of its arms. */
export function alsoWithWrongWeights(experiment: Experiment): Experiment {
  const { arms, better, variants } = experiment;
  return {
    ...experiment,
    variants: [...variants, WRONG],
    arms: only(variants, arms, TRAINED),
    remark: (results) =>
      "Wrong weights: for each seed every term is multiplied by a factor of its own, log-uniform over four decades. " +
      recovered(results, { better, wrong: WRONG, right: RIGHT, ends: { [TUNED.key]: "tuned weights" } }),
  };
}

/** The wrong weights of a training: a factor per term. */
export function wrongWeights(terms: number, seed: number): readonly number[] {
  return randomUnits(terms, randomFor(1, seed, "wrong weights"));
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
