import type { Summary } from "./results.mjs";

/** The columns of the table of results, as the console shows it. */
export const COLUMNS = ["arm", "accuracy", "s.d.", "gradients", "optimizer"];

/** A summary as text for each of COLUMNS. */
export function cells({ arm, mean, deviation, gradientTime, optimizerTime }: Summary): string[] {
  return [
    arm.name,
    `${percent(mean, 2)} %`,
    deviation === undefined ? "–" : percent(deviation, 2),
    `${gradientTime.toFixed(1)} ms`,
    `${optimizerTime.toFixed(1)} ms`,
  ];
}

/** A share between 0 and 1 in percent, without the sign. */
function percent(share: number, decimals: number): string {
  return (100 * share).toFixed(decimals);
}
