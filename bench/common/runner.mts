import { tuneWeights } from "mtadam";
import { randomFor } from "../../examples/common/random.mjs";
import {
  TUNED,
  atRate,
  fixed,
  isIn,
  keyOf,
  weighted,
  withFixedWeights,
  type Arm,
  type Experiment,
  type Outcome,
  type Results,
  type Task,
} from "./experiment.mjs";
import { hyperband, searchByHyperband } from "./hyperband.mjs";
import { mean } from "./statistics.mjs";
import type { Store } from "./store.mjs";

/** How much of an experiment to run. */
export interface Extent {
  seeds: number;
  steps: number;
}

/** Further arguments of `run`. */
export interface Conditions {
  /** Whether to repeat trainings that the store has. */
  again: boolean;
  /** No training starts after this time in milliseconds (`performance.now()`). */
  deadline: number;
  log: (line: string) => void;
}

/** Returns the tuned form of an arm for a variant: the arm that is trained in its place. */
export type Choices = (arm: Arm, variant: string) => Arm;

/**
 * Runs the trainings that the store lacks: first those on the tuning seeds, to choose exponents, rates and weights,
 * then the reported ones. Returns the choices; undefined if time ran out, and then another call continues.
 */
export async function run(
  experiment: Experiment,
  store: Store,
  extent: Extent,
  conditions: Conditions,
): Promise<Choices | undefined> {
  const trainings = new Trainings(experiment, store, conditions);
  try {
    const choices = await choose(experiment, trainings, extent);
    await trainings.all(reported(experiment, choices, extent));
    return choices;
  } catch (error) {
    if (error instanceof TimeIsOver) return undefined;
    throw error;
  }
}

/** The finished trainings, in the form for tables and plots. */
export function results(
  { arms, variants }: Experiment,
  store: Store,
  choices: Choices,
  { seeds, steps }: Extent,
): Results {
  const outcome = (arm: Arm, task: Task): Outcome => {
    const found = store.find(arm, task);
    if (!found) throw new Error(`${arm.name}, ${task.variant}, seed ${task.seed} has not been run.`);
    return found;
  };
  const rowsOf = (variant: string) =>
    arms.map((arm) => ({
      arm,
      outcomes: isIn(arm, variant)
        ? numbers(seeds).map((seed) => outcome(choices(arm, variant), { variant, seed, steps }))
        : [],
    }));
  return new Map(variants.map((variant) => [variant, rowsOf(variant)]));
}

class TimeIsOver extends Error {}

interface Training {
  arm: Arm;
  task: Task;
}

/** The trainings of an experiment, each done once. */
class Trainings {
  readonly #experiment: Experiment;
  readonly #store: Store;
  readonly #conditions: Conditions;
  /** Trainings done by this call. */
  readonly #done = new Set<string>();

  constructor(experiment: Experiment, store: Store, conditions: Conditions) {
    this.#experiment = experiment;
    this.#store = store;
    this.#conditions = conditions;
  }

