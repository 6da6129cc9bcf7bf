import { readFileSync } from "node:fs";
import path from "node:path";
import { tuneWeights } from "../../lib";
import { cellsOf } from "../support/markdown";

// The table of docs/guide.md, "Weights": searches over the losses of trainings that bench/balancing kept.

const root = path.join(__dirname, "../..");
const read = (file: string): string => readFileSync(path.join(root, file), "utf8");

interface Run {
  arm: string;
  variant: string;
  seed: number;
  steps: number;
  value: number;
}

const PROBLEMS = [
  { title: "two tasks", key: "two-tasks", terms: 2, steps: 1000 },
  { title: "heat equation", key: "heat", terms: 4, steps: 3000 },
  { title: "Burgers' equation", key: "burgers", terms: 3, steps: 3000 },
] as const;
const VARIANTS = { constant: "constant rate", "cosine decay": "cosine decay" } as const;
type Rate = keyof typeof VARIANTS;

const TUNING_SEED = 101;

/** The rows of the table: what the search took, the weights, the errors with weights of 1 and with these. */
const table = new Map<string, string[]>();
for (const line of /^\| +\| rate [^]*?\n\n/m.exec(read("docs/guide.md"))![0].trim().split("\n").slice(2)) {
  const [title, rate, ...cells] = cellsOf(line);
  const problem = title === "" ? [...table.keys()].at(-1)!.split(", ")[0]! : title!;
  table.set(`${problem}, ${rate}`, cells);
}

describe.each(PROBLEMS)("$title", ({ title, key, terms, steps }) => {
  const { runs } = JSON.parse(read(`docs/balancing/${key}.json`)) as { runs: Run[] };

  test.each<Rate>(["constant", "cosine decay"])(
    "%s: the weights of the table, in at most 12 trainings",
    async (rate) => {
      const [took, expected, before, after] = table.get(`${title}, ${rate}`)!;
      const ofVariant = runs.filter((run) => run.variant === VARIANTS[rate]);
      const found = ofVariant.find(
        ({ arm, seed }) => arm.startsWith("recommended") && arm.includes(" w ") && seed === TUNING_SEED,
      )!;
      const arm = found.arm.split(" w ")[0]!;
      let taken = 0;
      const { weights } = await tuneWeights(
        (weights, ofTraining) => {
          taken += ofTraining;
          const name = `${arm} w ${Object.values(weights).join(" ")}`;
          const run = ofVariant.find(
            (run) => run.arm === name && run.seed === TUNING_SEED && run.steps === ofTraining,
          );
          return run!.value;
        },
        { terms: Array.from({ length: terms }, (_, k) => `term ${k}`), steps },
      );
      const values = Object.values(weights);
      expect(values.join(" : ")).toBe(expected);
      expect(taken).toBeLessThanOrEqual(12 * steps);
      expect(`${Number((taken / steps).toFixed(1))} full trainings`).toBe(took);

      const meanOf = (name: string): string => {
        const reported = ofVariant.filter((run) => run.arm === name && run.seed <= 10 && run.steps === steps);
        expect(reported).toHaveLength(10);
        return (reported.reduce((sum, { value }) => sum + value, 0) / 10).toPrecision(2);
      };
      expect([meanOf(arm), meanOf(`${arm} w ${values.join(" ")}`)]).toEqual([before, after]);
    },
  );
});
