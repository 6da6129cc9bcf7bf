import type { LearningRate, StateDict } from "../../../lib";
import {
  Oracle,
  type CallOptions,
  type GroupOptions,
  type OracleOptions,
  type TensorState,
  type TermGradients,
} from "../oracle";

/** What is fixed when an optimizer is made. */
export type Fixed = Omit<OracleOptions, keyof GroupOptions | "terms" | "weights" | "anchor"> & {
  anchor: string;
  cosines: boolean;
  stateDtype: "float32" | "bfloat16" | "8bit";
  seed: bigint;
  gradientDtype: "float32" | "bfloat16";
  masterWeights: boolean;
  rounding: "stochastic" | "nearest";
};

export type Group = Omit<GroupOptions, "lr"> & { lr: number | LearningRate };

/** Tensors of at least this length may have lean moments. */
export const LEAN_LENGTH = 4096;

export interface TensorPlace {
  readonly name: string;
  readonly length: number;
  readonly layer: string | undefined;
  readonly group: number;
  readonly dtype: "float32" | "bfloat16";
}

/** The shadow disagrees with the optimizer. */
export class Disagreement extends Error {}

/** Of float32, half a unit in the last place. */
const ROUNDING = 2 ** -24;

/** Roundings that may fall on one value in one step: about ten operators, some of values that were rounded before. */
const ROUNDINGS = 24;

/** For sums and averages in float64, whose order differs. */
const FLOAT64 = 1e-10;

/**
 * The sizes of what is added up in a step. Where terms cancel, the result is smaller than the rounding errors of its
 * parts, so that the tolerances are relative to the parts.
 */
interface Sizes {
  /** Of θ: the roundings of the steps so far, already as a tolerance. */
  parameters: Float64Array;
  /** Of m and v, by term; with summed first moments, M is under the number of terms. */
  m: Float64Array[];
  v: Float64Array[];
}

/** The oracle, with tolerances for float32. */
class MeasuredOracle extends Oracle {
  readonly sizes: readonly Sizes[];
  /** Steps and discarded steps since the last comparison. */
  steps = 0;

  constructor(...given: ConstructorParameters<typeof Oracle>) {
    super(...given);
    this.sizes = this.tensors.map(({ parameters, terms }) => {
      const zeros = (): Float64Array => new Float64Array(parameters.length);
      return {
        parameters: zeros(),
        m: Array.from({ length: terms.length + 1 }, zeros),
        v: terms.map(zeros),
      };
    });
  }

  compared(): void {
    this.steps = 0;
    for (const { parameters, m, v } of this.sizes)
      for (const values of [parameters, ...m, ...v]) values.fill(0);
  }

  override update(): void {
    this.steps += 1;
    for (const [index, tensor] of this.tensors.entries()) this.#measure(tensor, this.sizes[index]!, true);
    super.update();
  }

  override discard(): void {
    this.steps += 1;
    for (const [index, tensor] of this.tensors.entries()) this.#measure(tensor, this.sizes[index]!, false);
    super.discard();
  }

  #measure(tensor: TensorState, sizes: Sizes, moves: boolean): void {
    const { parameters, terms, summed, present, options } = tensor;
    const { lr, betas, eps, weightDecay, decoupledWeightDecay } = options;
    const [beta1, beta2] = betas;
    const { amsgrad, firstMoment } = this.options;
    const isSummed = firstMoment === "summed";
    if (present.length === 0) return;
    const { length } = parameters;
    const [one1, root2] = [1 - beta1, Math.sqrt(1 - beta2)];
    const decay = decoupledWeightDecay ? 0 : 2 * weightDecay;
    const [numerator, denominator, gradients, spread] = [0, 1, 2, 3].map(() => new Float64Array(length)) as [
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    for (const { term } of present) {
      const { m, v, x, clock } = terms[term]!;
      const [sizeM, sizeV] = [sizes.m[term]!, sizes.v[term]!];
      const correction = Math.sqrt(1 - clock.beta2Product);
      const second = !amsgrad ? v : isSummed ? summed.x : x;
      for (let k = 0; k < length; ++k) {
        const root = Math.sqrt(v[k]!);
        const rootSize = root + root2 * decay * Math.abs(parameters[k]!);
        const gradient = (one1 * rootSize) / root2;
        const size = Math.abs(m[k]!) + gradient;
        // Coupled decay carries the error of θ into the moments, which matters where θ is near 0.
        const error = decay * sizes.parameters[k]!;
        const square = (root + root2 * error) ** 2 - root * root;
        sizeM[k] = Math.max(sizeM[k]!, size + (one1 * error) / (ROUNDINGS * ROUNDING));
        sizeV[k] = Math.max(sizeV[k]!, rootSize * rootSize + square / (ROUNDINGS * ROUNDING));
        const own = Math.sqrt(second[k]!) / correction + eps;
        denominator[k] = Math.max(denominator[k]!, own);
        if (root > 0) spread[k] = Math.max(spread[k]!, (rootSize * rootSize) / root / correction / own);
        gradients[k]! += gradient;
        numerator[k]! += size / (1 - clock.beta1Product);
      }
    }
    const last = sizes.m.at(-1)!;
    for (let k = 0; k < length; ++k) {
      if (isSummed) {
        const size = Math.abs(summed.M[k]!) + gradients[k]!;
        last[k] = Math.max(last[k]!, size);
        numerator[k] = size / (1 - summed.clock.beta1Product);
      }
      if (!moves) continue;
      const moved = (lr * numerator[k]! * (1 + spread[k]!)) / denominator[k]!;
      sizes.parameters[k]! += ROUNDINGS * ROUNDING * (Math.abs(parameters[k]!) + this.steps * moved);
    }
  }
}

