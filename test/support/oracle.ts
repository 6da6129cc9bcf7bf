/**
 * One step of MTAdam, written directly from docs/algorithm.md in float64, for reading rather than speed. Every other
 * implementation is tested against it. Nothing is rounded to float32, sums have no canonical order and tiny moments are
 * not flushed to zero; the tolerances of the implementations cover these differences.
 *
 * The symbols are those of docs/algorithm.md:
 *
 *   i, l, p    a term (one loss), a layer, a parameter tensor; here always numbers from 0
 *   u          a unit: the tensors whose terms are balanced together. A layer, unless the network is one unit
 *   θ          the values of a tensor
 *   g, ĝ       a term's gradient for a tensor, as it came and balanced
 *   w, s       a term's weight, and the scale that balances it in a layer
 *   r, n       the norm of a term's gradient over a unit, and its moving average
 *   q          with `unit: "network"`: the moving average of a term's squared norm in one tensor
 *   m, v, x    first moment, second moment and (amsgrad) the largest second moment so far, of one term in one
 *              tensor
 *   M, T       with `firstMoment: "summed"`: the first moment of all terms together, and its clock
 *   G, V       with `secondMoment: "summed"`, too: the sum of the terms' balanced gradients, and its second moment
 *   t, P₁, P₂  a clock: how many steps were taken, and the products β₁ᵗ and β₂ᵗ of the betas used in them
 *   W          by how much `stepScale: "mean"` shortens the step
 */

/** Options that may differ from tensor to tensor. */
export interface GroupOptions {
  lr: number;
  betas: readonly [beta1: number, beta2: number, beta3: number];
  eps: number;
  weightDecay: number;
  decoupledWeightDecay: boolean;
  maximize: boolean;
}

/** Options of the whole optimizer, with the group options that hold where a tensor has none of its own. */
export interface OracleOptions extends GroupOptions {
  terms: number;
  weights: readonly number[];
  amsgrad: boolean;
  firstMoment: "perTerm" | "summed";
  secondMoment: "perTerm" | "summed";
  initialNorm: "first" | number;
  unit: "tensor" | "network";
  silence: "decay" | "rest";
  scales: "current" | "lagged";
  /** A number is the index of a term. */
  anchor: "first" | "max" | "mean" | number;
  balance: number;
  stepScale: "sum" | "mean";
  nonFinite: "skipTerm" | "skipStep" | "skipElement" | "propagate";
}

export function defaultOptions(terms: number): OracleOptions {
  return {
    lr: 1e-3,
    betas: [0.9, 0.999, 0.9],
    eps: 1e-8,
    weightDecay: 0,
    decoupledWeightDecay: false,
    maximize: false,
    terms,
    weights: Array.from({ length: terms }, () => 1),
    amsgrad: false,
    firstMoment: "perTerm",
    secondMoment: "perTerm",
    initialNorm: "first",
    unit: "tensor",
    silence: "decay",
    scales: "current",
    anchor: "first",
    balance: 1,
    stepScale: "sum",
    nonFinite: "skipTerm",
  };
}

/** The defaults that differ with `scales: "lagged"`. */
const LAGGED_DEFAULTS: Partial<OracleOptions> = { silence: "rest", nonFinite: "skipElement" };

export interface OracleTensor {
  init: ArrayLike<number>;
  /** Tensors with one tag are one layer; a tensor without is a layer of its own. */
  layer?: string | number;
  options?: Partial<GroupOptions>;
}

/** A term's gradient for every tensor; null where it is absent. */
export type TermGradients = readonly (ArrayLike<number> | null)[];

export interface CallOptions {
  /** One per term, for this call alone. */
  weights?: readonly number[];
  /** σ: the factor the losses were multiplied by. */
  gradientScale?: number;
}

export interface Clock {
  /** t */
  steps: number;
  /** P₁ = β₁ᵗ, kept as a product since the betas may change on the way. */
  beta1Product: number;
  /** P₂ = β₂ᵗ */
  beta2Product: number;
}

/** What is kept for one term in one tensor. With summed first moments m stays zero, and x too; v if both are summed. */
export interface TermState {
  readonly m: Float64Array;
  readonly v: Float64Array;
  readonly x: Float64Array;
  readonly clock: Clock;
}

/** What is kept for one tensor. */
export interface TensorState {
  readonly layer: number;
  /** Whether other tensors are in the layer, too. */
  readonly shared: boolean;
  /** May be changed between steps. */
  readonly options: GroupOptions;
  /** θ */
  readonly parameters: Float64Array;
  readonly terms: readonly TermState[];
  /** M, the x of all terms together and the clock T; untouched unless first moments are summed. V if both are. */
  readonly summed: {
    readonly M: Float64Array;
    readonly V: Float64Array;
    readonly x: Float64Array;
    readonly clock: Clock;
  };
  /** G of the open step, if both moments are summed. */
  readonly gathered: Float64Array;
  /** The terms that took part in the open step, in the order they came, with the weights they came with. */
  readonly present: { readonly term: number; readonly weight: number }[];
}

