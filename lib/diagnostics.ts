import { mustBe } from "./errors";

/** The values of one term in one layer. */
export interface PairDiagnostics {
  norm: number;
  scale: number;
  share: number;
  shareBefore: number;
  skipped: number;
}

/** A row of {@link Diagnostics.table}. */
export interface DiagnosticsRow extends PairDiagnostics {
  layer: string;
  term: string;
  /** Whether the term's norm is the layer's anchor. */
  anchor: boolean;
}

export interface DiagnosticsNames {
  readonly iteration: number;
  readonly terms: readonly string[];
  readonly layers: readonly string[];
}

/** Norms and scales of the terms in each layer. Arrays are terms × layers, row by row, where nothing else is said. */
export class Diagnostics implements DiagnosticsNames {
  /** Completed steps at the time of the call. */
  readonly iteration: number;
  readonly terms: readonly string[];
  readonly layers: readonly string[];
  /**
   * n: the moving averages of the gradient norms; NaN where a pair never occurred. With `unit: "network"`, such a pair may
   * have the norm of the unit.
   */
  readonly norms: Float32Array;
  /**
   * s, step 4: the factor of the gradients in the pair's last step; NaN where the pair has not occurred since the
   * optimizer was made, a state was loaded, or parameters were added.
   */
  readonly scales: Float32Array;
  /**
   * s·r divided by the sum of s·r in the layer, where r is the norm of the last gradient: the term's share of the
   * movement. NaN, and not part of the sum, where s is NaN.
   */
  readonly shares: Float32Array;
  /** r divided by the sum of r in the layer: the term's share of the gradients as they were given. */
  readonly sharesBefore: Float32Array;
  /**
   * A value per term: the norm of its scaled gradients over that of its gradients, all layers together, which is the
   * weight that would have had the same effect. NaN where the term never occurred or its gradients are 0. With the
   * network as one unit, each layer counts with the norm of its unit.
   */
  readonly effectiveWeights: Float32Array;
  /**
   * A value per layer: the index of the term whose norm is the anchor, step 3 with these norms; −1 with `anchor: "mean"`
   * and where no norm is above 1e-10.
   */
  readonly anchors: Int32Array;
  /**
   * How many times a gradient was not finite or too large to be scaled, so that the term counted as absent or the step
   * was skipped.
   */
  readonly skipped: Float32Array;
  /**
   * With the option `cosines`, terms × terms × layers: the cosine between the gradients of terms i and j in layer l, in
   * the last step, at (i·I + j)·L + l. NaN where one of the two took no part, or its norm is 0 or not finite.
   */
  declare readonly cosines?: Float32Array;

  /**
   * @internal
   * @param values as NativeDiagnostics.read() writes them
   */
  constructor(
    { iteration, terms, layers }: DiagnosticsNames,
    values: Float64Array,
    cosines: Float32Array | null,
  ) {
    const count = terms.length * layers.length;
    const block = (k: number): Float64Array => values.subarray(k * count, (k + 1) * count);
    const [n, r, s] = [block(0), block(1), block(2)];
    // The norm of a skipped gradient is not finite and is not used.
    const before = s.map((scale, at) => (Number.isNaN(scale) ? NaN : Number.isFinite(r[at]) ? r[at]! : 0));
    const after = s.map((scale, at) => scale * before[at]!);
    this.iteration = iteration;
    this.terms = terms;
    this.layers = layers;
    this.norms = Float32Array.from(n);
    this.scales = Float32Array.from(s);
    this.shares = sharesOf(after, layers.length);
    this.sharesBefore = sharesOf(before, layers.length);
    this.effectiveWeights = Float32Array.from(terms, (_, term) =>
      Math.sqrt(squaresOf(after, term, layers.length) / squaresOf(before, term, layers.length)),
    );
    this.anchors = Int32Array.from(values.subarray(4 * count));
    this.skipped = Float32Array.from(block(3));
    if (cosines !== null) this.cosines = cosines;
  }

  /**
   * The values of one term in one layer.
   *
   * @param term its name or index
   * @param layer its name or index
   * @throws MTAdamError TERM, OPTION for a layer
   */
  at(term: string | number, layer: string | number): PairDiagnostics {
    const row = indexIn(this.terms, term, "TERM", "term");
    const at = row * this.layers.length + indexIn(this.layers, layer, "OPTION", "layer");
    return {
      norm: this.norms[at]!,
      scale: this.scales[at]!,
      share: this.shares[at]!,
      shareBefore: this.sharesBefore[at]!,
      skipped: this.skipped[at]!,
    };
  }

  /** A row per layer and term, layer by layer, for `console.table`. */
  table(): DiagnosticsRow[] {
    return this.layers.flatMap((layer, l) =>
      this.terms.map((term, i) => ({ layer, term, ...this.at(i, l), anchor: this.anchors[l] === i })),
    );
  }
}

function sharesOf(parts: Float64Array, layers: number): Float32Array {
  const sums = new Float64Array(layers);
  for (const [at, part] of parts.entries()) {
    if (!Number.isNaN(part)) sums[at % layers]! += part;
  }
  return Float32Array.from(parts, (part, at) => {
    const sum = sums[at % layers]!;
    return sum === 0 ? part : part / sum;
  });
}

/** The sum of the squares of a term's values that exist. */
function squaresOf(parts: Float64Array, term: number, layers: number): number {
  const ofTerm = parts.subarray(term * layers, (term + 1) * layers);
  return ofTerm.reduce((sum, part) => (Number.isNaN(part) ? sum : sum + part * part), 0);
}

function indexIn(names: readonly string[], given: unknown, code: "TERM" | "OPTION", kind: string): number {
  const index = typeof given === "string" ? names.indexOf(given) : given;
  if (Number.isInteger(index) && (index as number) >= 0 && (index as number) < names.length) {
    return index as number;
  }
  throw mustBe(code, kind, `be the name of a ${kind} or its index`, given);
}
