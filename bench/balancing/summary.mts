import { TUNED, type Experiment, type Results } from "../common/experiment.mjs";
import { writePart } from "../common/report.mjs";
import { results, run } from "../common/runner.mjs";
import { mean } from "../common/statistics.mjs";
import { Store } from "../common/store.mjs";
import { markdownTable } from "../common/table.mjs";
import { plural } from "../common/text.mjs";
import { WRONG } from "./wrong-weights.mjs";

/** One column of a table: each arm's error as a multiple of that of Adam with tuned weights, by the arm's key. */
export interface Column {
  name: string;
  /** Whether the problem has the methods that MTAdam is compared with. */
  hasRivals: boolean;
  ratios: ReadonlyMap<string, number>;
}

/**
 * Writes a table over all problems with an error and with learning rates to search; names those that lack trainings.
 */
export async function summarize(experiments: readonly Experiment[], folder: string): Promise<void> {
  const searched = experiments.filter(({ better, rates }) => better === "lower" && rates);
  const columns: Column[] = [];
  const missing: string[] = [];
  for (const experiment of searched) {
    const store = await Store.open(folder, experiment);
    const choices = await run(experiment, store, experiment, NOTHING_NEW);
    if (choices) columns.push(...columnsOf(experiment, results(experiment, store, choices, experiment)));
    else missing.push(experiment.key);
  }
  if (columns.length === 0) return;
  const names = new Map<string, Set<string>>();
  for (const { key, name } of searched.flatMap(({ arms }) => arms))
    names.set(key, (names.get(key) ?? new Set()).add(name));
  const gaps = missing.length > 0 ? [`Without ${missing.join(", ")}, whose trainings are not complete.`] : [];
  await writePart(folder, "summary", [summaryOf(columns, names), ...gaps].join("\n\n"));
}

const NOTHING_NEW = { again: false, deadline: -Infinity, log: () => undefined };

/** The columns of an experiment, without that of wrong weights. */
export function columnsOf({ key, arms }: Pick<Experiment, "key" | "arms">, found: Results): Column[] {
  return [...found]
    .filter(([variant]) => variant !== WRONG)
    .map(([variant, rows]) => {
      const errors = new Map(
        rows.map(({ arm, outcomes }) => [arm.key, mean(outcomes.map(({ value }) => value))]),
      );
      const tuned = errors.get(TUNED.key)!;
      return {
        name: `${key}, ${variant}`,
        hasRivals: arms.some(({ rival }) => rival),
        ratios: new Map([...errors].map(([arm, error]) => [arm, error / tuned])),
      };
    });
}

/** A row per arm that has all columns with other methods. @param names the names of each arm */
export function summaryOf(
  columns: readonly Column[],
  names: ReadonlyMap<string, ReadonlySet<string>>,
): string {
  const groups = [columns.filter(({ hasRivals }) => hasRivals), columns];
  const rows = [...names].flatMap(([arm, own]) => {
    const cells = groups.map((group) => meanAndWorst(group, arm));
    return cells.some(Boolean)
      ? [[[...own].join(" / "), ...cells.flatMap((pair) => pair ?? ["–", "–"])]]
      : [];
  });
  const [some, all] = groups.map(({ length }) => plural(length, "column"));
  const head = ["", `mean of ${some}, with other methods`, "worst", `mean of all ${all}`, "worst"];
  return markdownTable([head, ["---", "---:", "---", "---:", "---"], ...rows]);
}

/** The geometric mean of an arm's ratios, and the worst; undefined if it lacks one. An arm that diverged has ∞. */
function meanAndWorst(columns: readonly Column[], arm: string): [string, string] | undefined {
  if (columns.length === 0 || columns.some(({ ratios }) => !ratios.has(arm))) return undefined;
  const own = columns.map(({ name, ratios }) => {
    const ratio = ratios.get(arm)!;
    return { name, ratio: Number.isFinite(ratio) ? ratio : Infinity };
  });
  const worst = own.reduce((a, b) => (b.ratio > a.ratio ? b : a));
  const average = Math.exp(mean(own.map(({ ratio }) => Math.log(ratio))));
  const digits = worst.ratio < 10 ? worst.ratio.toFixed(1) : String(Number(worst.ratio.toPrecision(2)));
  return [average.toFixed(2), arm === TUNED.key ? digits : `${digits} (${worst.name})`];
}