/** One term's part in a step. */
interface Contribution {
  readonly term: number;
  readonly weight: number;
  /** True gradients, see trueGradient(); null where the term is absent. */
  readonly gradients: readonly (Float64Array | null)[];
  /** r² per tensor; null where the term is absent. */
  readonly squares: readonly (number | null)[];
  /** σ */
  readonly gradientScale: number;
}

/** What a term's norm changes in a unit. */
interface FormerNorms {
  /** n, r and s of the unit's layers. */
  readonly layers: readonly { layer: number; n: number | undefined; r: number; s: number }[];
  /** q of the unit's tensors. */
  readonly tensors: readonly { tensor: number; q: number | undefined }[];
}

/** A model as data. Tensors without a tag are layers of their own. */
export interface OracleModel {
  readonly init: readonly ArrayLike<number>[];
  readonly tags?: readonly (string | number | undefined)[] | undefined;
  readonly groups?: readonly Partial<GroupOptions>[] | undefined;
  readonly options: Partial<OracleOptions> & { terms: number };
}

export function oracleOf({ init, tags, groups, options }: OracleModel): Oracle {
  const tensors = init.map((values, k): OracleTensor => {
    const tag = tags?.[k];
    return { init: values, options: groups?.[k] ?? {}, ...(tag === undefined ? {} : { layer: tag }) };
  });
  return new Oracle(tensors, options);
}

/** Trains with the gradients of each step, all terms at once or one at a time. */
export function trainOracle(
  oracle: Oracle,
  steps: readonly (readonly TermGradients[])[],
  call: CallOptions,
  streams: boolean,
): void {
  for (const gradients of steps) {
    if (!streams) {
      oracle.step(gradients, call);
      continue;
    }
    for (const [term, ofTerm] of gradients.entries()) oracle.accumulate(term, ofTerm, call);
    oracle.update();
  }
}

/** A norm up to here counts as zero: it neither anchors a layer nor is its gradient scaled. */
const NORM_FLOOR = 1e-10;

/** The largest norm of a scaled gradient. The square of a larger one may leave float32. */
const LARGEST_SCALED_NORM = 1e18;

/** With "skipElement", the largest magnitude of s·g; beyond it, the moments of an element rest. */
const LARGEST_ELEMENT = 1e18;

export class Oracle {
  readonly options: OracleOptions;
  readonly tensors: readonly TensorState[];
  /** Completed steps, including those in which nothing moved. */
  iterations = 0;
  /** Rounds moments in place to what a lean state stores; a null term: those of all terms together. */
  store:
    ((tensor: TensorState, term: number | null, plane: "m" | "v", values: Float64Array) => void) | undefined;
  /** In how many steps a term's gradient for a layer counted as not finite, [term][layer]; 0 with "propagate". */
  readonly skipped: number[][];
  /** r and s of the unit in the pair's last step, [term][layer]; NaN where it never occurred. */
  readonly last: { readonly norms: number[][]; readonly scales: number[][] };

  readonly #layerCount: number;
  /** n of the unit in the pair's last step, [term][layer]; undefined where the pair never occurred. */
  readonly #movingNorms: (number | undefined)[][];
  /** With `unit: "network"`: q, [term][tensor]; undefined where the pair never occurred. */
  readonly #squares: (number | undefined)[][];
  /** n and q as they were before the open step. */
  #before: { readonly norms: (number | undefined)[][]; readonly squares: (number | undefined)[][] };
  /** The unit of every tensor in the open step. */
  #units: readonly number[] = [];
  /** n of the anchor of every unit in the open step, as the terms that came last were scaled. */
  #anchorNorms: readonly (number | undefined)[] = [];
  readonly #termsOfOpenStep = new Set<number>();
  /** The terms' parts in the last step, if all terms came at once. */
  #lastStep: readonly Contribution[] = [];

