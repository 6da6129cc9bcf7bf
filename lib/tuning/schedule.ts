/**
 * How many combinations are trained, and for how many steps: Hyperband (Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar,
 * arXiv 1603.06560, Algorithm 1). Its R is `steps` here, its s the number of halvings.
 */

/** η: a rung keeps one combination in three, and trains it three times as long. */
const ETA = 3;

/** No training is shorter than 1/27 of a full one: earlier figures say little about later ones. */
const MOST_HALVINGS = 3;

/** No bracket has more combinations, whatever the budget. */
const MOST_COMBINATIONS = 10_000;

/** One round of a bracket. At its end, each of its combinations has been trained for `steps` steps. */
export interface Rung {
  combinations: number;
  steps: number;
}

/** The rungs of one run of successive halving, shortest trainings first. */
export type Bracket = readonly Rung[];

/** nᵢ = ⌊n·η⁻ⁱ⌋ combinations and rᵢ = ⌊R·ηⁱ⁻ˢ⌋ steps, i from 0 to s. */
export function bracket(combinations: number, steps: number, halvings: number): Bracket {
  return Array.from({ length: halvings + 1 }, (_, i) => ({
    combinations: Math.floor(combinations / ETA ** i),
    steps: Math.floor(steps / ETA ** (halvings - i)),
  }));
}

/** The steps of a bracket if each rung starts its trainings anew. */
export function stepsOf(rungs: Bracket): number {
  return rungs.reduce((sum, { combinations, steps }) => sum + combinations * steps, 0);
}

/**
 * Hyperband's brackets, from `halvings` (its s_max) halvings to none. Each gets an equal share B of the budget and starts
 * with n = ⌈(B/R)·ηˢ/(s + 1)⌉ combinations: with a budget of (s_max + 1)²·R, B is the (s_max + 1)·R of the paper. Rounding up
 * may ask for more than the budget; n is then the largest that fits.
 */
export function hyperband(budget: number, steps: number, halvings: number): Bracket[] {
  const ratio = budget / (halvings + 1) / steps;
  const brackets: Bracket[] = [];
  let left = budget;
  for (let s = halvings; s >= 0; --s) {
    let n = Math.min(Math.ceil((ratio * ETA ** s) / (s + 1)), MOST_COMBINATIONS);
    while (n > 0 && stepsOf(bracket(n, steps, s)) > left) --n;
    const rungs = bracket(n, steps, s).filter(({ combinations }) => combinations > 0);
    if (rungs.length === 0) continue;
    brackets.push(rungs);
    left -= stepsOf(rungs);
  }
  return brackets;
}

/**
 * The brackets of a search. If all combinations fit into one bracket within the budget, that is the search: the bracket with
 * the fewest halvings, none if each can be trained in full. Otherwise it is Hyperband over a sample, with as many brackets as
 * the budget has room for, (s_max + 1)² ≤ budget/R.
 *
 * @param count the number of combinations; Infinity if there are too many to count
 */
export function plan(count: number, budget: number, steps: number): Bracket[] {
  let most = 0;
  while (most < MOST_HALVINGS && ETA ** (most + 1) <= steps) ++most;
  for (let s = 0; s <= most && count <= MOST_COMBINATIONS; ++s) {
    const rungs = bracket(count, steps, s);
    if (rungs.at(-1)!.combinations > 0 && stepsOf(rungs) <= budget) return [rungs];
  }
  return hyperband(budget, steps, Math.min(most, Math.floor(Math.sqrt(budget / steps)) - 1));
}
