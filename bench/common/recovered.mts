import type { Experiment, Results } from "./experiment.mjs";
import { mean } from "./statistics.mjs";

/**
 * How much of the way from Adam with wrong weights to Adam with tuned weights each arm recovers, in a sentence.
 *
 * @param wrong the variant with wrong weights, in which the arm `adam` is the start of the way
 * @param right the variant without, in which the arm `tuned` is its end
 */
export function recovered(
  results: Results,
  {
    better,
    wrong,
    right,
    tuned,
  }: Pick<Experiment, "better"> & { wrong: string; right: string; tuned: string },
): string {
  const meanOf = (variant: string, key: string) => {
    const row = results.get(variant)!.find(({ arm }) => arm.key === key)!;
    return mean(row.outcomes.map(({ value }) => value));
  };
  const [start, end] = [meanOf(wrong, "adam"), meanOf(right, tuned)];
  if (!Number.isFinite(start)) return "Adam with wrong weights diverged.";
  if (better === "lower" ? start <= end : start >= end) {
    return "Adam with wrong weights is as good as Adam with tuned weights: there is nothing to recover.";
  }
  const share = (key: string) => Math.round((100 * (start - meanOf(wrong, key))) / (start - end));
  const shares = results
    .get(wrong)!
    .filter(({ arm, outcomes }) => outcomes.length > 0 && arm.key !== "adam")
    .map(({ arm }) => `${arm.name}: ${Number.isFinite(share(arm.key)) ? `${share(arm.key)} %` : "diverged"}`);
  return `Of the way from Adam with wrong weights to Adam with tuned weights, each recovers: ${shares.join("; ")}.`;
}
