import { addUp, type Gradient } from "../gradient.mjs";
import type { Combiner, Start } from "./rival.mjs";

/** The decay of the average of a weight, as in the authors' code. */
const STAYS = 0.9;

/**
 * λ annealing (Wang, Teng and Perdikaris, SIAM J. Sci. Comput. 2021, Algorithm 1): the equation has the weight 1, each other
 * term a moving average of max|∇L₀| / mean|∇Lᵢ|, from 1 on.
 */
export function annealing({ terms }: Start): Combiner {
  const weights = new Array<number>(terms).fill(1);
  return {
    combine: ({ gradients }, sum) => {
      const most = magnitudes(gradients[0]!).most;
      for (let term = 1; term < terms; ++term) {
        const { mean } = magnitudes(gradients[term]!);
        if (mean > 0) weights[term] = STAYS * weights[term]! + (1 - STAYS) * (most / mean);
      }
      addUp(sum, gradients, weights);
    },
  };
}

/** The largest and the mean magnitude of all values of a gradient. */
function magnitudes(gradient: Gradient): { most: number; mean: number } {
  let [most, sum, count] = [0, 0, 0];
  for (const values of gradient) {
    for (const value of values ?? []) {
      most = Math.max(most, Math.abs(value));
      sum += Math.abs(value);
      ++count;
    }
  }
  return { most, mean: sum / count };
}
