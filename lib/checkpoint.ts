import { fromNative, MTAdamError } from "./errors";
import { describeValue, isArray, typedArrayLength, typedArrayName } from "./inspect";
import type { NativeOptimizer, NativePlane } from "./native";
import { checkGroup, type CheckedOptions, type GroupOptions } from "./options";
import type { Parameter } from "./parameters";

/** What a state belongs to, and everything in it that is no tensor. */
export interface CheckpointMetadata {
  version: 1;
  iterations: number;
  terms: string[];
  layers: string[];
  parameters: { name: string; length: number; shape: number[]; layer: string; group: number }[];
  options: {
    firstMoment: "perTerm" | "summed";
    amsgrad: boolean;
    initialNorm: "first" | number;
    anchor: string;
    balance: number;
    stepScale: string;
    nonFinite: string;
    weights: number[];
  };
  /** As the options of each group, lr null where it is a schedule. */
  groups: (Omit<GroupOptions, "lr" | "betas"> & { lr: number | null; betas: [number, number, number] })[];
}

export type StateTensor = Float32Array | Float64Array | BigInt64Array | Uint8Array;

/**
 * The state of an optimizer. Terms i and parameters p are numbered in the order of `metadata`.
 *
 * | key | type | shape | |
 * | --- | --- | --- | --- |
 * | `n`, `occurred` | Float64Array, Uint8Array | I × L | norms, and whether the pair ever occurred |
 * | `t`, `P1`, `P2` | BigInt64Array, Float64Array × 2 | I × P | clocks, and the products of their betas |
 * | `m.<i>.<p>`, `v.<i>.<p>`, `x.<i>.<p>` | Float32Array | the parameter's | moments (x: with amsgrad) |
 * | `M.<p>`, `x.<p>`, `T`, `T.P1`, `T.P2` | | | in place of m and x, with first moments summed |
 */
export interface StateDict {
  metadata: CheckpointMetadata;
  [tensor: string]: StateTensor | CheckpointMetadata;
}

/** The parts of an optimizer that its state is made of. */
export interface StateOwner {
  readonly native: NativeOptimizer;
  readonly options: CheckedOptions;
  readonly terms: readonly string[];
  readonly weights: readonly number[];
  readonly parameters: readonly Parameter[];
  readonly layers: readonly string[];
  /** Written to when a state is loaded. */
  readonly groups: readonly { -readonly [K in keyof GroupOptions]: GroupOptions[K] }[];
  readonly iterations: number;
}

/** The moments that a form keeps: their planes, and whether each belongs to a term or to all. */
function planes({ firstMoment, amsgrad }: Pick<CheckedOptions, "firstMoment" | "amsgrad">): {
  own: NativePlane[];
  shared: NativePlane[];
} {
  const summed = firstMoment === "summed";
  const x: NativePlane[] = amsgrad ? ["x"] : [];
  return summed ? { own: ["v"], shared: ["m", ...x] } : { own: ["m", "v", ...x], shared: [] };
}

/** The shared planes' keys: M, as the algorithm calls it, and x. */
const sharedKey = (plane: NativePlane, parameter: number): string =>
  `${plane === "m" ? "M" : plane}.${parameter}`;
const ownKey = (plane: NativePlane, term: number, parameter: number): string =>
  `${plane}.${term}.${parameter}`;

interface Clocks {
  t: BigInt64Array;
  P1: Float64Array;
  P2: Float64Array;
}

function makeClocks(count: number): Clocks {
  return { t: new BigInt64Array(count), P1: new Float64Array(count), P2: new Float64Array(count) };
}

function sliceClocks({ t, P1, P2 }: Clocks, begin: number, end: number): Clocks {
  return { t: t.subarray(begin, end), P1: P1.subarray(begin, end), P2: P2.subarray(begin, end) };
}

export function saveState(owner: StateOwner): StateDict {
  const { native, options, terms, parameters, layers } = owner;
  const n = new Float64Array(terms.length * layers.length);
  const occurred = new Uint8Array(n.length);
  const clocks = makeClocks(terms.length * parameters.length);
  const state: StateDict = { metadata: saveMetadata(owner), n, occurred, ...clocks };
  const { own, shared } = planes(options);
  const readPlane = (key: string, plane: NativePlane, term: number, parameter: number): void => {
    const values = new Float32Array(parameters[parameter]?.length ?? 0);
    native.readPlane(plane, term, parameter, values);
    state[key] = values;
  };
  fromNative(() => {
    for (const term of terms.keys()) {
      const [first, end] = [term * layers.length, (term + 1) * layers.length];
      native.readBalances(term, n.subarray(first, end), occurred.subarray(first, end));
      const { t, P1, P2 } = sliceClocks(clocks, term * parameters.length, (term + 1) * parameters.length);
      native.readClocks(term, t, P1, P2);
      for (const parameter of parameters.keys()) {
        for (const plane of own) readPlane(ownKey(plane, term, parameter), plane, term, parameter);
      }
    }
    if (options.firstMoment !== "summed") return;
    const summed = makeClocks(parameters.length);
    native.readClocks(null, summed.t, summed.P1, summed.P2);
    Object.assign(state, { T: summed.t, "T.P1": summed.P1, "T.P2": summed.P2 });
    for (const parameter of parameters.keys()) {
      for (const plane of shared) readPlane(sharedKey(plane, parameter), plane, 0, parameter);
    }
  });
  return state;
}