  constructor(tensors: readonly OracleTensor[], options: Partial<OracleOptions> & { terms: number }) {
    const lagged = options.scales === "lagged" ? LAGGED_DEFAULTS : {};
    this.options = { ...defaultOptions(options.terms), ...lagged, ...options };
    requireLength("weights", this.options.weights, options.terms);
    if (this.#isOnePair() && this.options.firstMoment !== "summed") throw new Error("M must be summed, too");
    const { lr, betas, eps, weightDecay, decoupledWeightDecay, maximize } = this.options;
    const groupDefaults = { lr, betas, eps, weightDecay, decoupledWeightDecay, maximize };

    const layers = numberLayers(tensors);
    this.#layerCount = new Set(layers).size;
    this.tensors = tensors.map(({ init, options: ownOptions }, tensor) => {
      const own = { ...groupDefaults, ...ownOptions };
      const shared = layers.filter((layer) => layer === at(layers, tensor)).length > 1;
      return newTensorState(init, { layer: at(layers, tensor), shared }, own, options.terms);
    });
    this.#movingNorms = table(options.terms, this.#layerCount, undefined);
    this.#squares = table(options.terms, tensors.length, undefined);
    this.#before = { norms: this.#movingNorms, squares: this.#squares };
    this.skipped = table(options.terms, this.#layerCount, 0);
    this.last = {
      norms: table(options.terms, this.#layerCount, NaN),
      scales: table(options.terms, this.#layerCount, NaN),
    };
    this.#checkBeta3();
  }

  /**
   * Continues with these averages, undefined where a pair never occurred: after the caller has set parameters, moments
   * and clocks to those of a saved state.
   *
   * @param norms n, [term][layer]
   * @param squares with `unit: "network"`: q, [term][tensor]
   */
  restoreAverages(norms: (number | undefined)[][], squares: (number | undefined)[][]): void {
    for (const [term, values] of norms.entries()) this.#movingNorms[term] = values;
    for (const [term, values] of squares.entries()) this.#squares[term] = values;
  }

  /** θ of every tensor. */
  get parameters(): Float64Array[] {
    return this.tensors.map((tensor) => tensor.parameters);
  }

  /** n, [term][layer]; NaN where the pair never occurred. */
  norms(): number[][] {
    return this.#movingNorms.map((norms) => norms.map((norm) => norm ?? NaN));
  }

  /**
   * s, [term][layer], with the norms as they are; NaN where the pair never occurred. Only for units that are layers.
   */
  scales(weights = this.options.weights): number[][] {
    return this.#movingNorms.map((norms, term) =>
      norms.map((norm, layer) =>
        norm === undefined ? NaN : this.#scale(term, layer, at(weights, term), this.#anchor(layer).norm),
      ),
    );
  }

  /**
   * The cosines between the gradients of the last step, [term][term][layer]: their dot product over the tensors where
   * both are present, divided by both norms. NaN if that is undefined.
   */
  cosines(): number[][][] {
    const terms = Array.from({ length: this.options.terms }, (_, term) => this.#lastStep[term]);
    const layers = Array.from({ length: this.#layerCount }, (_, layer) => layer);
    return terms.map((a) => terms.map((b) => layers.map((layer) => this.#cosine(a, b, layer))));
  }

  #cosine(a: Contribution | undefined, b: Contribution | undefined, layer: number): number {
    const norms = [a, b].map(
      (each) => this.#gradientNorms(each?.squares ?? [], this.#layers())[layer] ?? NaN,
    );
    if (a === undefined || b === undefined || !norms.every((norm) => norm > 0 && norm < Infinity)) return NaN;
    if (a === b) return 1;
    let dot = 0;
    for (const [index, tensor] of this.tensors.entries()) {
      const [x, y] = [at(a.gradients, index), at(b.gradients, index)];
      if (tensor.layer !== layer || x === null || y === null) continue;
      dot += x.reduce((sum, value, k) => sum + value * at(y, k), 0);
    }
    return Math.min(1, Math.max(-1, dot / norms.reduce((product, norm) => product * norm, 1)));
  }

  /** A whole step. Every norm is updated before any anchor is chosen. */
  step(gradients: readonly TermGradients[], call: CallOptions = {}): void {
    requireLength("gradients", gradients, this.options.terms);
    if (this.#termsOfOpenStep.size > 0) throw new Error("a step is open");

    this.#begin();
    const contributions = gradients.map((ofTerm, term) => this.#contribution(term, ofTerm, call));
    const former = this.#formerOfAll();
    const { admitted, skips } = this.#admit(contributions);
    if (this.options.nonFinite === "skipStep" && skips) {
      this.#restore(former);
      this.iterations++;
      this.#lastStep = [];
      return;
    }
    for (const contribution of admitted) this.#updateMoments(contribution);
    this.#storeSums();
    this.update();
    this.#lastStep = admitted;
  }

  /** One term of a step, balanced with the norms known by now. The parameters move in update(). */
  accumulate(term: number, gradients: TermGradients, call: CallOptions = {}): void {
    if (this.options.nonFinite === "skipStep") throw new Error("skipStep needs all terms at once");
    if (this.#termsOfOpenStep.has(term)) throw new Error(`term ${term} came twice in one step`);

    if (this.#termsOfOpenStep.size === 0) this.#begin();
    const contribution = this.#contribution(term, gradients, call);
    this.#termsOfOpenStep.add(term);
    for (const admitted of this.#admit([contribution]).admitted) this.#updateMoments(admitted);
    this.#storeSums();
  }

  /** Ends a step: the tensors in which some term was present move. */
  update(): void {
    for (const tensor of this.tensors) {
      if (tensor.present.length > 0) this.#move(tensor);
    }
    this.discard();
    this.iterations++;
  }

  /**
   * Ends a step in which no parameter moves; the changes of norms, clocks and the terms' own moments stay. If both
   * moments are summed, they and T have not changed.
   */
  discard(): void {
    for (const { present, gathered } of this.tensors) {
      present.length = 0;
      gathered.fill(0);
    }
    this.#termsOfOpenStep.clear();
    this.#lastStep = [];
  }

  /** What a step takes from the step before: the units and, for lagged scales, the norms. */
  #begin(): void {
    this.#units = this.#unitsNow();
    const copy = <T>(rows: readonly T[][]): T[][] => rows.map((row) => [...row]);
    this.#before = { norms: copy(this.#movingNorms), squares: copy(this.#squares) };
  }

  /** Step 1: the term's gradients and their norms r. */
  #contribution(term: number, gradients: TermGradients, call: CallOptions): Contribution {
    requireLength(`gradients of term ${term}`, gradients, this.tensors.length);
    const weights = call.weights ?? this.options.weights;
    requireLength("weights", weights, this.options.terms);
    const gradientScale = call.gradientScale ?? 1;

    const trueGradients = this.tensors.map(({ parameters, options }, tensor) => {
      const gradient = at(gradients, tensor);
      if (gradient === null) return null;
      requireLength(`gradient of term ${term} for tensor ${tensor}`, gradient, parameters.length);
      return trueGradient(gradient, gradientScale, options.maximize);
    });
    return {
      term,
      weight: at(weights, term),
      gradients: trueGradients,
      squares: trueGradients.map((gradient) => (gradient === null ? null : sumOfSquares(gradient))),
      gradientScale,
    };
  }

  /**
   * Steps 1 to 3 for terms that come together, and which of them count as not finite in which units. `skips`: whether
   * any of them does.
   */
  #admit(contributions: readonly Contribution[]): { admitted: Contribution[]; skips: boolean } {
    let skips = contributions.flatMap((contribution) => this.#countNonFinite(contribution)).length > 0;
    const admitted = contributions.map((contribution) => this.#withoutNonFinite(contribution));
    const former = this.#formerOfAll();
    for (const contribution of admitted) this.#updateNorms(contribution);
    const anchorNorms: (number | undefined)[] = [];
    for (const unit of [...new Set(this.#units)].sort((a, b) => a - b)) {
      // The network's unit comes last. "skipStep" does not look at it if it has another reason to skip the step.
      if (this.options.nonFinite === "skipStep" && skips && unit === this.#layerCount) continue;
      const withdraw = (index: number): void => {
        skips = true;
        admitted[index] = this.#withdraw(at(admitted, index), unit, former);
      };
      anchorNorms[unit] = this.#finiteAnchor(unit, admitted, withdraw);
      const tooLarge = [...admitted.keys()].filter((index) => {
        const contribution = at(admitted, index);
        const scale = this.#scale(contribution.term, unit, contribution.weight, anchorNorms[unit]);
        return this.#leavesFloat32(contribution, unit, scale);
      });
      for (const index of tooLarge) withdraw(index);
    }
    this.#anchorNorms = anchorNorms;
    return { admitted, skips };
  }

  /** Step 3, "Finite in, finite out": withdraws each anchor that leaves float32. The scale of an anchor is its weight. */
  #finiteAnchor(
    unit: number,
    contributions: readonly Contribution[],
    withdraw: (index: number) => void,
  ): number | undefined {
    for (;;) {
      const anchor = this.#anchor(unit);
      const index = contributions.findIndex(({ term }) => term === anchor.term);
      const contribution = contributions[index];
      if (contribution === undefined || !this.#leavesFloat32(contribution, unit, contribution.weight))
        return anchor.norm;
      withdraw(index);
    }
  }

  /**
   * "Finite in, finite out": whether a term, scaled by s, would leave float32 in a unit. False where it is absent, with
   * "propagate", and with lagged scales.
   */
  #leavesFloat32({ squares, gradientScale }: Contribution, unit: number, scale: number): boolean {
    const norm = this.#gradientNorms(squares, this.#units)[unit] ?? null;
    const { nonFinite, scales } = this.options;
    if (norm === null || nonFinite === "propagate" || scales === "lagged") return false;
    return !(scale * norm <= LARGEST_SCALED_NORM) || !Number.isFinite(Math.fround(scale / gradientScale));
  }

  /** Takes a term out of a unit, as if it had been absent, and counts this in the unit's layers where it was present. */
  #withdraw(contribution: Contribution, unit: number, former: readonly FormerNorms[]): Contribution {
    const { term, gradients, squares } = contribution;
    const inUnit = this.#units.map((other) => other === unit);
    const tensors = [...this.#units.keys()].filter((tensor) => at(inUnit, tensor));
    const layers = new Set(tensors.map((tensor) => at(this.tensors, tensor).layer));
    const present = tensors.filter((tensor) => at(squares, tensor) !== null);
    const counts = at(this.skipped, term);
    for (const layer of new Set(present.map((tensor) => at(this.tensors, tensor).layer)))
      counts[layer] = at(counts, layer) + 1;
    const all = at(former, term);
    this.#restoreTerm(term, {
      layers: all.layers.filter(({ layer }) => layers.has(layer)),
      tensors: all.tensors.filter(({ tensor }) => at(inUnit, tensor)),
    });
    return {
      ...contribution,
      gradients: gradients.map((gradient, tensor) => (at(inUnit, tensor) ? null : gradient)),
      squares: squares.map((square, tensor) => (at(inUnit, tensor) ? null : square)),
    };
  }

  /** The norms of every term. */
  #formerOfAll(): FormerNorms[] {
    return Array.from({ length: this.options.terms }, (_, term) => ({
      layers: at(this.#movingNorms, term).map((n, layer) => ({
        layer,
        n,
        r: at(at(this.last.norms, term), layer),
        s: at(at(this.last.scales, term), layer),
      })),
      tensors: at(this.#squares, term).map((q, tensor) => ({ tensor, q })),
    }));
  }

  #restore(former: readonly FormerNorms[]): void {
    for (const [term, norms] of former.entries()) this.#restoreTerm(term, norms);
  }

  #restoreTerm(term: number, { layers, tensors }: FormerNorms): void {
    for (const { layer, n, r, s } of layers) {
      at(this.#movingNorms, term)[layer] = n;
      at(this.last.norms, term)[layer] = r;
      at(this.last.scales, term)[layer] = s;
    }
    for (const { tensor, q } of tensors) at(this.#squares, term)[tensor] = q;
  }

  /** The layer of every tensor. */
  #layers(): number[] {
    return this.tensors.map(({ layer }) => layer);
  }

  /**
   * The unit of every tensor, a number, as things stand after the step before. With `unit: "network"`, tensors that
   * share a tag are a unit, and so are all others that at least two terms have reached; before any term has reached
   * any tensor, all others.
   */
  #unitsNow(): number[] {
    if (this.options.unit === "tensor") return this.#layers();
    const reached = this.tensors.map(({ terms }) => terms.filter(({ clock }) => clock.steps > 0).length);
    const start = reached.every((count) => count === 0);
    const network = this.#layerCount;
    return this.tensors.map(({ layer, shared }, tensor) =>
      !shared && (start || at(reached, tensor) >= 2) ? network : layer,
    );
  }

  /** Step 1: r = ‖g‖₂ over the tensors of each group where the term is present; null where it is in none. */
  #gradientNorms(squares: Contribution["squares"], groups: readonly number[]): (number | null)[] {
    const sums = Array.from({ length: this.#layerCount + 1 }, (): number | null => null);
    for (const [tensor, square] of squares.entries()) {
      const group = at(groups, tensor);
      if (square !== null) sums[group] = (sums[group] ?? 0) + square;
    }
    return sums.map((sum) => (sum === null ? null : Math.sqrt(sum)));
  }

  /**
   * The layers in which the term's gradient holds a NaN or an infinity. r shows it, since the squares of float32 values
   * cannot overflow here.
   */
  #countNonFinite({ term, squares }: Contribution): number[] {
    if (this.options.nonFinite === "propagate") return [];
    const norms = this.#gradientNorms(squares, this.#layers());
    const layers = [...norms.keys()].filter((layer) => isNonFinite(at(norms, layer)));
    const counts = at(this.skipped, term);
    for (const layer of layers) counts[layer] = at(counts, layer) + 1;
    return layers;
  }

  /**
   * With "skipTerm": the term counts as absent in the units where its gradient is not finite. With "skipElement": in the
   * layers where its gradient is not finite, if it is the term's first for one of the layer's tensors.
   */
  #withoutNonFinite(contribution: Contribution): Contribution {
    const { nonFinite } = this.options;
    if (nonFinite === "propagate") return contribution;
    const { term, gradients, squares } = contribution;
    const groups = nonFinite === "skipElement" ? this.#layers() : this.#units;
    const isFirst = groups.map(
      (_, tensor) =>
        at(squares, tensor) !== null && at(at(this.tensors, tensor).terms, term).clock.steps === 0,
    );
    const firsts = new Set(groups.filter((_, tensor) => nonFinite !== "skipElement" || at(isFirst, tensor)));
    const norms = this.#gradientNorms(squares, groups);
    const absent = groups.map((group) => isNonFinite(at(norms, group)) && firsts.has(group));
    return {
      ...contribution,
      gradients: gradients.map((gradient, tensor) => (at(absent, tensor) ? null : gradient)),
      squares: squares.map((square, tensor) => (at(absent, tensor) ? null : square)),
    };
  }

  /** Step 2: n of the term, in the units where it is present. */
  #updateNorms({ term, squares }: Contribution): void {
    this.#checkBeta3();
    const norms = this.#gradientNorms(squares, this.#units);
    for (const [unit, norm] of norms.entries()) {
      if (norm === null) continue;
      const tensors = [...this.#units.keys()].filter((tensor) => at(this.#units, tensor) === unit);
      const moved = this.#movedNorm(term, unit, norm, tensors, squares);
      for (const tensor of tensors) {
        const { layer } = at(this.tensors, tensor);
        at(this.last.norms, term)[layer] = norm;
        at(this.#movingNorms, term)[layer] = moved;
      }
    }
  }

  /**
   * Step 2 in one unit: n from r or, with `unit: "network"`, from the q of the unit's tensors. With "skipElement", an n
   * or q stays if its r is not finite.
   */
  #movedNorm(
    term: number,
    unit: number,
    norm: number,
    tensors: readonly number[],
    squares: Contribution["squares"],
  ): number {
    const rests = norm === 0 && this.options.silence === "rest";
    const skips = (square: number): boolean =>
      this.options.nonFinite === "skipElement" && isNonFinite(square);
    const beta3 = at(this.tensors, at(tensors, 0)).options.betas[2];
    if (this.options.unit === "tensor") {
      const previous = at(this.#movingNorms, term)[unit];
      return (rests || skips(norm)) && previous !== undefined
        ? previous
        : this.#movingAverage(previous, norm, beta3, 1);
    }
    const ofTerm = at(this.#squares, term);
    for (const tensor of tensors) {
      const square = at(squares, tensor);
      if (square === null || ((rests || skips(square)) && ofTerm[tensor] !== undefined)) continue;
      ofTerm[tensor] = this.#movingAverage(ofTerm[tensor], square, beta3, 2);
    }
    return this.#norm(term, unit) ?? 0;
  }

  /** n of a unit as it is now; undefined where the term never occurred in it. */
  #norm(term: number, unit: number, norms = this.#movingNorms, squares = this.#squares): number | undefined {
    if (this.options.unit === "tensor") return at(norms, term)[unit];
    const ofUnit = at(squares, term).filter((_, tensor) => at(this.#units, tensor) === unit);
    const occurred = ofUnit.filter((square) => square !== undefined);
    return occurred.length === 0 ? undefined : Math.sqrt(occurred.reduce((sum, square) => sum + square, 0));
  }

  /** The n that scales are computed from: if lagged, as it was before the open step, if it existed then. */
  #scalingNorm(term: number, unit: number): number | undefined {
    const now = this.#norm(term, unit);
    if (this.options.scales === "current") return now;
    return this.#norm(term, unit, this.#before.norms, this.#before.squares) ?? now;
  }

  /**
   * Step 2: the sample the first time, then β₃·previous + (1−β₃)·sample; or so from the first time on, from
   * `initialNorm` to the power of the samples: 1 for norms, 2 for their squares. With "rest", 0 starts no average.
   */
  #movingAverage(previous: number | undefined, sample: number, beta3: number, power: number): number {
    let start = previous === 0 && this.options.silence === "rest" ? undefined : previous;
    if (start === undefined) {
      if (this.options.initialNorm === "first") return sample;
      start = this.options.initialNorm ** power;
    }
    return beta3 * start + (1 - beta3) * sample;
  }

  /**
   * Step 3: n of the anchor, and its term unless it is the mean; undefined where no term that occurred in the unit is
   * above the floor.
   */
  #anchor(unit: number): { norm: number | undefined; term?: number } {
    const norms = Array.from({ length: this.options.terms }, (_, term) => this.#scalingNorm(term, unit));
    const qualified = norms.filter(isAboveFloor);
    const { anchor } = this.options;
    if (qualified.length === 0) return { norm: undefined };
    if (anchor === "mean") return { norm: geometricMean(qualified) };
    let norm = anchor === "max" ? Math.max(...qualified) : qualified[0];
    if (typeof anchor === "number" && isAboveFloor(norms[anchor])) norm = norms[anchor];
    const term = typeof anchor === "number" && norm === norms[anchor] ? anchor : norms.indexOf(norm);
    return { norm, term };
  }

  /** Step 4: s = w·(n_a/n_i)ᵖ; 1 without any weight below the floor; always 0 for a weight of 0. */
  #scale(term: number, unit: number, weight: number, anchorNorm: number | undefined): number {
    if (weight === 0) return 0;
    const norm = this.#scalingNorm(term, unit);
    if (!isAboveFloor(norm) || anchorNorm === undefined) return 1;
    return weight * (anchorNorm / norm) ** this.options.balance;
  }

  /** Steps 5 and 6, in every tensor where the term is present. */
  #updateMoments({ term, weight, gradients }: Contribution): void {
    const present = new Set(this.#units.filter((_, tensor) => at(gradients, tensor) !== null));
    for (const [index, gradient] of gradients.entries()) {
      const unit = at(this.#units, index);
      if (!present.has(unit)) continue;
      const tensor = at(this.tensors, index);
      const scale = this.#scale(term, unit, weight, this.#anchorNorms[unit]);
      at(this.last.scales, term)[tensor.layer] = scale;
      if (gradient === null) continue;
      const rests = new Set(this.#restingElements(gradient, scale));
      if (this.#isOnePair()) {
        this.#gather(
          tensor,
          term,
          scale,
          gradient.map((value, k) => (rests.has(k) ? 0 : value)),
        );
      } else {
        const balanced = balancedGradient(gradient, scale, tensor);
        for (const k of rests) balanced[k] = 0;
        if (this.options.firstMoment === "perTerm") this.#updatePerTerm(tensor, term, balanced, rests);
        else this.#updateSummed(tensor, term, balanced, rests);
      }
      tensor.present.push({ term, weight });
    }
  }

  /** With "skipElement": the elements whose m and v stay as they are, since s·g is not finite or too large. */
  #restingElements(gradient: Float64Array, scale: number): number[] {
    if (this.options.nonFinite !== "skipElement") return [];
    // The comparison is written so that NaN rests.
    return [...gradient.keys()].filter((k) => !(Math.abs(scale * at(gradient, k)) <= LARGEST_ELEMENT));
  }

  /** Step 6. */
  #updatePerTerm(
    tensor: TensorState,
    term: number,
    balanced: Float64Array,
    rests: ReadonlySet<number>,
  ): void {
    const { options, terms } = tensor;
    const [beta1, beta2] = options.betas;
    const { m, v, x, clock } = at(terms, term);
    advance(clock, beta1, beta2);
    average(m, beta1, balanced, rests);
    average(v, beta2, squared(balanced), rests);
    this.store?.(tensor, term, "m", m);
    this.store?.(tensor, term, "v", v);
    if (this.options.amsgrad) raise(x, v);
  }

  /** Step 6, summed: M fades and T advances once per step, with its first term; v and t are the term's. */
  #updateSummed(tensor: TensorState, term: number, balanced: Float64Array, rests: ReadonlySet<number>): void {
    const { options, terms, summed, present } = tensor;
    const [beta1, beta2] = options.betas;
    if (present.length === 0) {
      advance(summed.clock, beta1, beta2);
      multiply(summed.M, beta1);
    }
    addMultiple(summed.M, 1 - beta1, balanced);

    const { v, clock } = at(terms, term);
    advance(clock, beta1, beta2);
    average(v, beta2, squared(balanced), rests);
    this.store?.(tensor, term, "v", v);
    if (this.options.amsgrad) raise(summed.x, v);
  }

  /** M changes with every term of a call, and is stored once. */
  #storeSums(): void {
    if (this.options.firstMoment !== "summed" || this.#isOnePair()) return;
    for (const tensor of this.tensors) {
      if (tensor.present.length > 0) this.store?.(tensor, null, "m", tensor.summed.M);
    }
  }

  #isOnePair(): boolean {
    return this.options.secondMoment === "summed";
  }

  /** Step 5, both moments summed: G ← G + s·g, without decay. Of the term, only the clock advances. */
  #gather(
    { options, terms, gathered }: TensorState,
    term: number,
    scale: number,
    gradient: Float64Array,
  ): void {
    addMultiple(gathered, scale, gradient);
    advance(at(terms, term).clock, options.betas[0], options.betas[1]);
  }

  /** Steps 5 and 6, both moments summed: λ·θ enters once, and then Adam's moments are those of G. */
  #updatePair(tensor: TensorState): void {
    const { options, summed, gathered } = tensor;
    const [beta1, beta2] = options.betas;
    const balanced = balancedGradient(gathered, 1, tensor);
    advance(summed.clock, beta1, beta2);
    average(summed.M, beta1, balanced);
    average(summed.V, beta2, squared(balanced));
    this.store?.(tensor, null, "m", summed.M);
    this.store?.(tensor, null, "v", summed.V);
    if (this.options.amsgrad) raise(summed.x, summed.V);
  }

  /** Step 7: θ ← θ − numerator / denominator, shortened by W, and less the decoupled decay lr·λ·θ. */
  #move(tensor: TensorState): void {
    if (this.#isOnePair()) this.#updatePair(tensor);
    const { parameters } = tensor;
    const { lr, weightDecay, decoupledWeightDecay } = tensor.options;
    const numerator = this.#stepNumerator(tensor);
    const denominator = this.#stepDenominator(tensor);
    const shortening = this.options.stepScale === "mean" ? meanDivisor(tensor) : 1;
    const decay = decoupledWeightDecay ? lr * weightDecay : 0;
    parameters.forEach((value, k) => {
      const adamStep = at(numerator, k) / at(denominator, k) / shortening;
      parameters[k] = value - (decay * value + adamStep);
    });
  }

  /** Step 7: Σᵢ (lr/(1−β₁^tᵢ))·mᵢ over the terms present; summed: (lr/(1−β₁ᵀ))·M. */
  #stepNumerator({ options, parameters, terms, summed, present }: TensorState): Float64Array {
    const sum = new Float64Array(parameters.length);
    if (this.options.firstMoment === "summed") {
      addMultiple(sum, options.lr / (1 - summed.clock.beta1Product), summed.M);
      return sum;
    }
    for (const { term } of present) {
      const { m, clock } = at(terms, term);
      addMultiple(sum, options.lr / (1 - clock.beta1Product), m);
    }
    return sum;
  }

  /**
   * Step 7: maxᵢ(√vᵢ/√(1−β₂^tᵢ) + ε), with x in the place of v under amsgrad. Over the terms present; in the
   * summed form over every term that has occurred, since M still holds the momentum of those absent now.
   * Summed amsgrad has one x for all terms, which is corrected with the clock T, as is V.
   */
  #stepDenominator({ options, parameters, terms, summed, present }: TensorState): Float64Array {
    const { amsgrad, firstMoment } = this.options;
    const shared = amsgrad ? summed.x : summed.V;
    const largest = new Float64Array(parameters.length);
    const include = (second: Float64Array, clock: Clock): void => {
      const correction = Math.sqrt(1 - clock.beta2Product);
      largest.forEach((value, k) => {
        largest[k] = Math.max(value, Math.sqrt(at(second, k)) / correction + options.eps);
      });
    };
    if (this.#isOnePair() || (firstMoment === "summed" && amsgrad)) include(shared, summed.clock);
    else if (firstMoment === "summed") {
      for (const { v, clock } of terms) if (clock.steps > 0) include(v, clock);
    } else {
      for (const { term } of present) {
        const { v, x, clock } = at(terms, term);
        include(amsgrad ? x : v, clock);
      }
    }
    return largest;
  }

  /** Tensors that may be balanced together must have the same β₃, since they share one average n. */
  #checkBeta3(): void {
    const betas: number[] = [];
    for (const { layer, shared, options } of this.tensors) {
      const group = this.options.unit === "network" && !shared ? this.#layerCount : layer;
      const beta3 = options.betas[2];
      if ((betas[group] ?? beta3) !== beta3) throw new Error(`β₃ differs inside layer ${layer}`);
      betas[group] = beta3;
    }
  }
}

