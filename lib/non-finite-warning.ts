const NON_FINITE_CODE = "MTADAM_NON_FINITE";

interface SkippedCounts {
  readonly terms: readonly string[];
  readonly layers: readonly string[];
  /** Terms × layers. */
  readonly skipped: Float64Array;
}

/** One process warning per optimizer, for its first skipped term. */
export class NonFiniteWarning {
  /** Whether the warning is wanted and has not been emitted. */
  #isDue: boolean;
  /** How often terms had been skipped when the state was loaded. */
  #known = 0;

  readonly #effect: string;

  constructor(isWanted: boolean, scales: "current" | "lagged" = "current") {
    this.#isDue = isWanted;
    this.#effect =
      scales === "lagged"
        ? "not finite; its elements that cannot be used were skipped there"
        : "not finite, or too large after scaling; the term counted as absent there";
  }

  get isDue(): boolean {
    return this.#isDue;
  }

  /** For the counts of a state that was loaded. */
  know(skipped: number): void {
    this.#known = skipped;
  }

  /**
   * Warns if the counts show a term that was skipped.
   *
   * @param r terms × layers, the norms of the last gradients: not finite where that gradient was skipped
   */
  check({ terms, layers, skipped }: SkippedCounts, r: Float64Array): void {
    if (!this.#isDue || skipped.reduce((sum, count) => sum + count, 0) <= this.#known) return;
    this.#isDue = false;
    const counts = [...skipped];
    const last = counts.findIndex((count, at) => count > 0 && !Number.isFinite(r[at]));
    const at = last < 0 ? counts.findIndex((count) => count > 0) : last;
    const term = JSON.stringify(terms[Math.floor(at / layers.length)]);
    const layer = JSON.stringify(layers[at % layers.length]);
    process.emitWarning(
      `The gradient of the term ${term} for the layer ${layer} was ${this.#effect}. \`diagnostics()\` counts such ` +
        "gradients in `skipped`. This optimizer warns once; it does not if the option `nonFinite` is given.",
      { code: NON_FINITE_CODE },
    );
  }
}
