import { addUp } from "../gradient.mjs";
import { form, productsOf } from "./products.mjs";
import type { Combiner, Start } from "./rival.mjs";
import { leastOnSimplex } from "./simplex.mjs";

/**
 * CAGrad (Liu, Liu, Jin, Stone and Liu, NeurIPS 2021): of the directions d within c·‖g₀‖ of the mean gradient g₀, the one
 * whose smallest product with a term's gradient is largest. It is g₀ + c·‖g₀‖/‖g_w‖·g_w, where the mixture g_w of the
 * gradients has the least g_w·g₀ + c·‖g₀‖·‖g_w‖.
 */
export function caGrad(c: number): (start: Start) => Combiner {
  return ({ terms, shared }) => ({
    combine: ({ gradients }, sum) => {
      const products = productsOf(gradients, shared);
      const equal = new Array<number>(terms).fill(1 / terms);
      const radius = c * Math.sqrt(form(equal, products, equal));
      const length = (w: readonly number[]) => Math.sqrt(Math.max(0, form(w, products, w)));
      const w = leastOnSimplex(terms, (shares) => form(shares, products, equal) + radius * length(shares));
      const factor = length(w) > 0 ? radius / length(w) : 0;
      addUp(
        sum,
        gradients,
        w.map((share) => 1 / terms + factor * share),
        shared,
      );
    },
  });
}
