import { randomSource } from "../random";

/** Random choices from a seed. */
export class Draw {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = randomSource(seed);
  }

  /** From 0 to `count` − 1. */
  below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  one<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError("There is nothing to choose from.");
    return list[this.below(list.length)]!;
  }

  /** The list in a random order. */
  shuffled<T>(list: readonly T[]): T[] {
    const rest = [...list];
    return Array.from(list, () => rest.splice(this.below(rest.length), 1)[0]!);
  }

  /** Gradients or parameters of about this size; at times zeros. */
  tensor(length: number, scale: number): Float32Array<ArrayBuffer> {
    if (this.chance(0.1)) return new Float32Array(length);
    return Float32Array.from(
      { length },
      () => (this.#random() + this.#random() + this.#random() - 1.5) * scale,
    );
  }
}
