import { checkKeys } from "./arguments";
import { mustBe, MTAdamError } from "./errors";
import { isArray } from "./inspect";
import { isCommunicator, type Communicator } from "./distributed/communicator";
import type { Device } from "./memory/device";
import type { GradientDtype } from "./memory/dtype";
import { Names, type ByName } from "./per-name";
import type { StreamLike } from "./memory/stream";
import { ANCHORS, checkTerms } from "./term-names";

/** A learning-rate schedule: called once per step with the number of completed steps. */
export type LearningRate = (iterations: number) => number;

/** Options that each parameter group may set for itself and change between steps. */
export interface GroupOptions {
  /** Learning rate, at least 0. */
  lr: number | LearningRate;
  /**
   * β₁ and β₂ in [0, 1), the decay rates of the first and second moments; β₃ in [0, 1], that of the gradient norms. On
   * MNIST, β₃ = 0.999 came closest to well-chosen weights, but not in every experiment (docs/balancing).
   */
  betas: readonly [number, number, number];
  /** ε, added to the denominator in step 7; greater than 0. */
  eps: number;
  /**
   * Weight decay λ, at least 0. λ·θ is added to the gradient of every present term after balancing, with
   * `secondMoment: "summed"` once, to the sum of the gradients.
   */
  weightDecay: number;
  /** Decay the parameters once per step, as AdamW does, instead of adding λ·θ to gradients. */
  decoupledWeightDecay: boolean;
  /** Maximize the losses: gradients are negated. */
  maximize: boolean;
}

/** A weight per term, in order or by name; finite and at least 0. */
export type Weights<Term extends string = string> = readonly number[] | ByName<Term, number>;

/** The norm that a layer's terms are scaled to: "first", "max", "mean" or the name of a term. */
export type Anchor<Term extends string = string> = "first" | "max" | "mean" | Term;

/** Names that are checked against those inferred elsewhere, and not inferred here. */
type Given<Name extends string> = [Name][Name extends unknown ? 0 : never];

/** The types that moments can have. */
export type StateDtype = "float32" | "bfloat16" | "8bit";

