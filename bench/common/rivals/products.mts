import type { Gradient } from "../gradient.mjs";

/** The inner product of two terms' gradients over the parameters that several terms reach. */
export function product(a: Gradient, b: Gradient, shared: readonly boolean[]): number {
  let sum = 0;
  for (const [parameter, isShared] of shared.entries()) {
    const [x, y] = [a[parameter], b[parameter]];
    if (!isShared || !x || !y) continue;
    for (let k = 0; k < x.length; ++k) sum += x[k]! * y[k]!;
  }
  return sum;
}

/** The norm of each term's gradient. */
export function norms(gradients: readonly Gradient[], shared: readonly boolean[]): number[] {
  return gradients.map((gradient) => Math.sqrt(product(gradient, gradient, shared)));
}

/** The inner products of each two terms' gradients. */
export function productsOf(gradients: readonly Gradient[], shared: readonly boolean[]): number[][] {
  return gradients.map((a) => gradients.map((b) => product(a, b, shared)));
}

/** xᵀ·G·y */
export function form(
  x: readonly number[],
  matrix: readonly (readonly number[])[],
  y: readonly number[],
): number {
  return matrix.reduce(
    (sum, row, i) => sum + x[i]! * row.reduce((inner, value, j) => inner + value * y[j]!, 0),
    0,
  );
}
