import type { NativeOptimizer, NativePlane, NativePlaneStart } from "../addon/native";
import { fromNative } from "../errors";
import { typedArrayName } from "../inspect";
import {
  copyOfThree,
  recheckGroup,
  type CheckedOptions,
  type GroupOptions,
  type StateDtype,
} from "../options";
import type { ParameterDtype } from "../memory/dtype";
import { roundsAtRandom, type Parameter } from "../parameters";
import type { Steps } from "./pace";

// The saved state of an optimizer: its metadata and its tensors. restore.ts reads it back; dict.ts and file.ts are its
// two forms, an object and a file.

/** The terms, layers and parameters that a state belongs to, and its values that are not tensors. */
export interface CheckpointMetadata {
  version: 1;
  iterations: number;
  terms: string[];
  layers: string[];
  parameters: {
    name: string;
    length: number;
    shape: number[];
    layer: string;
    group: number;
    /** Without it: "float32". */
    dtype?: ParameterDtype;
  }[];
  options: {
    firstMoment: "perTerm" | "summed";
    /** Without it: "perTerm". */
    secondMoment?: "perTerm" | "summed";
    /** Without it: "tensor". */
    unit?: "tensor" | "network";
    silence?: "decay" | "rest";
    /** Without it: "current". */
    scales?: "current" | "lagged";
    amsgrad: boolean;
    initialNorm: "first" | number;
    anchor: string;
    balance: number;
    stepScale: string;
    nonFinite: string;
    /** The type of the moments of parameters with at least 4,096 elements. Without it: "float32". */
    stateDtype?: StateDtype;
    /** Whether parameters of 16 bits have masters. Without it: false. */
    masterWeights?: boolean;
    /** In decimal digits; only where something is rounded at random. */
    seed?: string;
    /** Elements that share an exponent; with "8bit" only. */
    block?: number;
    weights: number[];
  };
  /** The options of each group; lr is null for a schedule. */
  groups: (Omit<GroupOptions, "lr" | "betas"> & { lr: number | null; betas: [number, number, number] })[];
}

export type StateTensor = Float32Array | Float64Array | BigInt64Array | Uint16Array | Uint8Array;

/** The types of a state's tensors, by name. */
export interface TensorTypes {
  Float32Array: Float32Array;
  Float64Array: Float64Array;
  BigInt64Array: BigInt64Array;
  Uint16Array: Uint16Array;
  Uint8Array: Uint8Array;
}
export type TensorType = keyof TensorTypes;

/**
 * The state of an optimizer. Terms i and parameters p are numbered in the order of `metadata`.
 *
 * | key | type | shape | |
 * | --- | --- | --- | --- |
 * | `n`, `occurred` | Float64Array, Uint8Array | I × L | norms, and whether the pair ever occurred |
 * | `skipped` | BigInt64Array | I × L | how often a gradient that counted as not finite was skipped; without it: never |
 * | `q` | Float64Array | I × P | squared norms, with the network as one unit |
 * | `t`, `P1`, `P2` | BigInt64Array, Float64Array × 2 | I × P | clocks, and the products of their betas |
 * | `m.<i>.<p>`, `v.<i>.<p>`, `x.<i>.<p>` | Float32Array | the parameter's | moments (x: with amsgrad) |
 * | `M.<p>`, `x.<p>`, `T`, `T.P1`, `T.P2` | | | in place of m and x, with first moments summed |
 * | `V.<p>` | | | in place of v, with second moments summed, too |
 * | `master.<p>` | Float32Array | the parameter's | with `masterWeights`, of a parameter of 16 bits: its value in float32 |
 *
 * With `stateDtype`, the moments of a parameter of at least 4,096 elements are Uint16Array (bfloat16) or Uint8Array
 * (8-bit codes, with `<key>.exponents`, a Uint8Array of one per 128 elements).
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
  readonly groups: readonly GroupOptions[];
  readonly iterations: number;
  /** Throws if a parameter has lost its memory, from which masters are read. @throws MTAdamError LENGTH, DISPOSED */
  recheckParameter(index: number): void;
}

/** The moments that a form keeps: their planes, and whether each belongs to a term or to all. */
export function planes({
  firstMoment,
  secondMoment,
  amsgrad,
}: Pick<CheckedOptions, "firstMoment" | "secondMoment" | "amsgrad">): {
  own: NativePlane[];
  shared: NativePlane[];
} {
  const summed = firstMoment === "summed";
  const x: NativePlane[] = amsgrad ? ["x"] : [];
  if (secondMoment === "summed") return { own: [], shared: ["m", "v", ...x] };
  return summed ? { own: ["v"], shared: ["m", ...x] } : { own: ["m", "v", ...x], shared: [] };
}