/** What the optimizer should hold, in float64. It follows every call that is accepted. */
export class Shadow {
  readonly fixed: Fixed;
  terms: string[];
  weights: number[];
  tensors: TensorPlace[];
  groups: Group[];
  /** The terms of the open step; undefined: none is open. */
  open: Set<number> | undefined;
  #openWeights: number[] = [];
  #oracle: MeasuredOracle;

  constructor(
    fixed: Fixed,
    names: { terms: string[]; weights: number[] },
    places: { tensors: TensorPlace[]; groups: Group[] },
    init: readonly ArrayLike<number>[],
  ) {
    this.fixed = fixed;
    this.terms = names.terms;
    this.weights = names.weights;
    this.tensors = places.tensors;
    this.groups = places.groups;
    this.#oracle = this.#makeOracle(init);
  }

  get iterations(): number {
    return this.#oracle.iterations;
  }

  /** Since the last comparison. */
  get steps(): number {
    return this.#oracle.steps;
  }

  #makeOracle(init: readonly ArrayLike<number>[]): MeasuredOracle {
    const { anchor, ...fixed } = this.fixed;
    const term = this.terms.indexOf(anchor);
    const tensors = this.tensors.map(({ layer, name }, index) => ({
      init: init[index]!,
      layer: layer ?? name,
    }));
    const options: Partial<OracleOptions> & { terms: number } = {
      ...fixed,
      terms: this.terms.length,
      weights: this.weights,
      anchor: term < 0 ? (anchor as "first" | "max" | "mean") : term,
    };
    const oracle = new MeasuredOracle(tensors, options);
    this.#setOptions(oracle);
    return oracle;
  }

  #setOptions(oracle: MeasuredOracle): void {
    for (const [index, { group }] of this.tensors.entries()) {
      const options = this.groups[group]!;
      const lr = typeof options.lr === "number" ? options.lr : options.lr(oracle.iterations);
      Object.assign(oracle.tensors[index]!.options, { ...options, lr, betas: [...options.betas] });
    }
  }

  /** @param weights of this call, by term; those left out are the optimizer's */
  step(
    gradients: readonly TermGradients[],
    { weights = this.weights, gradientScale = 1 }: CallOptions,
  ): void {
    this.#setOptions(this.#oracle);
    this.#oracle.step(gradients, { weights, gradientScale });
  }

  accumulate(term: number, gradients: TermGradients, { weights, gradientScale = 1 }: CallOptions): void {
    if (this.open === undefined) {
      this.#setOptions(this.#oracle);
      this.open = new Set();
      this.#openWeights = [...this.weights];
    }
    this.#oracle.accumulate(term, gradients, { weights: weights ?? this.#openWeights, gradientScale });
    this.open.add(term);
  }

  /** The weights of a call that names only some: those of the open step. */
  get defaultWeights(): readonly number[] {
    return this.open === undefined ? this.weights : this.#openWeights;
  }

  update(): void {
    this.open = undefined;
    this.#oracle.update();
  }

  discard(): void {
    this.open = undefined;
    this.#oracle.discard();
  }

  get #isOnePair(): boolean {
    return this.fixed.secondMoment === "summed";
  }

  #isLean(index: number): boolean {
    return this.fixed.stateDtype !== "float32" && this.tensors[index]!.length >= LEAN_LENGTH;
  }

  /**
   * Where both moments are summed, terms may cancel in G, which leaves no tolerance for V and θ; and the moments of a lean
   * tensor and parameters of 16 bits are rounded. The twin's bits check these, and with other models
   * test/api/oracle-test.ts, test/cpu/lean-state-test.ts and test/api/narrow-parameters-test.ts.
   */
  #isMeasured(index: number): boolean {
    return !this.#isOnePair && !this.#isLean(index) && this.tensors[index]!.dtype === "float32";
  }

  /** @throws Disagreement */
  compareParameters(parameters: readonly Float32Array[]): void {
    for (const [index, { name }] of this.tensors.entries()) {
      if (!this.#isMeasured(index)) continue;
      const { parameters: expected } = this.#oracle.tensors[index]!;
      compare(`θ of ${name}`, parameters[index]!, expected, this.#oracle.sizes[index]!.parameters);
    }
  }

  /** @throws Disagreement */
  compareState(state: StateDict): void {
    const { metadata } = state;
    const oracle = this.#oracle;
    equal("iterations", metadata.iterations, oracle.iterations);
    equal("terms", metadata.terms, this.terms);
    equal("weights", metadata.options.weights, this.weights);
    equal(
      "groups",
      metadata.groups,
      this.groups.map(({ lr, ...group }) => ({ ...group, lr: typeof lr === "number" ? lr : null })),
    );
    equal("skipped", Array.from(state["skipped"] as BigInt64Array, Number), oracle.skipped.flat());
    const norms = oracle.norms().flat();
    const occurred = Array.from(state["occurred"] as Uint8Array, Boolean);
    if (this.fixed.nonFinite !== "propagate") {
      equal(
        "occurred",
        occurred,
        norms.map((norm) => !Number.isNaN(norm)),
      );
    }
    const expected = norms.map((norm, at) => (occurred[at]! ? norm : 0));
    compare(
      "n",
      state["n"] as Float64Array,
      expected,
      expected.map((norm) => FLOAT64 * Math.abs(norm)),
    );
    for (const [index, tensor] of oracle.tensors.entries()) this.#compareTensor(state, index, tensor);
  }

  #compareTensor(state: StateDict, index: number, tensor: TensorState): void {
    const { sizes, steps } = this.#oracle;
    const size = sizes[index]!;
    const relative = ROUNDINGS * ROUNDING * Math.max(1, steps);
    const scaled = (values: Float64Array): Float64Array => values.map((value) => relative * value);
    const { name } = this.tensors[index]!;
    const isSummed = this.fixed.firstMoment === "summed";
    for (const [term, { m, v, x, clock }] of tensor.terms.entries()) {
      const at = term * this.tensors.length + index;
      const key = `${term}.${index}`;
      const what = `of ${this.terms[term]}, ${name}`;
      equal(`t ${what}`, Number((state["t"] as BigInt64Array)[at]), clock.steps);
      const products = Float64Array.of(
        (state["P1"] as Float64Array)[at]!,
        (state["P2"] as Float64Array)[at]!,
      );
      const expected = Float64Array.of(clock.beta1Product, clock.beta2Product);
      compare(`P ${what}`, products, expected, Float64Array.of(FLOAT64, FLOAT64));
      if (!this.#isMeasured(index)) continue;
      compare(`v ${what}`, state[`v.${key}`] as Float32Array, v, scaled(size.v[term]!));
      if (isSummed) continue;
      compare(`m ${what}`, state[`m.${key}`] as Float32Array, m, scaled(size.m[term]!));
      if (this.fixed.amsgrad)
        compare(`x ${what}`, state[`x.${key}`] as Float32Array, x, scaled(size.v[term]!));
    }
    if (!isSummed) return;
    const { M, x, clock } = tensor.summed;
    equal(`T of ${name}`, Number((state["T"] as BigInt64Array)[index]), clock.steps);
    if (!this.#isMeasured(index)) return;
    compare(`M of ${name}`, state[`M.${index}`] as Float32Array, M, scaled(size.m.at(-1)!));
    if (!this.fixed.amsgrad) return;
    const largest = x.map((_, k) => Math.max(...size.v.map((values) => values[k]!)));
    compare(`x of ${name}`, state[`x.${index}`] as Float32Array, x, scaled(largest));
  }

  /** Continues from the optimizer's own values, so that differences do not add up. */
  follow(state: StateDict, parameters: readonly Float32Array[]): void {
    const { metadata } = state;
    const isSame =
      metadata.terms.length === this.#oracle.options.terms &&
      this.#oracle.tensors.length === this.tensors.length;
    if (!isSame) this.#oracle = this.#makeOracle(parameters);
    const oracle = this.#oracle;
    const count = this.tensors.length;
    const layers = metadata.layers.length;
    oracle.iterations = metadata.iterations;
    for (const [index, tensor] of oracle.tensors.entries()) {
      tensor.parameters.set(parameters[index]!);
      const isLean = this.#isLean(index);
      for (const [term, { m, v, x, clock }] of tensor.terms.entries()) {
        const key = `${term}.${index}`;
        setClock(clock, state, ["t", "P1", "P2"], term * count + index);
        if (isLean) continue;
        if (!this.#isOnePair) v.set(state[`v.${key}`] as Float32Array);
        if (this.fixed.firstMoment === "perTerm") m.set(state[`m.${key}`] as Float32Array);
        if (this.fixed.firstMoment === "perTerm" && this.fixed.amsgrad)
          x.set(state[`x.${key}`] as Float32Array);
      }
      if (this.fixed.firstMoment !== "summed") continue;
      setClock(tensor.summed.clock, state, ["T", "T.P1", "T.P2"], index);
      if (isLean) continue;
      tensor.summed.M.set(state[`M.${index}`] as Float32Array);
      if (this.#isOnePair) tensor.summed.V.set(state[`V.${index}`] as Float32Array);
      if (this.fixed.amsgrad) tensor.summed.x.set(state[`x.${index}`] as Float32Array);
    }
    const [n, occurred] = [state["n"] as Float64Array, state["occurred"] as Uint8Array];
    const [q, t] = [state["q"] as Float64Array | undefined, state["t"] as BigInt64Array];
    const table = <T>(columns: number, value: (at: number) => T): T[][] =>
      this.terms.map((_, term) =>
        Array.from({ length: columns }, (_, column) => value(term * columns + column)),
      );
    oracle.restoreAverages(
      table(layers, (at) => (occurred[at] === 0 ? undefined : n[at])),
      table(count, (at) => (q === undefined || t[at] === 0n ? undefined : q[at])),
    );
    const skipped = state["skipped"] as BigInt64Array;
    for (const [term, counts] of table(layers, (at) => Number(skipped[at])).entries()) {
      oracle.skipped[term]!.splice(0, layers, ...counts);
    }
    oracle.options.weights = this.weights;
    oracle.compared();
  }
}

function setClock(
  clock: { steps: number; beta1Product: number; beta2Product: number },
  state: StateDict,
  [t, P1, P2]: [string, string, string],
  at: number,
): void {
  clock.steps = Number((state[t] as BigInt64Array)[at]);
  clock.beta1Product = (state[P1] as Float64Array)[at]!;
  clock.beta2Product = (state[P2] as Float64Array)[at]!;
}

function equal(what: string, actual: unknown, expected: unknown): void {
  const [a, b] = [actual, expected].map((value) => JSON.stringify(sorted(value)));
  if (a !== b) throw new Disagreement(`${what}: ${a}, and the shadow has ${b}`);
}

/** With an object's keys in order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, sorted(one)]),
  );
}

/** The largest error found so far, as a part of its tolerance. */
export const worst = { ratio: 0, what: "" };

/** Below this, moments are flushed to 0 in float32. */
const SMALLEST = 2 ** -126;

function compare(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: ArrayLike<number>,
): void {
  if (actual.length !== expected.length) throw new Disagreement(`${what}: ${actual.length} elements`);
  for (let k = 0; k < expected.length; ++k) {
    const [value, wanted] = [actual[k]!, expected[k]!];
    if (value === wanted || Object.is(value, wanted)) continue;
    const error = Math.abs(value - wanted);
    const allowed = tolerance[k]! + SMALLEST;
    if (error <= allowed) {
      if (error / allowed > worst.ratio) Object.assign(worst, { ratio: error / allowed, what });
      continue;
    }
    // Parts that are not finite leave no tolerance.
    if (Number.isNaN(allowed) && error <= 1e-3 * (1 + Math.abs(wanted))) continue;
    throw new Disagreement(`${what}, element ${k}: ${value}, and the shadow has ${wanted} ± ${allowed}`);
  }
}
