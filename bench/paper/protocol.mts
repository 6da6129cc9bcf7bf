import type { Results } from "../common/experiment.mjs";
import { recovered } from "../common/recovered.mjs";
import { GIVEN, WRONG } from "./arms.mjs";
import { sourcesOf } from "./python.mjs";
import { weightsOf, type Subject } from "./training.mjs";

/** How far the search of the learning rate goes beyond its three rates. */
export const FURTHER_RATES = 3;

/** A text that changes with a model's sources and with the constants of its experiment. */
export function versionOf(model: string, constants: object): string {
  return sourcesOf("nets", "classifier", model) + JSON.stringify(constants);
}

/** The factors of the losses with wrong weights, in a sentence. */
export function factorsOf(subject: Pick<Subject, "key" | "terms">, results: Results): string {
  const ofSeed = (seed: number) =>
    weightsOf(subject, { variant: WRONG, seed })
      .map((factor) => factor.toPrecision(2))
      .join(" : ");
  const seeds = results.get(WRONG)!.map(({ outcomes }) => outcomes.length);
  const all = Array.from({ length: Math.max(...seeds) }, (_, k) => `seed ${k + 1} ${ofSeed(k + 1)}`);
  return `The wrong weights of ${subject.terms.join(" : ")} are ${all.join("; ")}.`;
}

/** What each arm recovers of what wrong weights cost Adam, in a sentence. */
export function recoveredOf(results: Results): string {
  return recovered(results, { better: "lower", wrong: WRONG, right: GIVEN, tuned: "hyperband" });
}
