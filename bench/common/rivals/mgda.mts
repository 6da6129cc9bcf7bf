import { addUp } from "../gradient.mjs";
import { form, productsOf } from "./products.mjs";
import type { Combiner, Start } from "./rival.mjs";
import { leastOnSimplex } from "./simplex.mjs";

/** MGDA (Désidéri 2012; Sener and Koltun, NeurIPS 2018): the shortest mixture of the terms' gradients. */
export function mgda({ shared }: Start): Combiner {
  return {
    combine: ({ gradients }, sum) => {
      const products = productsOf(gradients, shared);
      const shares = leastOnSimplex(gradients.length, (a) => form(a, products, a));
      addUp(sum, gradients, shares, shared);
    },
  };
}
