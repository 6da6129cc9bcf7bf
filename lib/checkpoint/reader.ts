import { native, type NativePlane } from "../addon/native";
import { fromNative } from "../errors";
import { describeValue, isArray } from "../inspect";
import { elementsOf } from "../memory/device-pointer";
import { finite32, GROUP_KEYS, type StateDtype } from "../options";
import { fail } from "./fail";
import {
  BLOCK,
  blocksOf,
  exponentsKey,
  makeTensor,
  masterKey,
  MOMENT_TYPES,
  momentDtype,
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

/** Work that yields its read requests, and undefined now and then, to let others run. */
export type Reading<T> = Generator<TensorRead | undefined, T, void>;

/** A state from an untrusted source. Its methods run none of the user's code. */
export interface StateSource {
  readonly metadata: unknown;
  /** The keys of the tensors that have elements, in the order that is fastest to read. */
  keys(): Iterable<string>;
  /** Whether there is a tensor with this key, type and shape. */
  has(key: string, type: TensorType, shape: readonly number[]): boolean;
  /** Whether there is no entry with this key. */
  lacks(key: string): boolean;
  /** The entry with this key, for messages. */
  describe(key: string): string;
}

/** One part of a restoration. Changes nothing until it is told to write. */
export interface RestorePart {
  /** Writes norms, counts and clocks. */
  writeRecords(): void;
  /** Reads and checks the moments, and with `writes` puts them in place. */
  moments(writes: boolean): Reading<void>;
}

export function checkMetadata(metadata: unknown): CheckpointMetadata {
  if (!isObject(metadata)) fail("The state must have an object as `metadata`.");
  if (metadata["version"] !== 1)
    fail(`The state must be of version 1; got ${describeValue(metadata["version"])}.`);
  const { iterations, terms, layers, parameters, options, groups } = metadata;
  const known = {
    layers: new Set<unknown>(isArray(layers) ? layers : []),
    groups: isArray(groups) ? groups.length : 0,
  };
  const isValid =
    isCount(iterations) &&
    iterations <= MAX_COUNT &&
    isNames(terms) &&
    isNames(layers) &&
    isArray(parameters) &&
    parameters.every((parameter) => isSavedParameter(parameter, known)) &&
    isNames(parameters.map(({ name }) => name)) &&
    isObject(options) &&
    isArray(groups) &&
    groups.every(isSavedGroup);
  if (!isValid) fail("The state must have complete `metadata`.");
  // Without a prototype: other code may have added properties to all objects, and those that are left out count as absent.
  const own = Object.assign(Object.create(null) as object, options);
  return { ...(metadata as unknown as CheckpointMetadata), options: own as CheckpointMetadata["options"] };
}

export function weightOf({ options }: CheckpointMetadata, term: number): number {
  const weight: unknown = (options.weights as unknown[] | undefined)?.[term];
  if (finite32(weight) && weight >= 0) return weight;
  fail(`The state must have a finite weight of at least 0 per term; got ${describeValue(weight)}.`);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;
const isSavedGroup = (value: unknown): boolean =>
  isObject(value) && GROUP_KEYS.every((key) => Object.hasOwn(value, key));
const isSavedParameter = (
  value: unknown,
  known: { readonly layers: ReadonlySet<unknown>; readonly groups: number },
): value is { name: string; length: number; layer: string } =>
  isObject(value) &&
  typeof value["name"] === "string" &&
  isCount(value["length"]) &&
  isArray(value["shape"]) &&
  value["shape"].every(isCount) &&
  elementsOf(value["shape"]) === value["length"] &&
  known.layers.has(value["layer"]) &&
  isCount(value["group"]) &&
  value["group"] < known.groups;
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
/** The largest count that can be increased by one. */
const MAX_COUNT = Number.MAX_SAFE_INTEGER - 1;
const isNames = (value: unknown): value is string[] =>
  isArray(value) && value.every((name) => typeof name === "string") && new Set(value).size === value.length;

/** Elements of a moment as the state has them. */
export interface Codes {
  readonly dtype: StateDtype;
  readonly codes: Uint16Array | Uint8Array;
  /** A value per block; none unless the codes have 8 bits. */
  readonly exponents: Uint8Array;
}

/** The tensors of a state, checked for type, shape and values that no training can have. */
export class StateReader {
  /** The types of the moments that {@link plane} has checked, except float32. */
  readonly #dtypes = new Map<string, StateDtype>();
  readonly #source: StateSource;
  readonly #metadata: CheckpointMetadata;
  /** Whether norms and moments may be NaN or infinite, as with `nonFinite: "propagate"`. */
  readonly #propagates: boolean;

  constructor(source: StateSource, metadata: CheckpointMetadata, propagates: boolean) {
    this.#source = source;
    this.#metadata = metadata;
    this.#propagates = propagates;
  }

  /** Terms × layers. */
  *balances(): Reading<Balances> {
    const shape = [this.#metadata.terms.length, this.#metadata.layers.length];
    const n = yield* this.#record("n", "Float64Array", shape);
    const occurred = yield* this.#record("occurred", "Uint8Array", shape);
    // States of older versions do not have it.
    const skipped = this.#source.lacks("skipped")
      ? new BigInt64Array(n.length)
      : yield* this.#record("skipped", "BigInt64Array", shape);
    for (let k = 0; k < n.length; ++k) {
      this.#checkNorm(n[k]!, occurred[k]!);
      if (!isCountable(skipped[k]!)) fail("The state must have counts of at least 0 as `skipped`.");
      if (k % SOME === 0) yield undefined;
    }
    return { n, occurred, skipped };
  }

  /** Terms × parameters. */
  clocks(): Reading<Clocks> {
    const { terms, parameters } = this.#metadata;
    return this.#clocks(["t", "P1", "P2"], [terms.length, parameters.length]);
  }

  /** q, terms × parameters; `t`: the clocks. */
  *squares(t: BigInt64Array): Reading<Float64Array> {
    const { terms, parameters } = this.#metadata;
    const q = yield* this.#record("q", "Float64Array", [terms.length, parameters.length]);
    for (let k = 0; k < q.length; ++k) {
      const value = q[k]!;
      // The conditions are written so that a NaN passes where it may occur.
      if (value < 0 || (t[k] === 0n && value !== 0) || (!this.#propagates && !Number.isFinite(value))) {
        fail(
          `The state must have finite squared norms of at least 0 as \`q\`, 0 before any step; got ${value}.`,
        );
      }
      if (k % SOME === 0) yield undefined;
    }
    return q;
  }

  /** A value per parameter. */
  sharedClocks(): Reading<Clocks> {
    return this.#clocks(["T", "T.P1", "T.P2"], [this.#metadata.parameters.length]);
  }

  /** Checks that a moment has the parameter's shape, and returns its key. */
  plane(key: string, parameter: number): string {
    const { length, shape } = this.#metadata.parameters[parameter]!;
    const dtype = momentDtype(this.#metadata.options.stateDtype ?? "float32", length);
    this.#check(key, MOMENT_TYPES[dtype], shape);
    if (dtype === "8bit") this.#check(exponentsKey(key), "Uint8Array", [blocksOf(length)]);
    if (dtype !== "float32") this.#dtypes.set(key, dtype);
    return key;
  }

  /** Checks that the master of a parameter has its shape, and returns its key; undefined where the state has none. */
  master(parameter: number): string | undefined {
    const key = masterKey(parameter);
    if (this.#source.lacks(key)) return undefined;
    this.#check(key, "Float32Array", this.#metadata.parameters[parameter]!.shape);
    return key;
  }

  /**
   * Fills `to` with elements of a moment, from `first` on, a multiple of BLOCK. Returns their codes if the moment has
   * any.
   */
  *moment(plane: NativePlane, key: string, first: number, to: Float32Array): Reading<Codes | undefined> {
    const dtype = this.#dtypes.get(key);
    if (dtype === undefined) yield { key, type: "Float32Array", first, to };
    const codes = dtype === undefined ? undefined : yield* this.#codes(dtype, key, first, to.length);
    if (codes !== undefined) {
      fromNative(() => {
        native.decodeState(codes.dtype, plane, codes.codes, codes.exponents, to);
      });
    }
    this.checkMoment(plane, key, to);
    return codes;
  }

  *#codes(dtype: StateDtype, key: string, first: number, count: number): Reading<Codes> {
    const type = MOMENT_TYPES[dtype];
    const codes = makeTensor(type, count) as Uint16Array | Uint8Array;
    yield { key, type, first, to: codes };
    const exponents = new Uint8Array(dtype === "8bit" ? blocksOf(count) : 0);
    if (dtype === "8bit")
      yield { key: exponentsKey(key), type: "Uint8Array", first: first / BLOCK, to: exponents };
    return { dtype, codes, exponents };
  }

  checkMoment(plane: NativePlane, key: string, values: Float32Array): void {
    const least = plane === "m" ? -Infinity : 0;
    for (const value of values) {
      if (value >= least && (this.#propagates || Number.isFinite(value))) continue;
      if (this.#propagates && Number.isNaN(value)) continue;
      const rule =
        value < least
          ? "second moments of at least 0"
          : 'finite moments unless the optimizer has `nonFinite: "propagate"`';
      fail(`The state must have ${rule}; got ${value} in \`${key}\`.`);
    }
  }

  #checkNorm(n: number, occurred: number): void {
    // A NaN passes this rule; the last rule finds it.
    if (n < 0 || occurred > 1) {
      fail("The state must have norms of at least 0, which occurred (1) or never did (0).");
    }
    if (occurred === 0 && n !== 0) {
      fail(`The state must have the norm 0 where a pair never occurred; got ${n}.`);
    }
    if (!Number.isFinite(n) && !this.#propagates) {
      fail(`The state must have finite norms unless the optimizer has \`nonFinite: "propagate"\`; got ${n}.`);
    }
  }

  *#clocks(keys: readonly [string, string, string], shape: readonly number[]): Reading<Clocks> {
    const t = yield* this.#record(keys[0], "BigInt64Array", shape);
    const P1 = yield* this.#record(keys[1], "Float64Array", shape);
    const P2 = yield* this.#record(keys[2], "Float64Array", shape);
    for (let k = 0; k < t.length; ++k) {
      const time = t[k]!;
      if (!isCountable(time) || !isProduct(P1[k]!, time) || !isProduct(P2[k]!, time)) {
        fail(`The state must have valid clocks as \`${keys.join("`, `")}\`.`);
      }
      if (k % SOME === 0) yield undefined;
    }
    return { t, P1, P2 };
  }

  /** Reads a whole tensor. */
  *#record<T extends TensorType>(key: string, type: T, shape: readonly number[]): Reading<TensorTypes[T]> {
    this.#check(key, type, shape);
    const to = makeTensor(type, elementsOf(shape));
    yield { key, type, first: 0, to };
    return to as TensorTypes[T];
  }

  #check(key: string, type: TensorType, shape: readonly number[]): void {
    if (this.#source.has(key, type, shape)) return;
    fail(
      `The state must have \`${key}\`, a ${type} of ${describeShape(shape)}; got ${this.#source.describe(key)}.`,
    );
  }
}

/** A shape for a message, shortened, since it may have any number of dimensions. */
export const describeShape = (shape: readonly number[]): string => shape.slice(0, 8).join(" × ");

/** Elements that are checked without a break. */
const SOME = 1024;

const isCountable = (count: bigint): boolean => count >= 0n && count <= BigInt(MAX_COUNT);

/**
 * Whether this can be the product of so many betas, each less than 1. The betas may have changed from step to step, so
 * only a bound can be checked: no double lies between 1 − 2⁻⁵³ and 1, so each step subtracts at least 2⁻⁵³ while the
 * product is above ½.
 */
function isProduct(value: number, time: bigint): boolean {
  if (time === 0n) return value === 1;
  return value >= 0 && value <= Math.max(0.5, 1 - Number(time) * 2 ** -53);
}
