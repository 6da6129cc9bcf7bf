/** The median of some values, and the quartiles around it. */
export interface Spread {
  low: number;
  median: number;
  high: number;
}

/** Between two values, what lies proportionally between them. */
export function quantile(values: readonly number[], fraction: number): number {
  if (values.length === 0) throw new RangeError("`values` must not be empty.");
  const sorted = [...values].sort((a, b) => a - b);
  const place = fraction * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (place - below) * (sorted[above]! - sorted[below]!);
}

export function spread(values: readonly number[]): Spread {
  return { low: quantile(values, 0.25), median: quantile(values, 0.5), high: quantile(values, 0.75) };
}

/** Whether two spreads have nothing in common: what the noise of a run does not explain. */
export function areApart(a: Spread, b: Spread): boolean {
  return a.high < b.low || b.high < a.low;
}
