import type { Experiment, FurtherMeasure, Results, Row } from "./experiment.mjs";
import { mean, withDeviation } from "./statistics.mjs";

/** A Markdown table of rows; the second has the alignments. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  return rows.map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** A Markdown table: a row per arm, a column per variant; the best mean of each column is bold. */
export function table(
  { arms, variants, better, show }: Pick<Experiment, "arms" | "variants" | "better" | "show">,
  results: Results,
): string {
  const columns = variants.map((variant) => column(results.get(variant)!, better, show));
  const rows = [
    ["", ...variants],
    ["---", ...variants.map(() => "---:")],
    ...arms.map(({ name }, i) => [code(name), ...columns.map((cells) => cells[i]!)]),
  ];
  return markdownTable(rows);
}

/** The same table of a further measure. */
export function furtherTable(experiment: Experiment, further: FurtherMeasure, results: Results): string {
  const values = [...results].map(([variant, rows]) => {
    const ofMeasure = rows.map(({ arm, outcomes }) => ({
      arm,
      outcomes: outcomes.map(({ details }) => ({
        value: (details![further.detail] as number | null) ?? NaN,
      })),
    }));
    return [variant, ofMeasure] as const;
  });
  return table({ ...experiment, ...further }, new Map(values));
}

/** A Markdown table of the pictures, one of each arm and variant; undefined if there are none. */
export function gallery({ arms, variants }: Experiment, results: Results): string | undefined {
  const pictures = arms.map((_, row) =>
    variants.map((variant) => results.get(variant)![row]!.outcomes.find(({ picture }) => picture)?.picture),
  );
  if (!pictures.flat().some(Boolean)) return undefined;
  const rows = [
    ["", ...variants],
    ["---", ...variants.map(() => "---")],
    ...arms.map(({ name }, row) => [
      code(name),
      ...pictures[row]!.map((path, i) => (path ? `![${name}, ${variants[i]!}](${path})` : "–")),
    ]),
  ];
  return markdownTable(rows);
}

/** A paragraph with links to the records of the balance; undefined if there are none. */
export function records({ key }: Pick<Experiment, "key">, results: Results): string | undefined {
  const links = [...results].flatMap(([variant, rows]) =>
    rows.flatMap(({ arm, outcomes }) => {
      const file = outcomes.find((outcome) => outcome.records)?.records;
      return file ? [`[${arm.name}, ${variant}](${file})`] : [];
    }),
  );
  if (links.length === 0) return undefined;
  const command = `npx mtadam report ${key}/*.jsonl -o report.html`;
  return `How the terms were balanced: ${links.join("; ")}. \`${command}\` in this folder makes a page of these records.`;
}

function column(rows: readonly Row[], better: Experiment["better"], show: Experiment["show"]): string[] {
  const values = rows.map(({ outcomes }) => outcomes.map(({ value }) => value));
  const means = values.map((ofRow) => show(mean(ofRow)));
  const finite = values.map(mean).filter(Number.isFinite);
  // Values that look the same in the table count as equally good.
  const best = show(better === "higher" ? Math.max(...finite) : Math.min(...finite));
  return values.map((ofRow, i) => {
    if (ofRow.length === 0) return "–";
    const text = withDeviation(ofRow, show);
    return means[i] === best ? `**${text}**` : text;
  });
}

/** Marks options, written as `name: value`, as code. */
function code(name: string): string {
  return name.replace(/\w+: [^,]+/g, (option) => `\`${option}\``);
}