function saveMetadata(owner: StateOwner): CheckpointMetadata {
  const { options, layers } = owner;
  return {
    version: 1,
    iterations: owner.iterations,
    terms: [...owner.terms],
    layers: [...layers],
    parameters: owner.parameters.map(({ name, length, shape, layer, group }) => {
      return { name, length, shape: [...shape], layer: layers[layer] ?? name, group };
    }),
    options: {
      firstMoment: options.firstMoment,
      amsgrad: options.amsgrad,
      initialNorm: options.initialNorm,
      anchor: options.anchor,
      balance: options.balance,
      stepScale: options.stepScale,
      nonFinite: options.nonFinite,
      weights: [...owner.weights],
    },
    groups: owner.groups.map((group) => {
      const [beta1, beta2, beta3] = group.betas;
      return {
        lr: typeof group.lr === "number" ? group.lr : null,
        betas: [beta1, beta2, beta3],
        eps: group.eps,
        weightDecay: group.weightDecay,
        decoupledWeightDecay: group.decoupledWeightDecay,
        maximize: group.maximize,
      };
    }),
  };
}

// ---- Loading ----

/** One thing of the optimizer and the number it has in the state. */
interface Match {
  ours: number;
  theirs: number;
}

function fail(message: string, cause?: unknown): never {
  throw new MTAdamError("CHECKPOINT", message, cause === undefined ? undefined : { cause });
}

/**
 * Checks a whole state against the optimizer, changing nothing.
 *
 * @returns what puts it in place, and gives the optimizer's new iterations and weights
 * @throws MTAdamError CHECKPOINT
 */
export function loadState(
  owner: StateOwner,
  state: unknown,
  strict: boolean,
): () => { iterations: number; weights: number[] } {
  const entries = readOnce(state);
  const metadata = checkMetadata(entries["metadata"]);
  const reader = new StateReader(entries, metadata);
  const terms = match("term", owner.terms, metadata.terms, strict);
  const names = owner.parameters.map(({ name }) => name);
  const theirNames = metadata.parameters.map(({ name }) => name);
  const parameters = match("parameter", names, theirNames, strict);
  for (const { ours, theirs } of parameters) checkParameter(owner, ours, metadata, theirs);
  const layers = match("layer", owner.layers, metadata.layers, strict);
  const convert = checkForm(owner.options, metadata.options);
  const groups = matchGroups(owner, metadata, parameters, strict);
  const weights = [...owner.weights];
  for (const { ours, theirs } of terms) weights[ours] = reader.weight(theirs);

  const writes: (() => void)[] = [];
  for (const term of terms) writes.push(restoreTerm(owner, reader, term, layers, parameters));
  if (owner.options.firstMoment === "summed") {
    writes.push((convert ? sumMoments : restoreSummed)(owner, reader, terms, parameters));
  }
  return () => {
    fromNative(() => {
      for (const write of writes) write();
    });
    for (const { ours, options } of groups) Object.assign(owner.groups[ours] as object, options);
    return { iterations: metadata.iterations, weights };
  };
}

function restoreTerm(
  owner: StateOwner,
  reader: StateReader,
  term: Match,
  layers: readonly Match[],
  parameters: readonly Match[],
): () => void {
  const { native } = owner;
  const n = new Float64Array(owner.layers.length);
  const occurred = new Uint8Array(owner.layers.length);
  const clocks = makeClocks(owner.parameters.length);
  // What has no match stays as it is.
  fromNative(() => {
    native.readBalances(term.ours, n, occurred);
    native.readClocks(term.ours, clocks.t, clocks.P1, clocks.P2);
  });
  for (const layer of layers) {
    const balance = reader.balance(term.theirs, layer.theirs);
    n[layer.ours] = balance.n;
    occurred[layer.ours] = balance.occurred;
  }
  const copies = parameters.map((parameter) => {
    reader.copyClock(term.theirs, parameter.theirs, clocks, parameter.ours);
    return planes(owner.options).own.map((plane) => {
      const values = reader.plane(ownKey(plane, term.theirs, parameter.theirs), parameter.theirs);
      return () => {
        native.writePlane(plane, term.ours, parameter.ours, values);
      };
    });
  });
  return () => {
    native.restoreBalances(term.ours, n, occurred);
    native.restoreClocks(term.ours, clocks.t, clocks.P1, clocks.P2);
    for (const copy of copies.flat()) copy();
  };
}

