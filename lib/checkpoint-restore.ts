import {
  CHUNK_BYTES,
  chunks,
  makeBalances,
  makeClocks,
  makeTensor,
  ownKey,
  planes,
  sharedKey,
  type Balances,
  type CheckpointMetadata,
  type Clocks,
  type StateOwner,
  type StateTensor,
  type TensorType,
  type TensorTypes,
} from "./checkpoint";
import { fromNative, MTAdamError } from "./errors";
import { describeValue, isArray } from "./inspect";
import type { NativePlaneStart } from "./native";
import { checkGroup, type CheckedOptions, type GroupOptions } from "./options";
import { checkLayerBetas } from "./parameters";

// From a saved state to an optimizer's. Nothing here waits: what is to be read is yielded, and whoever runs the
// restoration reads it, from memory at once or from a file in its own time. So there is one way of checking a state.

/** Wanted: the elements of a tensor from `first` on, in `to`. */
export interface TensorRead {
  readonly key: string;
  readonly type: TensorType;
  readonly first: number;
  readonly to: StateTensor;
}

/** A state that anything may have written. Asking runs no code of the user's. */
export interface StateSource {
  readonly metadata: unknown;
  /** Whether there is such a tensor, of that type and shape. */
  has(key: string, type: TensorType, shape: readonly number[]): boolean;
  /** Whether there is nothing under that key. */
  lacks(key: string): boolean;
  /** For a message: what there is under that key. */
  describe(key: string): string;
}

/** A state that fits, checked before anything of the optimizer has changed. */
export interface Restoration {
  /** Puts the state in place. */
  apply(): Generator<TensorRead, void, void>;
  /** What the optimizer is to have when that is done. */
  readonly iterations: number;
  readonly weights: number[];
}

/** A part of the restoration, after the checks; `buffer` serves them all for what they read. */
type Step = (buffer: Float32Array) => Generator<TensorRead, void, void>;

/** One thing of the optimizer and the number it has in the state. */
interface Match {
  ours: number;
  theirs: number;
}

function fail(message: string, cause?: unknown): never {
  throw new MTAdamError("CHECKPOINT", message, cause === undefined ? undefined : { cause });
}

/**
 * Checks a whole state against the optimizer, all but the moments' values, changing nothing.
 *
 * @param strict whether every term, parameter and layer must have its match
 * @throws MTAdamError CHECKPOINT
 */
export function* checkState(
  owner: StateOwner,
  source: StateSource,
  strict: boolean,
): Generator<TensorRead, Restoration, void> {
  const metadata = checkMetadata(source.metadata);
  const terms = match("term", owner.terms, metadata.terms, strict);
  const names = owner.parameters.map(({ name }) => name);
  const theirNames = metadata.parameters.map(({ name }) => name);
  const parameters = match("parameter", names, theirNames, strict);
  for (const { ours, theirs } of parameters) checkParameter(owner, ours, metadata, theirs);
  const layers = match("layer", owner.layers, metadata.layers, strict);
  const convert = checkForm(owner.options, metadata.options);
  const groups = matchGroups(owner, metadata, parameters, strict);
  const weights = [...owner.weights];
  for (const { ours, theirs } of terms) weights[ours] = weightOf(metadata, theirs);

  const reader = new StateReader(source, metadata, owner.options.nonFinite === "propagate");
  const steps: Step[] = [];
  for (const term of terms) steps.push(yield* checkTerm(owner, reader, term, layers, parameters));
  if (owner.options.firstMoment === "summed") {
    steps.push(yield* (convert ? checkSum : checkSummed)(owner, reader, terms, parameters));
  }
  return {
    *apply() {
      const longest = parameters.reduce(
        (most, { ours }) => Math.max(most, owner.parameters[ours]!.length),
        0,
      );
      const buffer = new Float32Array(Math.min(longest, CHUNK_BYTES / Float32Array.BYTES_PER_ELEMENT));
      for (const step of steps) yield* step(buffer);
      for (const { ours, options } of groups) Object.assign(owner.groups[ours] as object, options);
    },
    iterations: metadata.iterations,
    weights,
  };
}

