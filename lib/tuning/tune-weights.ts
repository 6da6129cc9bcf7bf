import { mustBe } from "../errors";
import { checkTuneOptions } from "./options";
import { Search } from "./search";
import type { Train, TuneOptions, TuningResult } from "./types";

/**
 * Finds the weights of the terms on top of balancing, out of a few values per term, by successive halving: many
 * combinations are trained briefly, and the best third of them goes on, three times as long.
 *
 * Combinations that differ by a common factor are one. If all of them fit into one bracket within the budget, only that
 * bracket is run; with two terms and the defaults, each of the five is trained in full. Otherwise Hyperband's brackets
 * (arXiv 1603.06560) try a sample. Every bracket starts with equal weights among others. Trainings run one after another.
 *
 * @returns a promise that rejects with what `train` or `onProgress` throws, and with an MTAdamError: OPTION where an option
 *   is unknown or out of range, or `train` does not return a number; LENGTH or TERM for the weights in `resume`
 */
export async function tuneWeights<const T extends number | readonly string[], State = unknown>(
  train: Train<T, State>,
  options: TuneOptions<T>,
): Promise<TuningResult<T>> {
  if (typeof train !== "function") throw mustBe("OPTION", "train", "be a function", train);
  return new Search(train as Train, checkTuneOptions(options)).run();
}
