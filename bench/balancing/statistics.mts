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