/** Options of the optimizer as a whole. */
export interface OptimizerOptions<Term extends string = string> {
  /** The names of the loss terms, or their number; they are then named "0", "1", … */
  terms: number | readonly Term[];
  /** Weights w of the terms (step 4), 1 by default. With 0, a term's gradient moves nothing; its norms are averaged. */
  weights?: Weights<Given<Term>> | undefined;
  /** Divide by the largest second moment so far, as the AMSGrad variant of Adam. */
  amsgrad?: boolean | undefined;
  /**
   * Named settings. An option that is also given by itself takes precedence. "paper" (default): the defaults described
   * here. "recommended": `unit: "network"`, `anchor: "max"`, `silence: "rest"` and `betas: [0.9, 0.999, 0.999]`, which
   * balanced better in our experiments (docs/balancing).
   */
  preset?: "paper" | "recommended" | undefined;
  /**
   * The tensors that are balanced together:
   * - "tensor", as in the reference implementation: each tensor by itself
   * - "network": all tensors without a shared `layer` tag that at least two terms have reached; every other tensor by itself
   *
   * Tensors that share a `layer` tag are a unit of their own in both.
   */
  unit?: "tensor" | "network" | undefined;
  /**
   * The norm average of a term whose gradient is exactly 0 in a whole layer (unit): "decay", as in the reference
   * implementation, averages the 0; "rest" keeps the average, so that the term returns with its old scale.
   */
  silence?: "decay" | "rest" | undefined;
  /**
   * The norm averages that scale a step (step 4): "current", as in the reference implementation: with the norms of this
   * step; "lagged": as they were after the step before, if they existed then. "lagged" needs β₃ of at least 0.99, since a
   * term whose norm jumps keeps its old scale for one step; it changes the defaults of `silence` to "rest" and of
   * `nonFinite` to "skipElement".
   */
  scales?: "current" | "lagged" | undefined;
  /**
   * "perTerm", as in the paper: a first moment for each of the I terms, 2·I values of state per parameter element;
   * "summed": one first moment for all terms, I + 1 values.
   */
  firstMoment?: "perTerm" | "summed" | undefined;
  /**
   * "perTerm": a second moment for each term; "summed", only with `firstMoment: "summed"`: one for all terms, so that a
   * step is Adam's with the sum of the balanced gradients, and the state has 2 values per parameter element for any
   * number of terms. `accumulate` and `stepEach` need a third, which the first such call allocates.
   */
  secondMoment?: "perTerm" | "summed" | undefined;
  /**
   * The type of the moments of every parameter with at least 4,096 elements; smaller ones keep float32:
   * - "float32": 4 bytes each
   * - "bfloat16": 2 bytes; second moments are rounded up or down at random, so that small changes are not lost
   * - "8bit": 1 byte, with an exponent per 128 elements; rounded at random, too; not with `amsgrad`
   */
  stateDtype?: StateDtype | undefined;
  /**
   * For parameters of 16 bits: keep a float32 master of each. The training is then the one in float32, and the parameters
   * are its values, rounded to the nearest. Takes 2 bytes of state per element of a bfloat16 parameter and 4 of a float16 one.
   * If you change a parameter between two steps, the next step starts from the changed value.
   */
  masterWeights?: boolean | undefined;
  /**
   * How a step rounds parameters of 16 bits that have no master. "stochastic": up or down at random, so that the mean is
   * right and small steps are not lost; a finite value stays finite. "nearest": ties to even; a step smaller than half the
   * distance to the next value is lost.
   */
  rounding?: "stochastic" | "nearest" | undefined;
  /**
   * What the random rounding of `stateDtype` and of parameters starts from: a whole number from 0 to 2⁶⁴ − 1, 0 by default.
   * The same seed, names and gradients give the same bits, also after a load. A load does not set it.
   */
  seed?: number | bigint | undefined;
  /**
   * The type of the gradients of every parameter that does not say its own. "float16" and "bfloat16", of 2 bytes, are
   * converted to float32, which is exact; all arithmetic is in float32.
   */
  gradientDtype?: GradientDtype | undefined;
  /**
   * The initial norm average n: "first", as in the reference implementation, starts at the first norm; a number (1 in the
   * paper) starts at that number.
   */
  initialNorm?: "first" | number | undefined;
  /**
   * The norm that the terms of a layer are scaled to (step 3), among the norms above 1e-10:
   * - "first", as in the reference implementation: the norm of the first term
   * - "max": the largest norm
   * - "mean": the geometric mean of the norms
   * - the name of a term: the norm of that term; of the first term while that norm is not above 1e-10
   *
   * `accumulate` and `stepEach` get one term at a time: with any anchor but "first", they use the norms known so far.
   */
  anchor?: Anchor<Given<Term>> | undefined;
  /** p of step 4, in [0, 1]: 0 does not balance the norms; 1 makes them equal, as in the reference implementation. */
  balance?: number | undefined;
  /**
   * "sum", as in the reference implementation: the step is the sum of the terms' steps. "mean": it is divided by
   * Σw / max w of the terms present, so that aligned terms move a parameter by lr in total.
   */
  stepScale?: "sum" | "mean" | undefined;
  /**
   * What to do with a NaN or an infinity in a gradient, or with a gradient whose norm is above 1e18 after scaling:
   * - "skipTerm": treat the term as absent in that layer for this step
   * - "skipStep": change no parameter in this step; needs all terms at once, in `step`
   * - "skipElement", with `scales: "lagged"` only, where it is the default: leave the moments of that element as they are
   * in this step, and the term's norm average
   * - "propagate": compute with it
   *
   * With `scales: "lagged"`, nothing is known of a gradient before it is used: there are neither "skipTerm" nor "skipStep".
   *
   * The first gradient of an optimizer that counts as not finite emits a process warning, MTADAM_NON_FINITE, unless this
   * option is given.
   */
  nonFinite?: "skipTerm" | "skipStep" | "skipElement" | "propagate" | undefined;
  /**
   * Whether `diagnostics()` and `onStats` also report the cosines between the terms' gradients. Each step then reads the
   * gradients once more. Needs all terms at once, in `step`.
   */
  cosines?: boolean | undefined;
  /**
   * The processes that train together, from `connectMpi()` or `connectNccl()` of `mtadam/distributed`. Every rank has the
   * same parameters, terms and options and makes the same calls; a difference is DISTRIBUTED on all ranks. Each rank passes
   * gradients of its own, and the step uses their mean over all ranks.
   */
  distributed?: Communicator | undefined;
  /**
   * With `distributed`: "none": each rank has the whole state; "state": each rank has its part of the moments, about 1/R of
   * them for R ranks, and moves its part of the parameters.
   */
  shard?: "none" | "state" | undefined;
  /**
   * With `distributed`, how gradients are added up: "library": as MPI or NCCL does; "ordered": neighbouring ranks first,
   * then pairs of these, so that the bits do not depend on the library.
   */
  reduction?: "library" | "ordered" | undefined;
  /**
   * With `distributed`, how gradients travel: "bfloat16": each rounded once, and added in float32 as with
   * `reduction: "ordered"`, in half the traffic.
   */
  wire?: "float32" | "bfloat16" | undefined;
  /** The device that computes the steps. Default: the device of the parameters. */
  device?: Device | undefined;
  /** The stream of calls without one. Default: the device's default stream. The CPU has no streams. */
  stream?: StreamLike | null | undefined;
}