function* checkTerm(
  owner: StateOwner,
  reader: StateReader,
  term: Match,
  layers: readonly Match[],
  parameters: readonly Match[],
): Generator<TensorRead, Step, void> {
  const { native } = owner;
  const { n, occurred, skipped } = makeBalances(owner.layers.length);
  const clocks = makeClocks(owner.parameters.length);
  // What has no match stays as it is.
  fromNative(() => {
    native.readBalances(term.ours, n, occurred, skipped);
    native.readClocks(term.ours, clocks.t, clocks.P1, clocks.P2);
  });
  const balances = yield* reader.balances(term.theirs);
  for (const { ours, theirs } of layers) {
    n[ours] = balances.n[theirs]!;
    occurred[ours] = balances.occurred[theirs]!;
    skipped[ours] = balances.skipped[theirs]!;
  }
  copyClocks(yield* reader.clocks(term.theirs), clocks, parameters);
  const copies = parameters.flatMap(({ ours, theirs }) =>
    planes(owner.options).own.map((plane) => {
      const key = reader.plane(ownKey(plane, term.theirs, theirs), theirs);
      return { key, plane, term: term.ours, parameter: ours };
    }),
  );
  return function* (buffer) {
    fromNative(() => {
      native.restoreBalances(term.ours, n, occurred, skipped);
      native.restoreClocks(term.ours, clocks.t, clocks.P1, clocks.P2);
    });
    for (const { key, ...place } of copies) yield* copyPlane(owner, key, place, buffer);
  };
}

function* checkSummed(
  owner: StateOwner,
  reader: StateReader,
  _terms: readonly Match[],
  parameters: readonly Match[],
): Generator<TensorRead, Step, void> {
  const { native } = owner;
  const clocks = readSharedClocks(owner);
  copyClocks(yield* reader.sharedClocks(), clocks, parameters);
  const copies = parameters.flatMap(({ ours, theirs }) =>
    planes(owner.options).shared.map((plane) => {
      return { key: reader.plane(sharedKey(plane, theirs), theirs), plane, term: 0, parameter: ours };
    }),
  );
  return function* (buffer) {
    fromNative(() => native.restoreClocks(null, clocks.t, clocks.P1, clocks.P2));
    for (const { key, ...place } of copies) yield* copyPlane(owner, key, place, buffer);
  };
}

/** A term's moments in a sum, by their keys. */
interface Summand {
  m: string;
  x: string;
  factor: number;
}

/**
 * M = (1 − β₁ᵀ)·Σ m_i/(1 − β₁^tᵢ), with T the largest clock and its products; where the clocks are equal, the plain
 * sum. x is the largest x_i.
 */
function* checkSum(
  owner: StateOwner,
  reader: StateReader,
  terms: readonly Match[],
  parameters: readonly Match[],
): Generator<TensorRead, Step, void> {
  const { native, options } = owner;
  const clocks = readSharedClocks(owner);
  const own: (Clocks & { theirs: number })[] = [];
  for (const { theirs } of terms) own.push({ theirs, ...(yield* reader.clocks(theirs)) });
  const sums = parameters.map((parameter) => {
    const ran = own
      .map(({ theirs, t, P1, P2 }) => ({
        theirs,
        t: t[parameter.theirs]!,
        P1: P1[parameter.theirs]!,
        P2: P2[parameter.theirs]!,
      }))
      .filter(({ t }) => t > 0n);
    const last = ran.reduce<(typeof ran)[number] | undefined>(
      (latest, clock) => (latest === undefined || clock.t > latest.t ? clock : latest),
      undefined,
    );
    clocks.t[parameter.ours] = last?.t ?? 0n;
    clocks.P1[parameter.ours] = last?.P1 ?? 1;
    clocks.P2[parameter.ours] = last?.P2 ?? 1;
    const summands = ran.map(({ theirs, t, P1 }): Summand => {
      return {
        m: reader.plane(ownKey("m", theirs, parameter.theirs), parameter.theirs),
        x: options.amsgrad ? reader.plane(ownKey("x", theirs, parameter.theirs), parameter.theirs) : "",
        factor: t === last?.t ? 1 : (1 - (last?.P1 ?? 1)) / (1 - P1),
      };
    });
    return { parameter: parameter.ours, summands };
  });
  return function* (buffer) {
    fromNative(() => native.restoreClocks(null, clocks.t, clocks.P1, clocks.P2));
    const buffers: SumBuffers = {
      values: buffer,
      M: new Float64Array(buffer.length),
      x: new Float32Array(options.amsgrad ? buffer.length : 0),
    };
    for (const { parameter, summands } of sums) yield* sumPlanes(owner, parameter, summands, buffers);
  };
}

