/** A gradient: an array per parameter; null where the term does not reach it. */
export type Gradient = readonly (Float32Array | null)[];

/** Whether several terms reach a parameter, by parameter. */
export function sharedParameters(gradients: readonly Gradient[]): readonly boolean[] {
  return gradients[0]!.map((_, k) => gradients.filter((ofTerm) => ofTerm[k] !== null).length > 1);
}

/**
 * `sum` ← the sum of the terms' gradients, each times its weight.
 *
 * @param shared the parameters that weights apply to; the other gradients are added unweighted. Default: everywhere
 */
export function addUp(
  sum: readonly Float32Array[],
  gradients: readonly Gradient[],
  weights: readonly number[],
  shared?: readonly boolean[],
): void {
  for (const [parameter, into] of sum.entries()) {
    into.fill(0);
    for (const [term, ofTerm] of gradients.entries()) {
      const gradient = ofTerm[parameter];
      if (!gradient) continue;
      const weight = shared?.[parameter] === false ? 1 : weights[term]!;
      for (let k = 0; k < into.length; ++k) into[k]! += weight * gradient[k]!;
    }
  }
}
