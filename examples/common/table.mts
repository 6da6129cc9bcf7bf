/** A table for the console, the first row its head: names to the left, figures to the right. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  const rule = widths.map((width) => "─".repeat(width)).join("──");
  return [line(head), rule, ...body.map(line)].join("\n");
}