/** The options of the constructor. */
export type MTAdamOptions<Term extends string = string> = OptimizerOptions<Term> & Optional<GroupOptions>;

/** All properties may be left out, or be undefined. */
export type Optional<T> = { [K in keyof T]?: T[K] | undefined };

interface Rule<T> {
  default: T;
  /** Completes "must". */
  rule: string;
  accepts(value: unknown, terms: readonly string[]): boolean;
}

const finite = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
/** Whether the kernels can compute with the value: they round options, and some products of options, to float32. */
const fitsFloat32 = (value: number): boolean => Number.isFinite(Math.fround(value));
export const finite32 = (value: unknown): value is number => typeof value === "number" && fitsFloat32(value);
const isAtLeast0 = (value: unknown): value is number => finite32(value) && value >= 0;
const isAbove0 = (value: unknown): value is number => finite32(value) && Math.fround(value) > 0;

/** Completes "must" for every number that {@link finite32} accepts. */
const FINITE_32 = "also when it is rounded to float32";
const AT_LEAST_0 = `be a finite number of at least 0, ${FINITE_32}`;

const isBoolean = (value: unknown): boolean => typeof value === "boolean";
const isIn = (value: unknown, low: number, high: number): boolean =>
  finite(value) && value >= low && value <= high;
const oneOf = <T extends string>(first: T, ...others: T[]): Rule<T> => ({
  default: first,
  rule: `be ${[first, ...others].map((name) => `"${name}"`).join(" or ")}`,
  accepts: (value) => [first, ...others].includes(value as T),
});
const MOST_SEED = 2n ** 64n - 1n;
const isSeed = (value: unknown): boolean =>
  typeof value === "bigint"
    ? value >= 0n && value <= MOST_SEED
    : Number.isSafeInteger(value) && (value as number) >= 0;
const flag: Rule<boolean> = { default: false, rule: "be true or false", accepts: isBoolean };

/** Every group option: default, range and message. */
export const GROUP_RULES: { readonly [K in keyof GroupOptions]: Rule<GroupOptions[K]> } = {
  lr: {
    default: 1e-3,
    rule: `${AT_LEAST_0}, or a function of the iterations that returns one`,
    accepts: (value) => typeof value === "function" || isAtLeast0(value),
  },
  betas: {
    default: [0.9, 0.999, 0.9],
    rule: "be three numbers, the first two in [0, 1) and the third in [0, 1]",
    accepts: (value) =>
      isArray(value) &&
      value.length === 3 &&
      value.every((beta) => isIn(beta, 0, 1)) &&
      value[0] !== 1 &&
      value[1] !== 1,
  },
  eps: {
    default: 1e-8,
    rule: `be a finite number above 0, ${FINITE_32}`,
    accepts: isAbove0,
  },
  weightDecay: { default: 0, rule: AT_LEAST_0, accepts: isAtLeast0 },
  decoupledWeightDecay: flag,
  maximize: flag,
};

