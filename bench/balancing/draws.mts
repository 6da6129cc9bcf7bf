import type { Random } from "../../examples/common/random.mjs";

/** A draw from the normal distribution of mean 0 and standard deviation 1 (Box and Muller). */
export function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