  async all(trainings: readonly Training[]): Promise<void> {
    const open = trainings.filter((training) => !this.#find(training));
    for (const [index, { arm, task }] of open.entries())
      await this.one(arm, task, ` ${index + 1}/${open.length}`);
  }

  /** @throws TimeIsOver */
  async one(arm: Arm, task: Task, place = ""): Promise<Outcome> {
    const known = this.#find({ arm, task });
    if (known) return known;
    const { deadline, log } = this.#conditions;
    const start = performance.now();
    if (start > deadline) throw new TimeIsOver();
    const finished = await this.#experiment.run(arm, task);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const outcome = await this.#store.add(arm, task, finished, Number(seconds));
    this.#done.add(keyOf(arm.key, task));
    const where = `${this.#experiment.key}${place}: ${arm.name}, ${task.variant}, seed ${task.seed}`;
    log(`${where}: ${this.#experiment.show(outcome.value)} (${seconds} s)`);
    return outcome;
  }

  #find({ arm, task }: Training): Outcome | undefined {
    if (this.#conditions.again && !this.#done.has(keyOf(arm.key, task))) return undefined;
    return this.#store.find(arm, task);
  }
}

/** Tunes each arm for each variant. */
async function choose(experiment: Experiment, trainings: Trainings, { steps }: Extent): Promise<Choices> {
  const { arms, variants, tuningSeeds = [] } = experiment;
  const chosen = new Map<string, Arm>();
  const keyOfChoice = (arm: Arm, variant: string) => JSON.stringify([arm.key, variant]);
  for (const variant of variants) {
    const tasks = tuningSeeds.map((seed) => ({ variant, seed, steps }));
    const present = arms.filter((arm) => isIn(arm, variant));
    const byGrid = present.filter(({ hyperband }) => !hyperband).map((arm) => arm.dialOf ?? arm);
    const tuned = [...new Set(byGrid)];
    const open = tuned
      .map((arm) => settings(experiment, arm, experiment.rates))
      .filter(({ length }) => length > 1);
    await trainings.all(open.flat().flatMap((arm) => tasks.map((task) => ({ arm, task }))));
    for (const arm of tuned) {
      chosen.set(keyOfChoice(arm, variant), await bestOf(arm, experiment, trainings, tasks));
    }
    for (const arm of present) {
      if (arm.hyperband) {
        chosen.set(keyOfChoice(arm, variant), await byHyperband(arm, experiment, trainings, tasks));
      }
      if (!arm.dialOf) continue;
      const base = chosen.get(keyOfChoice(arm.dialOf, variant))!;
      chosen.set(keyOfChoice(arm, variant), await withFoundWeights(base, experiment, trainings, tasks[0]!));
    }
  }
  return (arm, variant) => chosen.get(keyOfChoice(arm, variant))!;
}

/** The setting of an arm that does best on average over the tasks; a mean that is not finite is the worst. */
async function bestOf(
  arm: Arm,
  experiment: Experiment,
  trainings: Trainings,
  tasks: readonly Task[],
): Promise<Arm> {
  let { rates } = experiment;
  for (let further = experiment.furtherRates ?? 0; ; --further) {
    const candidates = settings(experiment, arm, rates);
    if (candidates.length === 1) return candidates[0]!;
    const costs: number[] = [];
    for (const candidate of candidates) {
      const ofTasks: number[] = [];
      for (const task of tasks) ofTasks.push(await cost(experiment, trainings, candidate, task));
      costs.push(Number.isFinite(mean(ofTasks)) ? mean(ofTasks) : Infinity);
    }
    const best = candidates[costs.indexOf(Math.min(...costs))]!;
    const beyond = further > 0 ? rateBeyond(rates!, best.rate!) : undefined;
    if (beyond === undefined) return best;
    rates = [...rates!, beyond].sort((a, b) => a - b);
  }
}

/** The next rate, in the ratio of the others, if this one is at an end; otherwise undefined. */
function rateBeyond(rates: readonly number[], rate: number): number | undefined {
  const [least, next, most] = [rates[0]!, rates[1]!, rates.at(-1)!];
  if (rate !== least && rate !== most) return undefined;
  const ratio = next / least;
  return Number((rate === most ? most * ratio : least / ratio).toPrecision(2));
}

/** An arm with the weights that do best on one task, found in the steps of at most 12 trainings. */
async function withFoundWeights(
  base: Arm,
  experiment: Experiment,
  trainings: Trainings,
  task: Task,
): Promise<Arm> {
  const withWeights = (weights: Record<string, number>) => weighted(base, Object.values(weights));
  let steps = 0;
  const { weights, table } = await tuneWeights(
    (weights, stepsOfTraining) => {
      steps += stepsOfTraining;
      return cost(experiment, trainings, withWeights(weights), { ...task, steps: stepsOfTraining });
    },
    { terms: experiment.terms!, steps: task.steps },
  );
  const configurations = new Set(table.map((row) => Object.values(row.weights).join())).size;
  return { ...withWeights(weights), search: { configurations, trainings: steps / task.steps } };
}

/** Hyperband's R and η: 17 configurations in the steps of 8.7 trainings. */
const [RESOURCE, ETA] = [9, 3] as const;

/** Each weight is drawn log-uniformly from 1/100 to 100. */
const DECADES = 2;

/**
 * An arm with the weights that do best on the first task, out of Hyperband's configurations of weights and a learning
 * rate that are trained in full. With these weights it then gets its best rate as every other arm does.
 */
async function byHyperband(
  arm: Arm,
  experiment: Experiment,
  trainings: Trainings,
  tasks: readonly Task[],
): Promise<Arm> {
  const task = tasks[0]!;
  const random = randomFor(1, task.seed, `hyperband of ${experiment.key}`);
  const between = (least: number, most: number) =>
    Number((least * (most / least) ** random()).toPrecision(4));
  const [slowest, fastest] = [Math.min(...experiment.rates!), Math.max(...experiment.rates!)];
  const brackets = hyperband(RESOURCE, ETA);
  let [configurations, steps] = [0, 0];
  const best = await searchByHyperband(
    brackets,
    () => {
      ++configurations;
      const weights = experiment.terms!.map(() => between(10 ** -DECADES, 10 ** DECADES));
      return atRate(withFixedWeights(arm, weights), between(slowest, fastest));
    },
    (configuration, resource) => {
      const own = Math.max(1, Math.round((task.steps * resource) / RESOURCE));
      steps += own;
      return cost(experiment, trainings, configuration, { ...task, steps: own });
    },
  );
  const withBest = withFixedWeights(arm, best.fixedWeights!);
  const chosen = await bestOf(withBest, experiment, trainings, tasks);
  return { ...chosen, search: { configurations, trainings: steps / task.steps } };
}

/** The result of a training as a figure to minimise. */
async function cost({ better }: Experiment, trainings: Trainings, arm: Arm, task: Task): Promise<number> {
  const { value } = await trainings.one(arm, task);
  return better === "higher" ? -value : value;
}

/** The settings that an arm is tuned over. */
function settings({ grid }: Experiment, arm: Arm, rates: readonly number[] | undefined): Arm[] {
  const exponents = arm.key === TUNED.key ? grid!.exponents.map(fixed) : [arm];
  return exponents.flatMap((one) => (rates ?? [undefined]).map((rate) => atRate(one, rate)));
}

/** The trainings that are reported, seed by seed. */
function reported({ arms, variants }: Experiment, choices: Choices, { seeds, steps }: Extent): Training[] {
  return numbers(seeds).flatMap((seed) =>
    variants.flatMap((variant) =>
      arms
        .filter((arm) => isIn(arm, variant))
        .map((arm) => ({ arm: choices(arm, variant), task: { variant, seed, steps } })),
    ),
  );
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}
