import type { Summary } from "./results.mjs";

/** The columns of the table of results, as the console and the report show it. */
export const COLUMNS = ["arm", "accuracy", "s.d.", "gradients", "optimizer"];

/** A summary as text for each of COLUMNS. */
export function cells({ arm, mean, deviation, gradientTime, optimizerTime }: Summary): string[] {
  return [
    arm.name,
    `${percent(mean, 2)} %`,
    deviation === undefined ? "–" : percent(deviation, 2),
    `${gradientTime.toFixed(1)} ms`,
    `${optimizerTime.toFixed(1)} ms`,
  ];
}

/** A share of 1 in percent, without the sign. */
export function percent(share: number, decimals: number): string {
  return (100 * share).toFixed(decimals);
}

/** The table for the console: names to the left, figures to the right. */
export function textTable(summaries: readonly Summary[]): string {
  const rows = [COLUMNS, ...summaries.map(cells)];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  const rule = widths.map((width) => "─".repeat(width)).join("──");
  return [line(rows[0]!), rule, ...rows.slice(1).map(line)].join("\n");
}
