import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { format } from "prettier";
import { fill, plural, readIfThere } from "../common/text.mjs";
import { dots } from "./plot.mjs";
import type { Experiment, Results } from "./experiment.mjs";
import { chosenExponent, results, type Extent } from "./runner.mjs";
import type { Store } from "./store.mjs";
import { table } from "./table.mjs";

/** Writes an experiment's plot and its part of README.md in `folder`; the text around that part stays. */
export async function report(
  experiment: Experiment,
  store: Store,
  extent: Extent,
  folder: string,
): Promise<void> {
  const found = results(experiment, store, extent);
  const svg = experiment.picture?.draw(found) ?? valuesByArm(experiment, found);
  await writeFile(join(folder, `${experiment.key}.svg`), `${svg}\n`);
  const path = join(folder, "README.md");
  const text = (await readIfThere(path)) ?? "# Balancing\n";
  const filled = fill(text, experiment.key, part(experiment, store, extent, found));
  await writeFile(path, await format(filled, { parser: "markdown", printWidth: 110 }));
}

function valuesByArm({ measure, logarithmic, show }: Experiment, found: Results): string {
  const panels = [...found].map(([variant, rows]) => ({
    title: found.size > 1 ? variant : "",
    rows: rows.map(({ arm, outcomes }) => ({ name: arm.name, values: outcomes.map(({ value }) => value) })),
  }));
  return dots(panels, { label: measure, logarithmic: logarithmic ?? false, show });
}

function part(experiment: Experiment, store: Store, { seeds, steps }: Extent, found: Results): string {
  const { key, measure, better, grid, variants, picture } = experiment;
  const which = seeds > 1 ? `mean ± s.d. over ${plural(seeds, "seed")}` : "one training each";
  const lines = [
    `${measure[0]!.toUpperCase()}${measure.slice(1)}, ${better} is better; ${which}, ${steps.toLocaleString("en")} steps:`,
    "",
    table(experiment, found),
    "",
  ];
  if (grid) {
    const chosen = variants.map((variant) => {
      const weights = grid.describe(chosenExponent(experiment, store, variant, steps));
      return variants.length > 1 ? `${variant}: ${weights}` : weights;
    });
    lines.push(
      `Tuned weights, the best of ${grid.exponents.length} on ${plural(grid.seeds.length, "other seed")}: ${chosen.join("; ")}.`,
      "",
    );
  }
  lines.push(
    `![${picture?.caption ?? `${measure} by setting`}](${key}.svg)`,
    "",
    `${store.machine}, ${store.date}; raw results: [${key}.json](${key}.json).`,
  );
  return lines.join("\n");
}