/** Before step 1: the gradient of the loss itself, or of its negative where that is to be maximized. */
function trueGradient(gradient: ArrayLike<number>, gradientScale: number, maximize: boolean): Float64Array {
  const sign = maximize ? -1 : 1;
  return Float64Array.from(gradient, (value) => (sign * value) / gradientScale);
}

/** Step 5: ĝ = s·g + λ·θ; λ only where decay is coupled. */
function balancedGradient(
  gradient: Float64Array,
  scale: number,
  { parameters, options }: TensorState,
): Float64Array {
  const decay = options.decoupledWeightDecay ? 0 : options.weightDecay;
  return gradient.map((value, k) =>
    decay === 0 ? scale * value : scale * value + decay * at(parameters, k),
  );
}

/** Step 7, `stepScale: "mean"`: W = Σw / max w over the terms present; 1 where all weights are 0. */
function meanDivisor({ present }: TensorState): number {
  const weights = present.map(({ weight }) => weight);
  const largest = Math.max(...weights);
  return largest === 0 ? 1 : weights.reduce((sum, weight) => sum + weight, 0) / largest;
}

/** Step 3, `anchor: "mean"`. */
function geometricMean(norms: readonly number[]): number {
  return Math.exp(norms.reduce((sum, norm) => sum + Math.log(norm), 0) / norms.length);
}

