import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { format } from "prettier";
import { locked } from "./lock.mjs";
import { fill, plural, readIfThere } from "./text.mjs";
import { dots } from "./plot.mjs";
import { TUNED, isIn, type Arm, type Experiment, type Results } from "./experiment.mjs";
import { results, type Choices, type Extent } from "./runner.mjs";
import type { Store } from "./store.mjs";
import { furtherTable, gallery, records, table } from "./table.mjs";

/** Writes an experiment's plots and its part of README.md in `folder`. */
export async function report(
  experiment: Experiment,
  store: Store,
  choices: Choices,
  extent: Extent,
  folder: string,
): Promise<void> {
  const found = results(experiment, store, choices, extent);
  const svg = experiment.picture?.draw(found) ?? valuesByArm(experiment, found);
  await writeFile(join(folder, `${experiment.key}.svg`), `${svg}\n`);
  if (experiment.curves) {
    await writeFile(join(folder, `${experiment.key}-curves.svg`), `${experiment.curves.draw(found)}\n`);
  }
  await writePart(folder, experiment.key, part(experiment, store, choices, extent, found));
}

/** Writes the part of README.md in `folder` that belongs to `key`; the text around it stays. */
export async function writePart(folder: string, key: string, content: string): Promise<void> {
  const path = join(folder, "README.md");
  await locked(path, async () => {
    const text = (await readIfThere(path)) ?? "# Results\n";
    await writeFile(path, await format(fill(text, key, content), { parser: "markdown", printWidth: 110 }));
  });
}

function valuesByArm({ measure, logarithmic, show }: Experiment, found: Results): string {
  const panels = [...found].map(([variant, rows]) => ({
    title: found.size > 1 ? variant : "",
    rows: rows.map(({ arm, outcomes }) => ({ name: arm.name, values: outcomes.map(({ value }) => value) })),
  }));
  return dots(panels, { label: measure, logarithmic: logarithmic ?? false, show });
}

function part(
  experiment: Experiment,
  store: Store,
  choices: Choices,
  { seeds, steps }: Extent,
  found: Results,
): string {
  const { key, picture, curves } = experiment;
  const which = seeds > 1 ? `mean ± s.d. over ${plural(seeds, "seed")}` : "one training each";
  const heading = ({ measure, better }: Pick<Experiment, "measure" | "better">) =>
    `${measure[0]!.toUpperCase()}${measure.slice(1)}, ${better} is better; ${which}, ${steps.toLocaleString("en")} steps:`;
  const furtherTables = (experiment.further ?? []).flatMap((further) => [
    heading(further),
    furtherTable(experiment, further, found),
  ]);
  const pictures = gallery(experiment, found);
  const balance = records(experiment, found);
  const cost = store.cost === undefined ? "" : `, ${store.cost}`;
  const paragraphs = [
    heading(experiment),
    table(experiment, found),
    ...furtherTables,
    ...(experiment.remark ? [experiment.remark(found)] : []),
    ...chosen(experiment, choices),
    `![${picture?.caption ?? `${experiment.measure} by setting`}](${key}.svg)`,
    ...(curves ? [`![${curves.caption}](${key}-curves.svg)`] : []),
    ...(pictures === undefined ? [] : [pictures]),
    ...(balance === undefined ? [] : [balance]),
    `${store.machine}, ${store.date}${cost}; raw results: [${key}.json](${key}.json).`,
  ];
  return paragraphs.join("\n\n");
}

/** The choices made on the tuning seeds, one sentence for each kind. */
function chosen(
  { arms, variants, grid, rates, furtherRates, tuningSeeds }: Experiment,
  choices: Choices,
): string[] {
  const seeds = plural(tuningSeeds?.length ?? 0, "other seed");
  const byVariant = (arm: Arm, describe: (chosen: Arm) => string) =>
    variants
      .filter((variant) => isIn(arm, variant))
      .map((variant) => {
        const text = describe(choices(arm, variant));
        return variants.length > 1 ? `${variant}: ${text}` : text;
      });
  const lines: string[] = [];
  const tuned = arms.find(({ key }) => key === TUNED.key);
  if (grid && tuned) {
    const weights = byVariant(tuned, ({ exponent }) => grid.describe(exponent!));
    lines.push(`Tuned weights, the best of ${grid.exponents.length} on ${seeds}: ${weights.join("; ")}.`);
  }
  for (const arm of arms) {
    if (!arm.dialOf) continue;
    const weights = byVariant(arm, ({ options }) => (options!.weights as readonly number[]).join(" : "));
    lines.push(`${arm.name}, by \`tuneWeights\` on another seed: ${weights.join("; ")}.`);
  }
  for (const arm of arms) {
    if (!arm.hyperband) continue;
    const weights = byVariant(
      arm,
      ({ fixedWeights, rate }) => `${fixedWeights!.join(" : ")} at a rate of ${rate}`,
    );
    lines.push(`The weights of ${arm.name}, from another seed: ${weights.join("; ")}.`);
  }
  for (const arm of arms) {
    if (!arm.dialOf && !arm.hyperband) continue;
    const costs = byVariant(arm, ({ search }) => {
      const { configurations, trainings } = search!;
      return `${plural(configurations, "configuration")} in the steps of ${trainings.toFixed(1)} trainings`;
    });
    lines.push(`The search of ${arm.name}, beside that of the rate: ${costs.join("; ")}.`);
  }
  if (rates) {
    const each = arms
      .filter(({ hyperband }) => !hyperband)
      .map((arm) => {
        const ofVariants = variants
          .filter((variant) => isIn(arm, variant))
          .map((variant) => choices(arm, variant).rate);
        return `${arm.name}: ${ofVariants.join(", ")}`;
      });
    const order = variants.length > 1 ? ` (${variants.join(", ")})` : "";
    const further = furtherRates ? ` and up to ${furtherRates} further ones` : "";
    lines.push(
      `Learning rates, the best of ${rates.join(", ")}${further} on ${seeds}${order}: ${each.join("; ")}.`,
    );
  }
  return lines;
}