/** Room for a chunk of what is read and of its sums, for all chunks. */
interface SumBuffers {
  values: Float32Array;
  M: Float64Array;
  /** Empty without amsgrad. */
  x: Float32Array;
}

function* sumPlanes(
  { native, options, parameters }: StateOwner,
  parameter: number,
  summands: readonly Summand[],
  buffers: SumBuffers,
): Generator<TensorRead, void, void> {
  for (const { first, count } of chunks(parameters[parameter]!.length, buffers.values.length)) {
    const values = buffers.values.subarray(0, count);
    const M = buffers.M.subarray(0, count).fill(0);
    const x = buffers.x.subarray(0, count).fill(0);
    for (const { m, x: xKey, factor } of summands) {
      yield { key: m, type: "Float32Array", first, to: values };
      for (let k = 0; k < count; ++k) M[k] = M[k]! + factor * values[k]!;
      if (!options.amsgrad) continue;
      yield { key: xKey, type: "Float32Array", first, to: values };
      for (let k = 0; k < count; ++k) x[k] = Math.max(x[k]!, values[k]!);
    }
    values.set(M); // rounds
    fromNative(() => {
      native.writePlane({ plane: "m", term: 0, parameter, first }, values);
      if (options.amsgrad) native.writePlane({ plane: "x", term: 0, parameter, first }, x);
    });
  }
}

function* copyPlane(
  { native, parameters }: StateOwner,
  key: string,
  place: Omit<NativePlaneStart, "first">,
  buffer: Float32Array,
): Generator<TensorRead, void, void> {
  const { length } = parameters[place.parameter]!;
  for (const { first, count } of chunks(length, buffer.length)) {
    const to = buffer.subarray(0, count);
    yield { key, type: "Float32Array", first, to };
    fromNative(() => native.writePlane({ ...place, first }, to));
  }
}

function copyClocks(from: Clocks, to: Clocks, parameters: readonly Match[]): void {
  for (const { ours, theirs } of parameters) {
    to.t[ours] = from.t[theirs]!;
    to.P1[ours] = from.P1[theirs]!;
    to.P2[ours] = from.P2[theirs]!;
  }
}

function readSharedClocks({ native, parameters }: StateOwner): Clocks {
  const clocks = makeClocks(parameters.length);
  fromNative(() => native.readClocks(null, clocks.t, clocks.P1, clocks.P2));
  return clocks;
}

function match(kind: string, ours: readonly string[], theirs: readonly string[], strict: boolean): Match[] {
  const numbers = new Map(theirs.map((name, number) => [name, number]));
  const matches: Match[] = [];
  for (const [number, name] of ours.entries()) {
    const found = numbers.get(name);
    if (found !== undefined) matches.push({ ours: number, theirs: found });
    else if (strict)
      fail(`The state must have the ${kind} ${describeValue(name)}; it has none of that name.`);
  }
  if (strict && matches.length < theirs.length) {
    const extra = theirs.find((name) => !ours.includes(name));
    fail(`The state must have the optimizer's ${kind}s alone; got ${describeValue(extra)} besides.`);
  }
  return matches;
}