function isAboveFloor(norm: number | undefined): norm is number {
  return norm !== undefined && norm > NORM_FLOOR;
}

function isNonFinite(norm: number | null): boolean {
  return norm !== null && !Number.isFinite(norm);
}

/** The layer of every tensor, numbered in order of first appearance. */
function numberLayers(tensors: readonly OracleTensor[]): number[] {
  const numbers = new Map<string | number | symbol, number>();
  return tensors.map(({ layer: tag }) => {
    const layer = tag ?? Symbol("a layer of its own");
    const number = numbers.get(layer) ?? numbers.size;
    numbers.set(layer, number);
    return number;
  });
}

function newTensorState(
  init: ArrayLike<number>,
  place: Pick<TensorState, "layer" | "shared">,
  options: GroupOptions,
  termCount: number,
): TensorState {
  const zeros = (): Float64Array => new Float64Array(init.length);
  const newTermState = (): TermState => ({ m: zeros(), v: zeros(), x: zeros(), clock: newClock() });
  return {
    ...place,
    options,
    parameters: Float64Array.from(init),
    terms: Array.from({ length: termCount }, newTermState),
    summed: { M: zeros(), V: zeros(), x: zeros(), clock: newClock() },
    gathered: zeros(),
    present: [],
  };
}

function newClock(): Clock {
  return { steps: 0, beta1Product: 1, beta2Product: 1 };
}