type Defaulted = Defined<
  Omit<OptimizerOptions, "terms" | "weights" | "distributed" | "device" | "stream" | "preset">
>;

type Defined<T> = { [K in keyof T]-?: Exclude<T[K], undefined> };

/** Every other option: default, range and message. */
export const OPTIMIZER_RULES: { readonly [K in keyof Defaulted]: Rule<Defaulted[K]> } = {
  amsgrad: flag,
  unit: oneOf("tensor", "network"),
  silence: oneOf("decay", "rest"),
  scales: oneOf("current", "lagged"),
  firstMoment: oneOf("perTerm", "summed"),
  secondMoment: oneOf("perTerm", "summed"),
  stateDtype: oneOf("float32", "bfloat16", "8bit"),
  masterWeights: flag,
  rounding: oneOf("stochastic", "nearest"),
  seed: {
    default: 0,
    rule: "be a whole number from 0 to 2**64 - 1, a bigint where it is above Number.MAX_SAFE_INTEGER",
    accepts: isSeed,
  },
  gradientDtype: oneOf("float32", "float16", "bfloat16"),
  initialNorm: {
    default: "first",
    rule: `be "first", or a finite number above 0, ${FINITE_32}`,
    accepts: (value) => value === "first" || isAbove0(value),
  },
  anchor: {
    default: "first",
    rule: 'be "first", "max", "mean" or the name of a term',
    accepts: (value, terms) => [...ANCHORS, ...terms].includes(value as string),
  },
  balance: { default: 1, rule: "be a number in [0, 1]", accepts: (value) => isIn(value, 0, 1) },
  stepScale: oneOf("sum", "mean"),
  nonFinite: oneOf("skipTerm", "skipStep", "skipElement", "propagate"),
  cosines: flag,
  shard: oneOf("none", "state"),
  reduction: oneOf("library", "ordered"),
  wire: oneOf("float32", "bfloat16"),
};

export const GROUP_KEYS = Object.keys(GROUP_RULES) as (keyof GroupOptions)[];
const OPTIMIZER_KEYS = Object.keys(OPTIMIZER_RULES) as (keyof Defaulted)[];

const PRESET_RULE = oneOf("paper", "recommended");

/** What each preset sets. β₃ = 0.999 suits trainings of about 2,000 steps and more: 1 − 2/T for T steps. */
const PRESETS: Readonly<Record<"paper" | "recommended", Partial<Defaulted & GroupOptions>>> = {
  paper: {},
  recommended: { unit: "network", anchor: "max", silence: "rest", betas: [0.9, 0.999, 0.999] },
};

/** The defaults that differ with `scales: "lagged"`. */
const LAGGED_DEFAULTS: Partial<Defaulted> = { silence: "rest", nonFinite: "skipElement" };

/** What `nonFinite` may be. */
const NON_FINITE: Readonly<Record<Defaulted["scales"], readonly Defaulted["nonFinite"][]>> = {
  current: ["skipTerm", "skipStep", "propagate"],
  lagged: ["skipElement", "propagate"],
};

/** The options of the constructor, checked and with defaults. */
export interface CheckedOptions extends Defaulted {
  terms: readonly string[];
  weights: number[];
  distributed: Communicator | undefined;
  device: Device | undefined;
  stream: unknown;
  group: GroupOptions;
  /** Whether `nonFinite` was given. */
  choosesNonFinite: boolean;
}

