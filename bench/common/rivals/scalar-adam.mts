/** Adam for a few numbers, such as the weights that a method learns. */
export class ScalarAdam {
  readonly #m: Float64Array;
  readonly #v: Float64Array;
  #steps = 0;

  constructor(count: number) {
    this.#m = new Float64Array(count);
    this.#v = new Float64Array(count);
  }

  /** Moves `values` against `gradient`. */
  step(values: Float64Array, gradient: readonly number[], lr: number): void {
    ++this.#steps;
    const [beta1, beta2] = [0.9, 0.999];
    for (const [k, g] of gradient.entries()) {
      const m = (this.#m[k] = beta1 * this.#m[k]! + (1 - beta1) * g);
      const v = (this.#v[k] = beta2 * this.#v[k]! + (1 - beta2) * g * g);
      const denominator = Math.sqrt(v / (1 - beta2 ** this.#steps)) + 1e-8;
      values[k]! -= (lr * m) / (1 - beta1 ** this.#steps) / denominator;
    }
  }
}
