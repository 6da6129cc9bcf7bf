import type { Experiment, Results, Row } from "./experiment.mjs";
import { mean, withDeviation } from "./statistics.mjs";

/** A Markdown table: a row per arm, a column per variant; the best mean of each column is bold. */
export function table({ arms, variants, better, show }: Experiment, results: Results): string {
  const columns = variants.map((variant) => column(results.get(variant)!, better, show));
  const rows = [
    ["", ...variants],
    ["---", ...variants.map(() => "---:")],
    ...arms.map(({ name }, i) => [code(name), ...columns.map((cells) => cells[i]!)]),
  ];
  return rows.map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function column(rows: readonly Row[], better: Experiment["better"], show: Experiment["show"]): string[] {
  const values = rows.map(({ outcomes }) => outcomes.map(({ value }) => value));
  const means = values.map((ofRow) => show(mean(ofRow)));
  const finite = values.map(mean).filter(Number.isFinite);
  // Values that look the same in the table count as equally good.
  const best = show(better === "higher" ? Math.max(...finite) : Math.min(...finite));
  return values.map((ofRow, i) => {
    const text = withDeviation(ofRow, show);
    return means[i] === best ? `**${text}**` : text;
  });
}

/** Marks options, written as `name: value`, as code. */
function code(name: string): string {
  return name.replace(/\w+: [^,]+/g, (option) => `\`${option}\``);
}