/** @throws MTAdamError OPTION, TERM (in `weights`), naming the option */
export function checkOptions(value: unknown): CheckedOptions {
  const keys = [
    "terms",
    "weights",
    "distributed",
    "device",
    "stream",
    "preset",
    ...OPTIMIZER_KEYS,
    ...GROUP_KEYS,
  ];
  const named = checkKeys<Record<string, unknown>>("options", value, keys);
  // Without a prototype, like `named`, so that only own options count.
  const given = Object.create(null) as Record<string, unknown>;
  if (named["scales"] === "lagged") Object.assign(given, LAGGED_DEFAULTS);
  Object.assign(given, PRESETS[checkOne("preset", PRESET_RULE, named["preset"])]);
  for (const [key, option] of Object.entries(named)) if (option !== undefined) given[key] = option;
  const terms = checkTerms(given["terms"]);
  const own = {} as Record<string, unknown>;
  for (const key of OPTIMIZER_KEYS)
    own[key] = checkOne(key, OPTIMIZER_RULES[key] as Rule<unknown>, given[key], terms);
  if (own["secondMoment"] === "summed" && own["firstMoment"] !== "summed") {
    throw mustBe("OPTION", "secondMoment", 'be "perTerm" unless `firstMoment` is "summed"', "summed");
  }
  if (own["stateDtype"] === "8bit" && own["amsgrad"] === true) {
    throw mustBe(
      "OPTION",
      "amsgrad",
      'be false with `stateDtype: "8bit"`, whose rounding errors a maximum would keep',
      true,
    );
  }
  checkNonFinite(own as unknown as Defaulted);
  const { distributed } = given;
  checkDistributed(distributed, own as unknown as Defaulted);
  const ones = terms.map(() => 1);
  return {
    ...(own as unknown as Defaulted),
    terms,
    weights:
      given["weights"] === undefined ? ones : checkWeights(given["weights"], new Names("term", terms), ones),
    distributed,
    device: given["device"] as Device | undefined,
    stream: given["stream"],
    group: checkGroup(given, undefined),
    choosesNonFinite: named["nonFinite"] !== undefined,
  };
}

/** @throws MTAdamError OPTION */
function checkNonFinite({ scales, nonFinite }: Defaulted): void {
  const allowed = NON_FINITE[scales];
  if (allowed.includes(nonFinite)) return;
  const names = allowed.map((name) => `"${name}"`).join(" or ");
  throw mustBe("OPTION", "nonFinite", `be ${names} with \`scales: "${scales}"\``, nonFinite);
}

/** @throws MTAdamError OPTION */
function checkDistributed(value: unknown, own: Defaulted): asserts value is Communicator | undefined {
  if (isCommunicator(value)) return;
  if (value !== undefined)
    throw mustBe("OPTION", "distributed", "be what `connectMpi()` or `connectNccl()` made", value);
  for (const key of ["shard", "reduction", "wire"] as const) {
    const rule = OPTIMIZER_RULES[key];
    if (own[key] === rule.default) continue;
    throw mustBe("OPTION", key, `be ${JSON.stringify(rule.default)} without \`distributed\``, own[key]);
  }
}

/**
 * The group options in `given`, completed by those of `inherited` or the defaults.
 *
 * @throws MTAdamError OPTION
 */
export function checkGroup(
  given: Partial<Record<keyof GroupOptions, unknown>>,
  inherited: GroupOptions | undefined,
): GroupOptions {
  const group = {} as Record<string, unknown>;
  for (const key of GROUP_KEYS) {
    const value: unknown = Object.hasOwn(given, key) ? given[key] : undefined;
    const own = value === undefined ? inherited?.[key] : value;
    group[key] = checkOne(key, GROUP_RULES[key] as Rule<unknown>, key === "betas" ? copyOfThree(own) : own);
  }
  const checked = group as unknown as GroupOptions;
  if (typeof checked.lr === "number") checkProducts(checked, checked.lr);
  return checked;
}

/**
 * Checks the factors of the decoupled decay and of the first moments, which native code rounds to float32. Bias
 * correction divides by 1 − β₁ in the first step, and by more in the next ones.
 *
 * @throws MTAdamError OPTION
 */
