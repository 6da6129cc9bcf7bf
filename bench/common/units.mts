import type { Random } from "../../examples/common/random.mjs";

/** A factor per term, log-uniform over four decades: arbitrary units. */
export function randomUnits(terms: number, random: Random): number[] {
  return Array.from({ length: terms }, () => 10 ** (4 * random() - 2));
}