/** t ← t + 1 */
function advance(clock: Clock, beta1: number, beta2: number): void {
  clock.steps++;
  clock.beta1Product *= beta1;
  clock.beta2Product *= beta2;
}

function sumOfSquares(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}

function squared(values: Float64Array): Float64Array {
  return values.map((value) => value * value);
}

/** target ← β·target + (1−β)·sample, except for the elements that rest */
function average(
  target: Float64Array,
  beta: number,
  sample: Float64Array,
  rests: ReadonlySet<number> = new Set(),
): void {
  target.forEach((value, k) => {
    if (!rests.has(k)) target[k] = beta * value + (1 - beta) * at(sample, k);
  });
}

function multiply(target: Float64Array, factor: number): void {
  target.forEach((value, k) => (target[k] = factor * value));
}

function addMultiple(target: Float64Array, factor: number, values: Float64Array): void {
  target.forEach((value, k) => (target[k] = value + factor * at(values, k)));
}

/** x ← v > x ? v : x, as docs/algorithm.md has it and not Math.max: a NaN in v leaves x. */
function raise(x: Float64Array, v: Float64Array): void {
  v.forEach((value, k) => {
    if (value > at(x, k)) x[k] = value;
  });
}

function table<T>(rows: number, columns: number, value: T): T[][] {
  return Array.from({ length: rows }, () => Array.from({ length: columns }, () => value));
}

/** The element at an index that must exist; a NaN from beyond the end would hide the error's origin. */
function at<T>(list: ArrayLike<T>, index: number): T {
  const element = list[index];
  if (element === undefined) throw new RangeError(`no element ${index} among ${list.length}`);
  return element;
}

function requireLength(what: string, list: ArrayLike<unknown>, length: number): void {
  if (list.length !== length) throw new RangeError(`${what}: ${length} expected, ${list.length} came`);
}