function checkProducts({ betas, weightDecay, decoupledWeightDecay }: GroupOptions, lr: number): void {
  if (decoupledWeightDecay) checkProduct("lr * weightDecay", lr * weightDecay);
  checkProduct("lr / (1 - betas[0])", lr / (1 - betas[0]));
}

function checkProduct(name: string, value: number): void {
  if (fitsFloat32(value)) return;
  // Three digits hide the rounding error of the product.
  throw mustBe("OPTION", name, `be finite, ${FINITE_32}`, Number(value.toPrecision(3)));
}

/**
 * Checks a group's options again, since the user can change them.
 *
 * @throws MTAdamError OPTION
 */
export function recheckGroup(group: Readonly<Record<keyof GroupOptions, unknown>>): GroupOptions {
  for (const key of GROUP_KEYS) {
    if (group[key] === undefined) throw mustBe("OPTION", key, GROUP_RULES[key].rule, undefined);
  }
  return checkGroup(group, undefined);
}

/** Copies betas before they are checked, so that each entry is read once; returns other values unchanged. */
export function copyOfThree(value: unknown): unknown {
  return isArray(value) && value.length === 3 ? [value[0], value[1], value[2]] : value;
}

function checkOne<T>(key: string, rule: Rule<T>, value: unknown, terms: readonly string[] = []): T {
  if (value === undefined) return rule.default;
  if (!rule.accepts(value, terms)) throw mustBe("OPTION", key, rule.rule, value);
  return value as T;
}

/** @throws MTAdamError OPTION */
export function checkLearningRate(value: unknown, subject = "lr"): number | LearningRate {
  if (GROUP_RULES.lr.accepts(value, [])) return value as number | LearningRate;
  throw mustBe("OPTION", subject, GROUP_RULES.lr.rule, value);
}

/** The learning rate of a checked group in the next step. @throws MTAdamError OPTION if its schedule returns an invalid one */
export function learningRate(group: GroupOptions, iterations: () => number): number {
  const { lr } = group;
  if (typeof lr === "number") return lr;
  const value: unknown = lr(iterations());
  if (!isAtLeast0(value)) {
    throw mustBe("OPTION", "lr", `return a finite number of at least 0, ${FINITE_32}`, value);
  }
  checkProducts(group, value);
  return value;
}

/**
 * A weight per term. Terms that an object leaves out get their weight from `otherwise`.
 *
 * @throws MTAdamError OPTION, LENGTH, TERM
 */
export function checkWeights(value: unknown, terms: Names, otherwise: readonly number[]): number[] {
  const given = terms.read("weights", value);
  return otherwise.map((weight, term) => {
    const own = given[term];
    if (own === undefined && !isArray(value)) return weight;
    if (isAtLeast0(own)) return own;
    throw mustBe("OPTION", "weights", "be finite numbers of at least 0, also when rounded to float32", own);
  });
}

/**
 * For calls that get one term at a time. To skip a whole step, the norms of all terms must be known before any term
 * moves a parameter; cosines need the gradients of all terms.
 *
 * @throws MTAdamError OPTION
 */
export function checkOneTermAtATime(
  operation: string,
  { nonFinite, cosines }: Pick<CheckedOptions, "nonFinite" | "cosines">,
): void {
  if (nonFinite !== "skipStep" && !cosines) return;
  const rule = cosines ? "`cosines` must not be true" : '`nonFinite` must not be "skipStep"';
  throw new MTAdamError(
    "OPTION",
    `${rule} for \`${operation}\`, whose terms come one at a time; use \`step\`.`,
  );
}

/**
 * σ of a call with these weights. Gradients are multiplied by w/σ.
 *
 * @throws MTAdamError OPTION
 */
export function checkGradientScale(value: unknown, weights: readonly number[]): number {
  if (value === undefined) return 1;
  if (!isAbove0(value) || !isAbove0(1 / value)) {
    const rule = `be a finite number above 0, as must 1 / gradientScale, ${FINITE_32}`;
    throw mustBe("OPTION", "gradientScale", rule, value);
  }
  if (value < 1) for (const weight of weights) checkProduct("weights / gradientScale", weight / value);
  return value;
}
