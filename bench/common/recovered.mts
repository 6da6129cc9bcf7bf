import type { Experiment, Results } from "./experiment.mjs";
import { mean } from "./statistics.mjs";

/**
 * How much of the way from Adam with wrong weights to Adam with better ones each arm recovers, in a sentence.
 *
 * @param wrong the variant with wrong weights, in which the arm `adam` is the start of the way
 * @param right the variant without, in which the best of the arms `ends`, keys with words for their weights, is its end
 */
export function recovered(
  results: Results,
  {
    better,
    wrong,
    right,
    ends,
  }: Pick<Experiment, "better"> & { wrong: string; right: string; ends: Readonly<Record<string, string>> },
): string {
  const meanOf = (variant: string, key: string) => {
    const row = results.get(variant)!.find(({ arm }) => arm.key === key)!;
    return mean(row.outcomes.map(({ value }) => value));
  };
  const isBetter = (a: number, b: number) => (better === "lower" ? a < b : a > b);
  const best = Object.keys(ends).reduce((a, b) => (isBetter(meanOf(right, b), meanOf(right, a)) ? b : a));
  const [start, end] = [meanOf(wrong, "adam"), meanOf(right, best)];
  const goal = `Adam with ${ends[best]!}`;
  if (!Number.isFinite(start)) return "Adam with wrong weights diverged.";
  if (!isBetter(end, start)) {
    return `Adam with wrong weights is as good as ${goal}: there is nothing to recover.`;
  }
  const share = (key: string) => Math.round((100 * (start - meanOf(wrong, key))) / (start - end));
  const shares = results
    .get(wrong)!
    .filter(({ arm, outcomes }) => outcomes.length > 0 && arm.key !== "adam")
    .map(({ arm }) => `${arm.name}: ${Number.isFinite(share(arm.key)) ? `${share(arm.key)} %` : "diverged"}`);
  return `Of the way from Adam with wrong weights to ${goal}, each recovers: ${shares.join("; ")}.`;
}