function restoreSummed(
  owner: StateOwner,
  reader: StateReader,
  _terms: readonly Match[],
  parameters: readonly Match[],
): () => void {
  const { native } = owner;
  const clocks = readSharedClocks(owner);
  const copies = parameters.map((parameter) => {
    reader.copySharedClock(parameter.theirs, clocks, parameter.ours);
    return planes(owner.options).shared.map((plane) => {
      const values = reader.plane(sharedKey(plane, parameter.theirs), parameter.theirs);
      return () => {
        native.writePlane(plane, 0, parameter.ours, values);
      };
    });
  });
  return () => {
    native.restoreClocks(null, clocks.t, clocks.P1, clocks.P2);
    for (const copy of copies.flat()) copy();
  };
}

/**
 * M = (1 − β₁ᵀ)·Σ m_i/(1 − β₁^tᵢ), with T the largest clock and its products; where the clocks are equal, the plain
 * sum. x is the largest x_i.
 */
function sumMoments(
  owner: StateOwner,
  reader: StateReader,
  terms: readonly Match[],
  parameters: readonly Match[],
): () => void {
  const { native, options } = owner;
  const clocks = readSharedClocks(owner);
  const sums = parameters.map((parameter) => {
    const own = terms.map(({ theirs }) => {
      const clock = makeClocks(1);
      reader.copyClock(theirs, parameter.theirs, clock, 0);
      return { theirs, t: clock.t[0] ?? 0n, P1: clock.P1[0] ?? 1, P2: clock.P2[0] ?? 1 };
    });
    const ran = own.filter(({ t }) => t > 0n);
    const last = ran.reduce<(typeof ran)[number] | undefined>(
      (latest, clock) => (latest === undefined || clock.t > latest.t ? clock : latest),
      undefined,
    );
    clocks.t[parameter.ours] = last?.t ?? 0n;
    clocks.P1[parameter.ours] = last?.P1 ?? 1;
    clocks.P2[parameter.ours] = last?.P2 ?? 1;
    const M = new Float64Array(owner.parameters[parameter.ours]?.length ?? 0);
    const x = new Float32Array(options.amsgrad ? M.length : 0);
    for (const { theirs, t, P1 } of ran) {
      const factor = t === last?.t ? 1 : (1 - (last?.P1 ?? 1)) / (1 - P1);
      const m = reader.plane(ownKey("m", theirs, parameter.theirs), parameter.theirs);
      for (const [k, value] of m.entries()) M[k] = (M[k] ?? 0) + factor * value;
      if (!options.amsgrad) continue;
      const own_x = reader.plane(ownKey("x", theirs, parameter.theirs), parameter.theirs);
      for (const [k, value] of own_x.entries()) x[k] = Math.max(x[k] ?? 0, value);
    }
    return { parameter: parameter.ours, M: Float32Array.from(M), x };
  });
  return () => {
    native.restoreClocks(null, clocks.t, clocks.P1, clocks.P2);
    for (const { parameter, M, x } of sums) {
      native.writePlane("m", 0, parameter, M);
      if (options.amsgrad) native.writePlane("x", 0, parameter, x);
    }
  };
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
  return theirs.flatMap((sources, ours) => {
    const [source] = sources;
    if (sources.size !== 1 || source === undefined) {
      if (strict && sources.size > 1)
        fail("The state must have the optimizer's groups; got parameters in others.");
      return [];
    }
    const saved = metadata.groups[source];
    if (saved === undefined) fail("The state must have the options of every group.");
    let checked: GroupOptions;
    try {
      checked = checkGroup({ ...saved, lr: saved.lr ?? undefined }, undefined);
    } catch (error) {
      fail(`The state must have valid options; ${(error as Error).message}`, error);
    }
    const { lr, ...others } = checked;
    const keepsSchedule = typeof owner.groups[ours]?.lr === "function" || saved.lr === null;
    return [{ ours, options: keepsSchedule ? others : { lr, ...others } }];
  });
}

// ---- Reading a state that anything may have written ----