/** The shared planes' keys: M, V and x, as the algorithm calls them. */
export const sharedKey = (plane: NativePlane, parameter: number): string =>
  `${plane === "x" ? plane : plane.toUpperCase()}.${parameter}`;
export const ownKey = (plane: NativePlane, term: number, parameter: number): string =>
  `${plane}.${term}.${parameter}`;

export const masterKey = (parameter: number): string => `master.${parameter}`;

export const hasMaster = (
  { masterWeights }: Pick<CheckedOptions, "masterWeights">,
  { dtype }: Parameter,
): boolean => masterWeights && dtype !== "float32";

/** Elements that share an exponent of 8-bit codes. */
export const BLOCK = 128;

/** The elements from which on the moments of a parameter are codes. */
const LEAN_ELEMENTS = 4096;

/** The type of the moments of a parameter of so many elements. */
export const momentDtype = (stateDtype: StateDtype, length: number): StateDtype =>
  length < LEAN_ELEMENTS ? "float32" : stateDtype;

export const MOMENT_TYPES = {
  float32: "Float32Array",
  bfloat16: "Uint16Array",
  "8bit": "Uint8Array",
} as const satisfies Record<StateDtype, TensorType>;

export const exponentsKey = (key: string): string => `${key}.exponents`;
export const blocksOf = (length: number): number => Math.ceil(length / BLOCK);

/** Values of (term, layer) pairs: one per layer for a single term, or terms × layers. */
export interface Balances {
  n: Float64Array;
  occurred: Uint8Array;
  skipped: BigInt64Array;
}

function makeBalances(count: number): Balances {
  return { n: new Float64Array(count), occurred: new Uint8Array(count), skipped: new BigInt64Array(count) };
}

/** Of one (term, tensor) or, with first moments summed, of one tensor: a value per parameter. */
export interface Clocks {
  t: BigInt64Array;
  P1: Float64Array;
  P2: Float64Array;
}

export function makeClocks(count: number): Clocks {
  return { t: new BigInt64Array(count), P1: new Float64Array(count), P2: new Float64Array(count) };
}

/** Everything except moments: of one term, or of all terms one after another. */
export interface TermRecords {
  balances: Balances;
  clocks: Clocks;
  /** q, a value per parameter; 0 unless the network is one unit. */
  squares: Float64Array;
}

/** @param pairs of terms and layers; `places`: of terms and parameters */
export function makeRecords(pairs: number, places: number): TermRecords {
  return { balances: makeBalances(pairs), clocks: makeClocks(places), squares: new Float64Array(places) };
}

function sliceBalances({ n, occurred, skipped }: Balances, begin: number, end: number): Balances {
  return {
    n: n.subarray(begin, end),
    occurred: occurred.subarray(begin, end),
    skipped: skipped.subarray(begin, end),
  };
}

function sliceClocks({ t, P1, P2 }: Clocks, begin: number, end: number): Clocks {
  return { t: t.subarray(begin, end), P1: P1.subarray(begin, end), P2: P2.subarray(begin, end) };
}

/** One tensor of an optimizer's state. Moments stay where they are until they are read. */
export interface SavedTensor {
  readonly key: string;
  readonly type: TensorType;
  readonly shape: readonly number[];
  readonly length: number;
  /** Per element. */
  readonly bytes: number;
  /**
   * Fills `to`, of the tensor's type, with the elements from `first` on.
   *
   * @throws MTAdamError DISPOSED, CUDA
   */
  read(first: number, to: StateTensor): void;
  /** Of a tensor that the ranks share out: the elements of this rank, which {@link readOwn} reads without the others. */
  own?(): { first: number; end: number };
  readOwn?(first: number, to: StateTensor): void;
}

/**
 * The tensors of the state, those of 8-byte elements first and those of bytes last: one after the other, each starts on
 * a multiple of its element's size. There may be very many, so each is made when its turn comes.
 *
 * @throws MTAdamError DISPOSED, CUDA
 */
export function stateTensors(owner: StateOwner): Iterable<SavedTensor> {
  const { options, terms, parameters } = owner;
  const { records, summed } = readRecords(owner);
  const { balances, clocks, squares } = records;
  const perLayer = [terms.length, owner.layers.length];
  const perParameter = [terms.length, parameters.length];
  return {
    *[Symbol.iterator]() {
      yield recordTensor("n", balances.n, perLayer);
      yield recordTensor("skipped", balances.skipped, perLayer);
      if (options.unit === "network") yield recordTensor("q", squares, perParameter);
      for (const [key, values] of Object.entries(clocks)) {
        yield recordTensor(key, values as StateTensor, perParameter);
      }
      for (const [key, values] of Object.entries(summed))
        yield recordTensor(key, values, [parameters.length]);
      for (const [index, parameter] of parameters.entries()) {
        if (hasMaster(options, parameter)) yield masterTensor(owner, index);
      }
      for (const dtype of new Set<StateDtype>(["float32", options.stateDtype])) {
        for (const { key, ...place } of momentPlaces(owner)) {
          const { length } = parameters[place.parameter]!;
          if (momentDtype(options.stateDtype, length) !== dtype) continue;
          yield planeTensor(owner, key, place, dtype);
          if (dtype === "8bit") yield exponentsTensor(owner, key, place);
        }
      }
      yield recordTensor("occurred", balances.occurred, perLayer);
    },
  };
}

