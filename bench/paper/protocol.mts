import type { Results } from "../common/experiment.mjs";
import { recovered } from "../common/recovered.mjs";
import { GIVEN, TUNING_SEEDS, WRONG } from "./arms.mjs";
import { sourcesOf } from "./python.mjs";
import { weightsOf, type Subject } from "./training.mjs";

/** The arms that may be the end of the way from Adam with wrong weights, and their weights in words. */
const ENDS = { adam: "weights of 1", usual: "the usual weights", hyperband: "Hyperband's weights" };

/** How far the search of the learning rate goes beyond its three rates. */
export const FURTHER_RATES = 3;

/**
 * A text that changes with the sources of models and with constants: those that a training depends on, and nothing that
 * only describes it.
 */
export function versionOf(models: readonly string[], constants: object): string {
  return sourcesOf(...models) + JSON.stringify(constants);
}

/** The factors of the losses with wrong weights, in sentences. */
export function factorsOf(subject: Pick<Subject, "key" | "terms">, results: Results): string {
  const ofSeed = (seed: number) =>
    weightsOf(subject, { variant: WRONG, seed })
      .map((factor) => factor.toPrecision(2))
      .join(" : ");
  const counts = results.get(WRONG)!.map(({ outcomes }) => outcomes.length);
  const list = (seeds: readonly number[]) => seeds.map((seed) => `seed ${seed} ${ofSeed(seed)}`).join("; ");
  const reported = Array.from({ length: Math.max(...counts) }, (_, k) => k + 1);
  return (
    `The wrong weights of ${subject.terms.join(" : ")} are ${list(reported)}. ` +
    `Rates and weights were chosen with ${list(TUNING_SEEDS)}.`
  );
}

/** What each arm recovers of what wrong weights cost Adam, in a sentence. */
export function recoveredOf(results: Results): string {
  const arms = new Set(results.get(GIVEN)!.map(({ arm }) => arm.key));
  const ends = Object.fromEntries(Object.entries(ENDS).filter(([key]) => arms.has(key)));
  return recovered(results, { better: "lower", wrong: WRONG, right: GIVEN, ends });
}
