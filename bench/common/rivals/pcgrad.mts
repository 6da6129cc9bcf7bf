import { shuffled } from "../../../examples/common/random.mjs";
import { addUp, type Gradient } from "../gradient.mjs";
import { product } from "./products.mjs";
import type { Combiner, Start } from "./rival.mjs";

/**
 * PCGrad (Yu, Kumar, Gupta, Levine, Hausman and Finn, NeurIPS 2020): each term's gradient loses its component against
 * every other term's gradient, in random order; the step follows the sum.
 */
export function pcGrad({ shared, random }: Start): Combiner {
  let projected: (Float32Array | null)[][] | undefined;
  return {
    combine: ({ gradients }, sum) => {
      projected ??= gradients.map((ofTerm) => ofTerm.map((values) => values?.slice() ?? null));
      for (const [term, own] of projected.entries()) {
        for (const [parameter, values] of own.entries()) values?.set(gradients[term]![parameter]!);
        for (const other of shuffled(gradients.length, random)) {
          if (other !== term) project(own, gradients[other]!, shared);
        }
      }
      addUp(
        sum,
        projected,
        projected.map(() => 1),
      );
    },
  };
}

/** Removes from `own` its component along `other`, if that component points against `other`. */
function project(own: Gradient, other: Gradient, shared: readonly boolean[]): void {
  const along = product(own, other, shared);
  if (along >= 0) return;
  const factor = along / product(other, other, shared);
  for (const [parameter, isShared] of shared.entries()) {
    const [values, others] = [own[parameter], other[parameter]];
    if (!isShared || !values || !others) continue;
    for (let k = 0; k < values.length; ++k) values[k]! -= factor * others[k]!;
  }
}