/** Where a moment is in the optimizer, without the element. */
type MomentPlace = Omit<NativePlaneStart, "first">;

function* momentPlaces({ options, terms, parameters }: StateOwner): Iterable<MomentPlace & { key: string }> {
  const { own, shared } = planes(options);
  for (const term of terms.keys()) {
    for (const parameter of parameters.keys()) {
      for (const plane of own) yield { key: ownKey(plane, term, parameter), plane, term, parameter };
    }
  }
  for (const parameter of parameters.keys()) {
    for (const plane of shared) yield { key: sharedKey(plane, parameter), plane, term: 0, parameter };
  }
}

/** Norms, counts and clocks: everything except moments. */
function readRecords(owner: StateOwner): {
  records: TermRecords;
  summed: Record<string, StateTensor>;
} {
  const { terms, layers, parameters } = owner;
  const records = makeRecords(terms.length * layers.length, terms.length * parameters.length);
  const { balances, clocks, squares } = records;
  for (const term of terms.keys()) {
    const [first, end] = [term * parameters.length, (term + 1) * parameters.length];
    readTerm(owner, term, {
      balances: sliceBalances(balances, term * layers.length, (term + 1) * layers.length),
      clocks: sliceClocks(clocks, first, end),
      squares: squares.subarray(first, end),
    });
  }
  if (owner.options.firstMoment !== "summed") return { records, summed: {} };
  const { t, P1, P2 } = readSharedClocks(owner);
  return { records, summed: { T: t, "T.P1": P1, "T.P2": P2 } };
}

/** Fills `to` with a term's norms, counts, clocks and, with the network as one unit, q. */
export function readTerm(
  { native, options }: StateOwner,
  term: number,
  { balances, clocks, squares }: TermRecords,
): void {
  fromNative(() => {
    native.readNorms(term, balances.n, balances.occurred, balances.skipped);
    native.readClocks(term, clocks.t, clocks.P1, clocks.P2);
    if (options.unit === "network") native.readSquares(term, squares);
  });
}

/** How often any term has been skipped in any layer. */
export function countSkipped({ native, terms, layers }: StateOwner): number {
  const { n, occurred, skipped } = makeBalances(layers.length);
  return terms.reduce((sum, _, term) => {
    fromNative(() => native.readNorms(term, n, occurred, skipped));
    return sum + skipped.reduce((counts, count) => counts + Number(count), 0);
  }, 0);
}

export function readSharedClocks({ native, parameters }: StateOwner): Clocks {
  const clocks = makeClocks(parameters.length);
  fromNative(() => native.readClocks(null, clocks.t, clocks.P1, clocks.P2));
  return clocks;
}

function recordTensor(key: string, values: StateTensor, shape: readonly number[]): SavedTensor {
  return {
    key,
    type: typedArrayName(values) as TensorType,
    shape,
    length: values.length,
    bytes: values.BYTES_PER_ELEMENT,
    read(first, to) {
      (to as Float64Array).set((values as Float64Array).subarray(first, first + to.length));
    },
  };
}

function planeTensor(
  { native, parameters }: StateOwner,
  key: string,
  place: MomentPlace,
  dtype: StateDtype,
): SavedTensor {
  const { length, shape } = parameters[place.parameter]!;
  const type = MOMENT_TYPES[dtype];
  return {
    key,
    type,
    shape,
    length,
    bytes: TENSOR_ARRAYS[type].BYTES_PER_ELEMENT,
    read(first, to) {
      fromNative(() => {
        if (dtype === "float32") native.readPlane({ ...place, first }, to as Float32Array);
        else native.readCodes({ ...place, first }, to as Uint8Array);
      });
    },
    own: () => ownElements(native, place.parameter),
    readOwn(first, to) {
      fromNative(() => {
        if (dtype === "float32") native.readOwnPlane({ ...place, first }, to as Float32Array);
        else native.readOwnCodes({ ...place, first }, to as Uint8Array);
      });
    },
  };
}

/** The elements of a parameter's moments that this rank has. */
function ownElements(native: NativeOptimizer, parameter: number): { first: number; end: number } {
  const range = new Float64Array(2);
  fromNative(() => {
    native.ownRange(parameter, range);
  });
  return { first: range[0]!, end: range[1]! };
}

