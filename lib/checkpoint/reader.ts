import { MTAdamError } from "../errors";
import { describeValue, isArray } from "../inspect";
import {
  makeTensor,
  type Balances,
  type CheckpointMetadata,
  type Clocks,
  type StateTensor,
  type TensorType,
  type TensorTypes,
} from "./state";

/** A request to read the elements of a tensor from `first` on into `to`. */
export interface TensorRead {
  readonly key: string;
  readonly type: TensorType;
  readonly first: number;
  readonly to: StateTensor;
}

/** A state from an untrusted source. Its methods run none of the user's code. */
export interface StateSource {
  readonly metadata: unknown;
  /** Whether there is a tensor with this key, type and shape. */
  has(key: string, type: TensorType, shape: readonly number[]): boolean;
  /** Whether there is no entry with this key. */
  lacks(key: string): boolean;
  /** The entry with this key, for messages. */
  describe(key: string): string;
}

/** One part of a restoration, after the checks. All parts read through the same `buffer`. */
export type RestorePart = (buffer: Float32Array) => Generator<TensorRead, void, void>;

export function fail(message: string, cause?: unknown): never {
  throw new MTAdamError("CHECKPOINT", message, cause === undefined ? undefined : { cause });
}

export function checkMetadata(metadata: unknown): CheckpointMetadata {
  if (!isObject(metadata)) fail("The state must have an object as `metadata`.");
  if (metadata["version"] !== 1)
    fail(`The state must be of version 1; got ${describeValue(metadata["version"])}.`);
  const { iterations, terms, layers, parameters, options, groups } = metadata;
  const known = new Set<unknown>(isArray(layers) ? layers : []);
  const isValid =
    isCount(iterations) &&
    isNames(terms) &&
    isNames(layers) &&
    isArray(parameters) &&
    parameters.every((parameter) => isSavedParameter(parameter, known)) &&
    isNames(parameters.map(({ name }) => name)) &&
    isObject(options) &&
    isArray(groups) &&
    groups.every(isObject);
  if (!isValid) fail("The state must have complete `metadata`.");
  return metadata as unknown as CheckpointMetadata;
}

