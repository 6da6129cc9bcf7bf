import type { Arm, Task } from "../common/experiment.mjs";
import { RIVALS } from "../common/rivals/arms.mjs";

/** The variants: all losses as they are, or each times a factor that is drawn anew for every seed. */
export const GIVEN = "weights of 1";
export const VARIANTS: readonly string[] = [GIVEN, "wrong weights"];

/** Trainings on these seeds are judged on validation images, and decide between rates and weights. */
export const TUNING_SEEDS: readonly number[] = [101];

export function isTuning({ seed }: Task): boolean {
  return TUNING_SEEDS.includes(seed);
}

/** Methods that need the terms' losses besides their gradients. */
const BY_LOSSES = ["gradnorm", "famo", "uncertainty"];

/** The arms of every experiment, for its β₁. */
export function armsFor(beta1: number): readonly Arm[] {
  const recommended: Arm = {
    key: "recommended",
    name: "MTAdam, recommended",
    options: { preset: "recommended", betas: [beta1, 0.999, 0.999] },
  };
  return [
    { key: "adam", name: "Adam" },
    { key: "hyperband", name: "Adam, by Hyperband", hyperband: true, variants: [GIVEN] },
    { key: "default", name: "MTAdam", options: { betas: [beta1, 0.999, 0.9] } },
    recommended,
    {
      key: "one-pair",
      name: "… with one pair of moments",
      options: { ...recommended.options, firstMoment: "summed", secondMoment: "summed" },
    },
    { key: "dial", name: "… with found weights", dialOf: recommended, variants: [GIVEN] },
    ...RIVALS.filter(({ key }) => !BY_LOSSES.includes(key)),
  ];
}