function masterTensor(owner: StateOwner, parameter: number): SavedTensor {
  const { native, parameters } = owner;
  const { length, shape } = parameters[parameter]!;
  return {
    key: masterKey(parameter),
    type: "Float32Array",
    shape,
    length,
    bytes: Float32Array.BYTES_PER_ELEMENT,
    // The memory can be lost between any two reads of a state.
    read(first, to) {
      owner.recheckParameter(parameter);
      fromNative(() => {
        native.readMaster(parameter, first, to as Float32Array);
      });
    },
    own: () => ownElements(native, parameter),
    readOwn(first, to) {
      owner.recheckParameter(parameter);
      fromNative(() => {
        native.readOwnMaster(parameter, first, to as Float32Array);
      });
    },
  };
}

function exponentsTensor({ native, parameters }: StateOwner, key: string, place: MomentPlace): SavedTensor {
  const length = blocksOf(parameters[place.parameter]!.length);
  return {
    key: exponentsKey(key),
    type: "Uint8Array",
    shape: [length],
    length,
    bytes: 1,
    read(first, to) {
      fromNative(() => {
        native.readExponents({ ...place, first }, to as Uint8Array);
      });
    },
    own() {
      // Ranks share out whole blocks.
      const { first, end } = ownElements(native, place.parameter);
      return { first: blocksOf(first), end: blocksOf(end) };
    },
    readOwn(first, to) {
      fromNative(() => {
        native.readOwnExponents({ ...place, first }, to as Uint8Array);
      });
    },
  };
}

/**
 * Reads the options and weights in its first step, since the user may change them before the last.
 *
 * @throws MTAdamError OPTION if an option of a group is invalid
 */
export function* stateMetadata(owner: StateOwner): Steps<CheckpointMetadata> {
  const { options, layers } = owner;
  const given = owner.groups.map(({ betas, ...group }) => ({ ...group, betas: copyOfThree(betas) }));
  const weights = [...owner.weights];
  yield undefined;
  const groups: CheckpointMetadata["groups"] = [];
  for (const options of given) {
    // The user may have set an invalid option, and a state must be restorable.
    const { lr, betas, eps, weightDecay, decoupledWeightDecay, maximize } = recheckGroup(options);
    groups.push({
      lr: typeof lr === "number" ? lr : null,
      betas: [betas[0], betas[1], betas[2]],
      eps,
      weightDecay,
      decoupledWeightDecay,
      maximize,
    });
    yield undefined;
  }
  const parameters: CheckpointMetadata["parameters"] = [];
  for (const { name, length, shape, layer, group, dtype } of owner.parameters) {
    const own = { name, length, shape: [...shape], layer: layers[layer] ?? name, group };
    parameters.push(dtype === "float32" ? own : { ...own, dtype });
    yield undefined;
  }
  return {
    version: 1,
    iterations: owner.iterations,
    terms: [...owner.terms],
    layers: [...layers],
    parameters,
    options: {
      firstMoment: options.firstMoment,
      secondMoment: options.secondMoment,
      unit: options.unit,
      silence: options.silence,
      scales: options.scales,
      amsgrad: options.amsgrad,
      initialNorm: options.initialNorm,
      anchor: options.anchor,
      balance: options.balance,
      stepScale: options.stepScale,
      nonFinite: options.nonFinite,
      ...(options.stateDtype === "float32" ? {} : { stateDtype: options.stateDtype }),
      ...(roundsAtRandom(options, owner.parameters) ? { seed: String(options.seed) } : {}),
      ...(owner.parameters.some((parameter) => hasMaster(options, parameter)) ? { masterWeights: true } : {}),
      ...(options.stateDtype === "8bit" ? { block: BLOCK } : {}),
      weights,
    },
    groups,
  };
}

/** Bytes copied at a time: enough for a disk's full speed, and too few to stall the event loop noticeably. */
export const CHUNK_BYTES = 4 * 2 ** 20;

/** A tensor's elements in chunks of at most `most`. */
export function* chunks(length: number, most: number): Generator<{ first: number; count: number }> {
  for (let first = 0; first < length; first += most) yield { first, count: Math.min(most, length - first) };
}

interface TensorConstructor {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): StateTensor;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): StateTensor;
}
const TENSOR_ARRAYS: Readonly<Record<TensorType, TensorConstructor>> = {
  Float32Array,
  Float64Array,
  BigInt64Array,
  Uint16Array,
  Uint8Array,
};

/** `length` elements of a type: new ones, or those that lie in `buffer` from `byteOffset` on. */
export function makeTensor(
  type: TensorType,
  length: number,
  buffer?: ArrayBufferLike,
  byteOffset = 0,
): StateTensor {
  const Type = TENSOR_ARRAYS[type];
  return buffer === undefined ? new Type(length) : new Type(buffer, byteOffset, length);
}