function checkParameter(owner: StateOwner, ours: number, metadata: CheckpointMetadata, theirs: number): void {
  const own = owner.parameters[ours]!;
  const saved = metadata.parameters[theirs]!;
  if (saved.length !== own.length) {
    fail(`The state must have ${own.length} elements for ${describeValue(own.name)}; got ${saved.length}.`);
  }
  const layer = owner.layers[own.layer];
  if (saved.layer !== layer) {
    fail(
      `The state must have ${describeValue(own.name)} in the layer ${describeValue(layer)}; ` +
        `got ${describeValue(saved.layer)}.`,
    );
  }
}

/** Whether first moments have to be summed. */
function checkForm(ours: CheckedOptions, theirs: CheckpointMetadata["options"]): boolean {
  if (theirs.amsgrad !== ours.amsgrad) {
    fail(`The state must be one with \`amsgrad: ${ours.amsgrad}\`; got ${describeValue(theirs.amsgrad)}.`);
  }
  if (theirs.firstMoment === ours.firstMoment) return false;
  if (theirs.firstMoment === "perTerm" && ours.firstMoment === "summed") return true;
  fail(
    `The state must be one with \`firstMoment: "${ours.firstMoment}"\`; got ${describeValue(theirs.firstMoment)}, ` +
      "which cannot be taken apart.",
  );
}

/** The saved options of each of our groups whose parameters were all in one group. A schedule stays. */
function matchGroups(
  owner: StateOwner,
  metadata: CheckpointMetadata,
  parameters: readonly Match[],
  strict: boolean,
): { ours: number; options: Partial<GroupOptions> }[] {
  const theirs = owner.groups.map(() => new Set<number>());
  for (const match of parameters) {
    const group = metadata.parameters[match.theirs]?.group ?? -1;
    theirs[owner.parameters[match.ours]?.group ?? -1]?.add(group);
  }
  const matched = theirs.flatMap((sources, ours) => {
    const [source] = sources;
    if (sources.size !== 1 || source === undefined) {
      if (strict && sources.size > 1)
        fail("The state must have the optimizer's groups; got parameters in others.");
      return [];
    }
    const saved = metadata.groups[source];
    if (saved === undefined) fail("The state must have the options of every group.");
    const { lr, ...others } = checkOptions(() =>
      checkGroup({ ...saved, lr: saved.lr ?? undefined }, undefined),
    );
    const keepsSchedule = typeof owner.groups[ours]?.lr === "function" || saved.lr === null;
    return [{ ours, options: keepsSchedule ? others : { lr, ...others } }];
  });
  const groups: GroupOptions[] = [...owner.groups];
  for (const { ours, options } of matched) groups[ours] = { ...groups[ours]!, ...options };
  checkOptions(() => {
    checkLayerBetas(owner.parameters, owner.layers, groups);
  });
  return matched;
}

/** What is wrong with options is here wrong with the state. */
function checkOptions<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    fail(`The state must have valid options; ${(error as Error).message}`, error);
  }
}

// ---- Reading a state that anything may have written ----

function checkMetadata(metadata: unknown): CheckpointMetadata {
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

function weightOf({ options }: CheckpointMetadata, term: number): number {
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
class StateReader {
  readonly #source: StateSource;
  readonly #metadata: CheckpointMetadata;
  /** Whether norms may be what arithmetic has made of a NaN or an infinity. */
  readonly #propagates: boolean;

  constructor(source: StateSource, metadata: CheckpointMetadata, propagates: boolean) {
    this.#source = source;
    this.#metadata = metadata;
    this.#propagates = propagates;
  }

  /** A term's, a value per layer. */
  *balances(term: number): Generator<TensorRead, Balances, void> {
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
