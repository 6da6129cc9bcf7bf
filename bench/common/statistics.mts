export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Standard deviation of a sample (n − 1); undefined for fewer than two values. */
export function deviation(values: readonly number[]): number | undefined {
  if (values.length < 2) return undefined;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}

/** "mean ± s.d."; for a single value, only the mean. */
export function withDeviation(values: readonly number[], show: (value: number) => string): string {
  const spread = deviation(values);
  return show(mean(values)) + (spread === undefined ? "" : ` ± ${show(spread)}`);
}

/** A sum of squares and a sum, for a variance. */
export class Spread {
  readonly #sums: Float64Array;
  #squares = 0;
  #rows = 0;

  constructor(columns: number) {
    this.#sums = new Float64Array(columns);
  }

  add(values: Float64Array): void {
    const columns = this.#sums.length;
    for (let k = 0; k < values.length; ++k) {
      this.#sums[k % columns]! += values[k]!;
      this.#squares += values[k]! ** 2;
    }
    this.#rows += values.length / columns;
  }

  /** The sum of squares about each column's mean. */
  get value(): number {
    return this.#squares - this.#sums.reduce((sum, value) => sum + value ** 2, 0) / this.#rows;
  }
}
