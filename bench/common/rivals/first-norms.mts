import { addUp } from "../gradient.mjs";
import { norms } from "./products.mjs";
import type { Combiner, Start } from "./rival.mjs";

/** Fixed weights 1/n₀, where n₀ are the norms of the first step. */
export function firstNorms({ shared }: Start): Combiner {
  let weights: readonly number[] | undefined;
  return {
    combine: ({ gradients }, sum) => {
      if (!weights) {
        const first = norms(gradients, shared);
        const most = Math.max(...first);
        weights = first.map((norm) => (norm > 0 ? most / norm : 1));
      }
      addUp(sum, gradients, weights);
    },
  };
}
