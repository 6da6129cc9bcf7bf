import { Combinations } from "./combinations";
import { checkLoss, type CheckedTuneOptions } from "./options";
import { plan, stepsOf, type Bracket } from "./schedule";
import type { Train, TuningResult, TuningRow, WeightsOf } from "./types";

/** A combination in the search. */
class Candidate {
  readonly weights: readonly number[];
  /** Passed to the user's `train`. */
  readonly resume: { steps: number; readonly key: string; state: unknown };
  /** Losses by the number of steps. */
  readonly losses = new Map<number, number>();

  constructor(weights: readonly number[]) {
    this.weights = weights;
    this.resume = { steps: 0, key: keyOf(weights), state: undefined };
  }
}

/** One call of `tuneWeights`. */
export class Search {
  readonly #train: Train;
  readonly #options: CheckedTuneOptions;
  readonly #combinations: Combinations;
  readonly #brackets: readonly Bracket[];
  /** Losses of `resume`, by key and steps. */
  readonly #done: ReadonlyMap<string, number>;
  readonly #table: TuningRow[] = [];
  /** Steps of all rungs so far. */
  #steps = 0;

  constructor(train: Train, options: CheckedTuneOptions) {
    const { terms, values, budget, steps, done } = options;
    this.#train = train;
    this.#options = options;
    this.#combinations = new Combinations(terms.list.length, values);
    this.#brackets = plan(this.#combinations.count, budget, steps);
    this.#done = new Map(
      done.map((row) => [trainingKey(this.#combinations.representative(row.weights), row.steps), row.loss]),
    );
  }

  async run(): Promise<TuningResult> {
    const others = this.#combinations.inRandomOrder(this.#options.seed);
    others.next(); // the equal weights, which every bracket has
    const equal = new Candidate(this.#combinations.equal);
    for (const rungs of this.#brackets) {
      const candidates = [equal];
      while (candidates.length < rungs[0]!.combinations) {
        const next = others.next();
        if (next.done === true) break;
        candidates.push(new Candidate(next.value));
      }
      await this.#halve(candidates, rungs);
    }
    return { weights: this.#best(), table: this.#table };
  }

  async #halve(candidates: readonly Candidate[], rungs: Bracket): Promise<void> {
    let field = candidates;
    for (const [rung, { combinations, steps }] of rungs.entries()) {
      field = field.slice(0, combinations);
      for (const candidate of field) await this.#trainOnce(candidate, steps, rungs.length - 1, rung);
      // Sorting is stable: of equals, the first goes on.
      field = [...field].sort((a, b) => ascending(a.losses.get(steps)!, b.losses.get(steps)!));
      // The first candidate, equal weights, keeps its state, because it is in every bracket.
      for (const out of field.slice(rungs[rung + 1]?.combinations ?? 0)) {
        if (out !== candidates[0]) out.resume.state = undefined;
      }
    }
  }

  /** Trains a candidate, unless its loss after so many steps is known. */
  async #trainOnce(candidate: Candidate, steps: number, bracket: number, rung: number): Promise<void> {
    this.#steps += steps;
    if (candidate.losses.has(steps)) return;
    const known = this.#done.get(trainingKey(candidate.weights, steps));
    const loss =
      known ??
      checkLoss(
        "train",
        "return",
        await this.#train(this.#weightsOf(candidate), steps, { resume: candidate.resume }),
      );
    candidate.resume.steps = steps;
    candidate.losses.set(steps, loss);
    this.#table.push({ weights: this.#weightsOf(candidate), steps, loss, bracket, rung });
    if (known !== undefined) return;
    await this.#options.onProgress?.({
      steps: this.#steps,
      total: this.#brackets.reduce((sum, rungs) => sum + stepsOf(rungs), 0),
      table: [...this.#table],
    });
  }

  #weightsOf({ weights }: Candidate): WeightsOf<number | readonly string[]> {
    const { byName, terms } = this.#options;
    return byName ? Object.fromEntries(terms.list.map((name, term) => [name, weights[term]!])) : [...weights];
  }

  #best(): WeightsOf<number | readonly string[]> {
    const finite = this.#table.filter(({ loss }) => Number.isFinite(loss));
    const longest = finite.reduce((most, { steps }) => Math.max(most, steps), 0);
    const sorted = finite.filter(({ steps }) => steps === longest).sort((a, b) => ascending(a.loss, b.loss));
    const { weights } = sorted[0] ?? this.#table[0]!;
    return Array.isArray(weights) ? [...weights] : { ...weights };
  }
}

function keyOf(weights: readonly number[]): string {
  return weights.join("_");
}

function trainingKey(weights: readonly number[], steps: number): string {
  return `${keyOf(weights)} ${steps}`;
}

/** Smaller losses first; losses that are not finite last. */
function ascending(a: number, b: number): number {
  const [first, second] = [a, b].map((loss) => (Number.isFinite(loss) ? loss : Infinity));
  return first === second ? 0 : first! - second!;
}
