import {
  TUNED,
  fixed,
  type Arm,
  type Experiment,
  type Outcome,
  type Results,
  type Task,
} from "./experiment.mjs";
import { mean } from "./statistics.mjs";
import type { Store } from "./store.mjs";

/** How much of an experiment to run. */
export interface Extent {
  seeds: number;
  steps: number;
}

interface Training {
  arm: Arm;
  task: Task;
}

/** The trainings that decide which fixed weights are the tuned ones. */
function tuning({ grid, variants }: Experiment, { steps }: Extent): Training[] {
  return (grid?.seeds ?? []).flatMap((seed) =>
    variants.flatMap((variant) =>
      grid!.exponents.map((exponent) => ({ arm: fixed(exponent), task: { variant, seed, steps } })),
    ),
  );
}

/** The exponent that did best for a variant, on average over the tuning seeds. */
export function chosenExponent(
  { grid, better }: Experiment,
  store: Store,
  variant: string,
  steps: number,
): number {
  const averages = grid!.exponents.map((exponent) =>
    mean(grid!.seeds.map((seed) => outcome(store, fixed(exponent), { variant, seed, steps }).value)),
  );
  const best = better === "higher" ? Math.max(...averages) : Math.min(...averages);
  return grid!.exponents[averages.indexOf(best)]!;
}

/** The arm that does an arm's training: the tuned one is what was chosen for the variant. */
function resolve(experiment: Experiment, store: Store, arm: Arm, variant: string, steps: number): Arm {
  return arm === TUNED ? fixed(chosenExponent(experiment, store, variant, steps)) : arm;
}

/** The trainings that are reported, seed by seed; the tuning must have been done. */
function reported(experiment: Experiment, store: Store, { seeds, steps }: Extent): Training[] {
  return numbers(seeds).flatMap((seed) =>
    experiment.variants.flatMap((variant) =>
      experiment.arms.map((arm) => ({
        arm: resolve(experiment, store, arm, variant, steps),
        task: { variant, seed, steps },
      })),
    ),
  );
}

/** What `run` needs to know besides. */
export interface Conditions {
  /** Whether to train also what the store has. */
  again: boolean;
  /** No training starts after that many milliseconds (`performance.now()`). */
  deadline: number;
  log: (line: string) => void;
}

/** Trains what the store does not have. Gives whether all is done; if not, a further call goes on. */
export async function run(
  experiment: Experiment,
  store: Store,
  extent: Extent,
  conditions: Conditions,
): Promise<boolean> {
  return (
    (await train(experiment, store, tuning(experiment, extent), conditions)) &&
    (await train(experiment, store, reported(experiment, store, extent), conditions))
  );
}

async function train(
  experiment: Experiment,
  store: Store,
  trainings: readonly Training[],
  { again, deadline, log }: Conditions,
): Promise<boolean> {
  const open = trainings.filter(({ arm, task }) => again || !store.find(arm, task));
  for (const [index, { arm, task }] of open.entries()) {
    if (performance.now() > deadline) return false;
    const start = performance.now();
    const result = await experiment.run(arm, task);
    await store.add(arm, task, result);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const where = `${experiment.key} ${index + 1}/${open.length}: ${arm.name}, ${task.variant}, seed ${task.seed}`;
    log(`${where}: ${experiment.show(result.value)} (${seconds} s)`);
  }
  return true;
}

/** What has been run, as tables and plots want it. */
export function results(experiment: Experiment, store: Store, { seeds, steps }: Extent): Results {
  const rowsOf = (variant: string) =>
    experiment.arms.map((arm) => {
      const trained = resolve(experiment, store, arm, variant, steps);
      return {
        arm,
        outcomes: numbers(seeds).map((seed) => outcome(store, trained, { variant, seed, steps })),
      };
    });
  return new Map(experiment.variants.map((variant) => [variant, rowsOf(variant)]));
}

function outcome(store: Store, arm: Arm, task: Task): Outcome {
  const found = store.find(arm, task);
  if (!found) throw new Error(`${arm.name}, ${task.variant}, seed ${task.seed} has not been run.`);
  return found;
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}