/** A state's entries and a deep copy of its metadata: whatever code reading them runs, runs here and only once. */
function readOnce(state: unknown): Record<string, unknown> {
  if (!isObject(state)) fail("The state must be an object.");
  try {
    const entries: Record<string, unknown> = { ...state };
    // It is JSON by definition, as checkpoints hold it.
    return { ...entries, metadata: JSON.parse(JSON.stringify(entries["metadata"] ?? null)) as unknown };
  } catch {
    fail("The state must be an object of plain data.");
  }
}

function checkMetadata(metadata: unknown): CheckpointMetadata {
  if (!isObject(metadata)) fail("The state must have an object as `metadata`.");
  if (metadata["version"] !== 1)
    fail(`The state must be of version 1; got ${describeValue(metadata["version"])}.`);
  const { iterations, terms, layers, parameters, options, groups } = metadata;
  const isValid =
    isCount(iterations) &&
    isNames(terms) &&
    isNames(layers) &&
    isArray(parameters) &&
    parameters.every((parameter) => isSavedParameter(parameter, layers)) &&
    isNames(parameters.map(({ name }) => name)) &&
    isObject(options) &&
    isArray(groups) &&
    groups.every(isObject);
  if (!isValid) fail("The state must have complete `metadata`.");
  return metadata as unknown as CheckpointMetadata;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;
const isSavedParameter = (
  value: unknown,
  layers: readonly string[],
): value is { name: string; length: number; layer: string } =>
  isObject(value) &&
  typeof value["name"] === "string" &&
  isCount(value["length"]) &&
  layers.includes(value["layer"] as string);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isNames = (value: unknown): value is string[] =>
  isArray(value) && value.every((name) => typeof name === "string") && new Set(value).size === value.length;

/** Tensors of a state by key, each checked for type, length and range when it is asked for. */
class StateReader {
  readonly #state: Record<string, unknown>;
  readonly #metadata: CheckpointMetadata;

  constructor(state: Record<string, unknown>, metadata: CheckpointMetadata) {
    this.#state = state;
    this.#metadata = metadata;
  }

  weight(term: number): number {
    const weight: unknown = (this.#metadata.options.weights as unknown[] | undefined)?.[term];
    if (typeof weight === "number" && Number.isFinite(weight) && weight >= 0) return weight;
    fail(`The state must have a finite weight of at least 0 per term; got ${describeValue(weight)}.`);
  }

  balance(term: number, layer: number): { n: number; occurred: number } {
    const layers = this.#metadata.layers.length;
    const count = this.#metadata.terms.length * layers;
    const n = this.#tensor("n", "Float64Array", count)[term * layers + layer] ?? NaN;
    const occurred = this.#tensor("occurred", "Uint8Array", count)[term * layers + layer] ?? 0;
    if (occurred > 1 || !(n >= 0)) fail("The state must have norms of at least 0.");
    return { n, occurred };
  }

  copyClock(term: number, parameter: number, to: Clocks, at: number): void {
    const parameters = this.#metadata.parameters.length;
    this.#copyClock(
      ["t", "P1", "P2"],
      this.#metadata.terms.length * parameters,
      term * parameters + parameter,
      to,
      at,
    );
  }

  copySharedClock(parameter: number, to: Clocks, at: number): void {
    this.#copyClock(["T", "T.P1", "T.P2"], this.#metadata.parameters.length, parameter, to, at);
  }

  plane(key: string, parameter: number): Float32Array {
    return this.#tensor(key, "Float32Array", this.#metadata.parameters[parameter]?.length ?? 0);
  }

  #copyClock(
    keys: readonly [string, string, string],
    count: number,
    from: number,
    to: Clocks,
    at: number,
  ): void {
    const t = this.#tensor(keys[0], "BigInt64Array", count)[from] ?? -1n;
    const P1 = this.#tensor(keys[1], "Float64Array", count)[from] ?? NaN;
    const P2 = this.#tensor(keys[2], "Float64Array", count)[from] ?? NaN;
    const isProduct = (value: number): boolean => value >= 0 && value <= 1;
    if (t < 0n || !isProduct(P1) || !isProduct(P2)) fail("The state must have valid clocks.");
    to.t[at] = t;
    to.P1[at] = P1;
    to.P2[at] = P2;
  }

  #tensor<T extends keyof TensorTypes>(key: string, type: T, length: number): TensorTypes[T] {
    const tensor = Object.hasOwn(this.#state, key) ? this.#state[key] : undefined;
    if (typedArrayName(tensor) === type && typedArrayLength(tensor as StateTensor) === length) {
      return tensor as TensorTypes[T];
    }
    fail(`The state must have \`${key}\`, a ${type} of ${length}; got ${describeValue(tensor)}.`);
  }
}

interface TensorTypes {
  Float32Array: Float32Array;
  Float64Array: Float64Array;
  BigInt64Array: BigInt64Array;
  Uint8Array: Uint8Array;
}
