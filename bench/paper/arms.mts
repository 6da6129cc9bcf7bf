import { only, type Arm, type Task } from "../common/experiment.mjs";
import { RIVALS } from "../common/rivals/arms.mjs";

/** The variants: all losses as they are, or each times a factor that is drawn anew for every seed. */
export const GIVEN = "weights of 1";
export const WRONG = "wrong weights";
export const VARIANTS: readonly string[] = [GIVEN, WRONG];

/** Trainings on these seeds are judged on validation images, and decide between rates and weights. */
export const TUNING_SEEDS: readonly number[] = [101, 102];

export function isTuning({ seed }: Task): boolean {
  return TUNING_SEEDS.includes(seed);
}

/** The arms that are also trained with wrong weights. */
const ALSO_WRONG = ["adam", "default", "recommended", "one-pair", "dial", "first-norms"];

/** A method that computes the losses again after each step. */
const LOOKS_TWICE = "famo";

/**
 * The arms of every experiment, for its β₁ and the length of its trainings.
 *
 * @param usual the weights that the authors of the experiment's method use
 */
export function armsFor(beta1: number, steps: number, usual?: readonly number[]): readonly Arm[] {
  const recommended: Arm = {
    key: "recommended",
    name: "MTAdam, recommended",
    // β₃ as the guide gives it for the number of steps.
    options: { preset: "recommended", betas: [beta1, 0.999, 1 - 2 / steps] },
    monitored: true,
  };
  const arms: readonly Arm[] = [
    { key: "adam", name: "Adam" },
    ...(usual ? [{ key: "usual", name: "Adam, usual weights", fixedWeights: usual }] : []),
    { key: "hyperband", name: "Adam, by Hyperband", hyperband: true },
    { key: "default", name: "MTAdam", options: { betas: [beta1, 0.999, 0.9] } },
    recommended,
    {
      key: "one-pair",
      name: "… with one pair of moments",
      options: { ...recommended.options, firstMoment: "summed", secondMoment: "summed" },
    },
    { key: "dial", name: "… with found weights", dialOf: recommended },
    ...RIVALS.filter(({ key }) => key !== LOOKS_TWICE),
  ];
  return only([GIVEN], arms, ALSO_WRONG);
}
