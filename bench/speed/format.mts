import type { Spread } from "./statistics.mjs";

/** Three digits that mean something: "0.0123", "1.50", "1,230". */
export function threeDigits(value: number): string {
  return value.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
}

export function percent(value: number): string {
  return `${(100 * value).toFixed(0)} %`;
}

/** A median with its quartiles. */
export function range({ low, median, high }: Spread, show: (value: number) => string): string {
  const [from, to] = [show(low), show(high)];
  return from === to ? show(median) : `${show(median)} (${from.replace(/ %$/, "")}–${to.replace(/ %$/, "")})`;
}
