import { addUp } from "../gradient.mjs";
import type { Combiner, Start } from "./rival.mjs";
import { ScalarAdam } from "./scalar-adam.mjs";

/**
 * Uncertainty weighting (Kendall, Gal and Cipolla, CVPR 2018): the loss is ½·Σ(exp(−sᵢ)·Lᵢ + sᵢ), and the sᵢ are trained
 * with the parameters, at their learning rate.
 */
export function uncertainty({ terms }: Start): Combiner {
  const s = new Float64Array(terms);
  const adam = new ScalarAdam(terms);
  return {
    combine: ({ gradients, losses, lr }, sum) => {
      const weights = [...s].map((value) => Math.exp(-value) / 2);
      addUp(sum, gradients, weights);
      adam.step(
        s,
        losses.map((loss, term) => 1 / 2 - weights[term]! * loss),
        lr,
      );
    },
  };
}
