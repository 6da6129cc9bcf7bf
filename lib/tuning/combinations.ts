import { randomFrom } from "./random";

/** The most combinations that are listed. If there are more, they are drawn one at a time. */
const MOST_LISTED = 100_000;

/** After so many repeated draws in a row, the combinations count as exhausted. */
const MOST_REPEATS = 1000;

/** The combinations of values, a weight per term. Combinations that differ by a common factor count as one. */
export class Combinations {
  /** All weights the same. */
  readonly equal: readonly number[];
  /** How many there are; Infinity if there are too many to list. */
  readonly count: number;
  readonly #terms: number;
  readonly #values: readonly number[];
  readonly #listed: readonly (readonly number[])[] | undefined;

  /** @param values finite and above 0, at least one */
  constructor(terms: number, values: readonly number[]) {
    this.#terms = terms;
    this.#values = [...new Set(values)];
    this.equal = this.representative(new Array<number>(terms).fill(this.#values[0]!));
    this.#listed = this.#values.length ** terms <= MOST_LISTED ? this.#list() : undefined;
    this.count = this.#listed?.length ?? Infinity;
  }

  /**
   * Of the combinations with the same ratios, the one whose weights are closest to 1. If no multiple of the weights
   * consists of values of the search, they are returned unchanged.
   */
  representative(weights: readonly number[]): readonly number[] {
    const multiples = this.#values
      .map((value) => this.#multiple(weights, value / weights[0]!))
      .filter((multiple) => multiple !== undefined);
    const distance = (of: readonly number[]) =>
      of.reduce((sum, weight) => sum + Math.abs(Math.log(weight)), 0);
    return multiples.reduce(
      // Sums of logarithms have rounding errors; a smaller difference counts as none.
      (best, next) => (distance(next) < distance(best) * (1 - 1e-9) ? next : best),
      multiples[0] ?? weights,
    );
  }

  /** The equal weights, then the others in random order, none twice. */
  inRandomOrder(seed: number): Generator<readonly number[]> {
    const random = randomFrom(seed);
    return this.#listed ? shuffledAfterFirst(this.#listed, random) : this.#drawn(random);
  }

  *#drawn(random: () => number): Generator<readonly number[]> {
    yield this.equal;
    const seen = new Set([this.equal.join()]);
    for (let repeats = 0; repeats < MOST_REPEATS;) {
      const draw = () => this.#values[Math.floor(random() * this.#values.length)]!;
      const weights = this.representative(Array.from({ length: this.#terms }, draw));
      if (seen.has(weights.join())) {
        ++repeats;
        continue;
      }
      repeats = 0;
      seen.add(weights.join());
      yield weights;
    }
  }

  #list(): readonly (readonly number[])[] {
    const found = new Map([[this.equal.join(), this.equal]]);
    const total = this.#values.length ** this.#terms;
    for (let index = 0; index < total; ++index) {
      const digits = Array.from({ length: this.#terms }, (_, term) => {
        const place = this.#values.length ** (this.#terms - 1 - term);
        return this.#values[Math.floor(index / place) % this.#values.length]!;
      });
      const weights = this.representative(digits);
      found.set(weights.join(), weights);
    }
    return [...found.values()];
  }

  /**
   * The values closest to the weights times a factor; undefined if one of the products is not a value of the search.
   */
  #multiple(weights: readonly number[], factor: number): readonly number[] | undefined {
    const multiple: number[] = [];
    for (const weight of weights) {
      const product = weight * factor;
      const value = this.#values.find((one) => Math.abs(one - product) <= 1e-9 * one);
      if (value === undefined) return undefined;
      multiple.push(value);
    }
    return multiple;
  }
}

function* shuffledAfterFirst<T>(list: readonly T[], random: () => number): Generator<T> {
  const rest = [...list];
  for (let i = 0; i < rest.length; ++i) {
    const j = i === 0 ? 0 : i + Math.floor(random() * (rest.length - i));
    const next = rest[j]!;
    rest[j] = rest[i]!;
    yield next;
  }
}