export function weightOf({ options }: CheckpointMetadata, term: number): number {
  const weight: unknown = (options.weights as unknown[] | undefined)?.[term];
  if (typeof weight === "number" && Number.isFinite(weight) && weight >= 0) return weight;
  fail(`The state must have a finite weight of at least 0 per term; got ${describeValue(weight)}.`);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;
const isSavedParameter = (
  value: unknown,
  layers: ReadonlySet<unknown>,
): value is { name: string; length: number; layer: string } =>
  isObject(value) &&
  typeof value["name"] === "string" &&
  isCount(value["length"]) &&
  isArray(value["shape"]) &&
  value["shape"].every(isCount) &&
  value["shape"].reduce((product: number, size) => product * size, 1) === value["length"] &&
  layers.has(value["layer"]);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isNames = (value: unknown): value is string[] =>
  isArray(value) && value.every((name) => typeof name === "string") && new Set(value).size === value.length;

/** The tensors of a state, checked for type, shape and, but for the moments, range. */
export class StateReader {
  readonly #source: StateSource;
  readonly #metadata: CheckpointMetadata;
  /** Whether norms may be NaN or infinite, as with `nonFinite: "propagate"`. */
  readonly #propagates: boolean;

  constructor(source: StateSource, metadata: CheckpointMetadata, propagates: boolean) {
    this.#source = source;
    this.#metadata = metadata;
    this.#propagates = propagates;
  }

  /** A term's, a value per layer. */
  *norm_states(term: number): Generator<TensorRead, Balances, void> {
    const layers = this.#metadata.layers.length;
    const shape = [this.#metadata.terms.length, layers];
    const n = yield* this.#row("n", "Float64Array", shape, term * layers, layers);
    const occurred = yield* this.#row("occurred", "Uint8Array", shape, term * layers, layers);
    // Written as negations so that NaN is not refused here.
    if (n.some((value) => value < 0) || occurred.some((value) => value > 1))
      fail("The state must have norms of at least 0, which occurred (1) or never did (0).");
    const notFinite = n.find((value) => !Number.isFinite(value));
    if (notFinite !== undefined && !this.#propagates) {
      fail(
        `The state must have finite norms unless the optimizer has \`nonFinite: "propagate"\`; got ${notFinite}.`,
      );
    }
    // States of before it was kept have none.
    const skipped = this.#source.lacks("skipped")
      ? new BigInt64Array(layers)
      : yield* this.#row("skipped", "BigInt64Array", shape, term * layers, layers);
    if (!skipped.every(isTime)) fail("The state must have counts of at least 0 as `skipped`.");
    return { n, occurred, skipped };
  }

  /** q of a term, a value per parameter; `t`: its clocks. */
  *squares(term: number, t: BigInt64Array): Generator<TensorRead, Float64Array, void> {
    const parameters = this.#metadata.parameters.length;
    const shape = [this.#metadata.terms.length, parameters];
    const q = yield* this.#row("q", "Float64Array", shape, term * parameters, parameters);
    // Written as negations so that NaN passes where it may.
    const isImpossible = (value: number, k: number): boolean =>
      value < 0 || (t[k] === 0n && value !== 0) || (!this.#propagates && !Number.isFinite(value));
    if (q.some(isImpossible))
      fail("The state must have squared norms of at least 0 as `q`, 0 before any step.");
    return q;
  }

  /** A term's, a value per parameter. */
  clocks(term: number): Generator<TensorRead, Clocks, void> {
    const parameters = this.#metadata.parameters.length;
    return this.#clocks(["t", "P1", "P2"], [this.#metadata.terms.length, parameters], term * parameters);
  }

  sharedClocks(): Generator<TensorRead, Clocks, void> {
    return this.#clocks(["T", "T.P1", "T.P2"], [this.#metadata.parameters.length], 0);
  }

  /** The key itself, of a moment that has the parameter's shape. */
  plane(key: string, parameter: number): string {
    this.#check(key, "Float32Array", this.#metadata.parameters[parameter]!.shape);
    return key;
  }

  *#clocks(
    keys: readonly [string, string, string],
    shape: readonly number[],
    first: number,
  ): Generator<TensorRead, Clocks, void> {
    const count = this.#metadata.parameters.length;
    const t = yield* this.#row(keys[0], "BigInt64Array", shape, first, count);
    const P1 = yield* this.#row(keys[1], "Float64Array", shape, first, count);
    const P2 = yield* this.#row(keys[2], "Float64Array", shape, first, count);
    // Where a clock has run, a product of 1 would have the next step divide by 0.
    const isProduct = (value: number, time: bigint): boolean =>
      time > 0n ? value >= 0 && value < 1 : value === 1;
    const areValid = t.every((time, k) => isTime(time) && isProduct(P1[k]!, time) && isProduct(P2[k]!, time));
    if (!areValid) fail(`The state must have valid clocks as \`${keys.join("`, `")}\`.`);
    return { t, P1, P2 };
  }

  *#row<T extends TensorType>(
    key: string,
    type: T,
    shape: readonly number[],
    first: number,
    count: number,
  ): Generator<TensorRead, TensorTypes[T], void> {
    this.#check(key, type, shape);
    const to = makeTensor(type, count);
    yield { key, type, first, to };
    return to as TensorTypes[T];
  }

  #check(key: string, type: TensorType, shape: readonly number[]): void {
    if (this.#source.has(key, type, shape)) return;
    fail(
      `The state must have \`${key}\`, a ${type} of ${describeShape(shape)}; got ${this.#source.describe(key)}.`,
    );
  }
}

/** For a message; it may be of any length. */
export const describeShape = (shape: readonly number[]): string => shape.slice(0, 8).join(" × ");

/** Far from where a clock or a count overflows. */
const MAX_TIME = BigInt(Number.MAX_SAFE_INTEGER);
const isTime = (time: bigint): boolean => time >= 0n && time <= MAX_TIME;
