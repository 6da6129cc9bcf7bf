import type { MTAdamOptions } from "mtadam";
import type { Rival } from "./rivals/rival.mjs";

/** One way of training that is compared with the others. */
export interface Arm {
  /** The key of the results in the store. */
  key: string;
  /** The name in tables and plots. */
  name: string;
  /** Options of MTAdam on the separate terms. Without options and rival: Adam on the weighted sum of the terms. */
  options?: Partial<MTAdamOptions>;
  /** Each term's head, the tensors that it alone reaches, gets a layer tag, for MTAdam. */
  tagsHeads?: true;
  /** Parameters in bfloat16, for experiments that have them. */
  narrow?: true;
  /** The arm's training of seed 1 is recorded by `BalanceMonitor`, in experiments that keep records. */
  monitored?: true;
  /** Another method that computes a step from the terms' gradients. */
  rival?: Rival;
  /** The arm of which this one is a copy with weights that `tuneWeights` finds on the first tuning seed. */
  dialOf?: Arm;
  /** Adam, with weights that Hyperband finds together with a rate on the first tuning seed; then with its best rate. */
  hyperband?: true;
  /** What the search of the weights took, beside that of the rate. */
  search?: { configurations: number; trainings: number };
  /** The variants that the arm is trained in. Left out: all. */
  variants?: readonly string[];
  /** The learning rate, where the experiment has several. */
  rate?: number;
  /** Adam's fixed weights. */
  fixedWeights?: readonly number[];
  /** Adam's fixed weights, as an exponent in the experiment's family of weights. Left out: all weights are 1. */
  exponent?: number;
}

/** One training of an arm. */
export interface Task {
  /** Which variant of the experiment. */
  variant: string;
  seed: number;
  steps: number;
}

/** A text that names a training, by the key of its arm. */
export function keyOf(arm: string, { variant, seed, steps }: Task): string {
  return JSON.stringify([arm, variant, seed, steps]);
}

/** The result of a training: tables show `value`; the store also keeps the rest. */
export interface Outcome {
  value: number;
  details?: Record<string, number | number[] | number[][]>;
  /** The path of a PNG, relative to the folder for results. */
  picture?: string;
  /** The path of a file of `BalanceMonitor`, relative to the folder for results. */
  records?: string;
}

/** What `run` returns: the store writes the picture and the records to files. */
export type Finished = Omit<Outcome, "picture" | "records"> & { png?: Uint8Array; jsonl?: Uint8Array };

/** A further figure of every training, in a table of its own. */
export interface FurtherMeasure {
  /** Its key in the details. */
  detail: string;
  measure: string;
  better: "higher" | "lower";
  show: (value: number) => string;
}

/** A family of fixed weights to choose from. */
export interface Grid {
  /** If several do equally well, the first is chosen. */
  exponents: readonly number[];
  /** The weights in words, for a chosen exponent. */
  describe(exponent: number): string;
}

export interface Experiment {
  key: string;
  /** What `value` measures. */
  measure: string;
  better: "higher" | "lower";
  variants: readonly string[];
  arms: readonly Arm[];
  grid?: Grid;
  /** Learning rates, of which each arm gets its best. Left out: `run` decides. */
  rates?: readonly number[];
  /** How many rates may follow beyond the ends, in the same ratio, while the rate at an end is the best. Default: 0. */
  furtherRates?: number;
  /** What the results depend on besides the arms and tasks, in a text. The store ignores results of another one. */
  version?: () => string;
  /** Seeds that no table counts: trainings on them decide between exponents, rates and weights. */
  tuningSeeds?: readonly number[];
  /** The terms' names, for arms whose weights are searched. */
  terms?: readonly string[];
  /** How many seeds count, from 1 on. */
  seeds: number;
  steps: number;
  /** A value, or a standard deviation, as the table shows it. */
  show: (value: number) => string;
  run(arm: Arm, task: Task): Promise<Finished>;
  further?: readonly FurtherMeasure[];
  /** A paragraph for the report. */
  remark?: (results: Results) => string;
  /** Whether values are drawn on a logarithmic axis. */
  logarithmic?: boolean;
  /** An SVG of its own, and what it shows; otherwise each value is a dot beside its arm. */
  picture?: { caption: string; draw: (results: Results) => string };
  /** A second SVG. */
  curves?: { caption: string; draw: (results: Results) => string };
}

/** An arm with its outcomes for one variant, in the order of the seeds. */
export interface Row {
  arm: Arm;
  outcomes: readonly Outcome[];
}

/** Whether an arm is trained in a variant. */
export function isIn({ variants }: Arm, variant: string): boolean {
  return variants?.includes(variant) ?? true;
}

/** Arms that are trained in these variants only, but for those with the keys of `except`, which stay as they are. */
export function only(
  variants: readonly string[],
  arms: readonly Arm[],
  except: readonly string[],
): readonly Arm[] {
  return arms.map((arm) => (except.includes(arm.key) ? arm : { ...arm, variants }));
}

/** Rows by variant; an arm that is not trained in it has no outcomes. */
export type Results = ReadonlyMap<string, readonly Row[]>;

/** A placeholder in the list of arms: Adam with the weights of the grid that did best on the tuning seeds. */
export const TUNED: Arm = { key: "tuned", name: "Adam, tuned weights" };

/** The settings that all experiments compare. */
export const COMMON: readonly Arm[] = [
  { key: "adam", name: "Adam, equal weights" },
  TUNED,
  { key: "default", name: "MTAdam", options: {} },
  { key: "max", name: 'anchor: "max"', options: { anchor: "max" } },
  { key: "step-mean", name: 'stepScale: "mean"', options: { stepScale: "mean" } },
  { key: "balance", name: "balance: 0.5", options: { balance: 0.5 } },
  { key: "slow", name: "β₃ = 0.999", options: { betas: [0.9, 0.999, 0.999] } },
  {
    key: "slow-max",
    name: 'β₃ = 0.999, anchor: "max"',
    options: { anchor: "max", betas: [0.9, 0.999, 0.999] },
  },
  { key: "recommended", name: 'preset: "recommended"', options: { preset: "recommended" } },
];

/** Adam with the fixed weights of one exponent. */
export function fixed(exponent: number): Arm {
  return { key: `fixed ${exponent}`, name: `Adam, exponent ${exponent}`, exponent };
}

/** An arm with one learning rate; unchanged if there is none. */
export function atRate(arm: Arm, rate: number | undefined): Arm {
  return rate === undefined
    ? arm
    : { ...arm, key: `${arm.key} lr ${rate}`, name: `${arm.name}, lr ${rate}`, rate };
}

/** Adam with these weights. */
export function withFixedWeights(arm: Arm, weights: readonly number[]): Arm {
  const text = weights.join(" ");
  return { ...arm, key: `${arm.key} w ${text}`, name: `${arm.name}, weights ${text}`, fixedWeights: weights };
}

/** An arm of MTAdam with these weights. */
export function weighted(arm: Arm, weights: readonly number[]): Arm {
  const text = weights.join(" ");
  const options = { ...arm.options, weights };
  return { ...arm, key: `${arm.key} w ${text}`, name: `${arm.name}, weights ${text}`, options };
}

/** The three rates that every arm is tried with: a third of the given rate, the rate, and three times the rate. */
export function ratesAround(rate: number): readonly number[] {
  return [rate / 3, rate, 3 * rate].map((value) => Number(value.toPrecision(2)));
}
