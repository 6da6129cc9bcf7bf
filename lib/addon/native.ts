import { loadAddon } from "./load";

// Declarations of the addon, and the only access to it. load.ts finds and loads it.

/** A tensor's memory as native code takes it; a bigint is an address on the device. */
export type NativeSource = Float32Array | Uint16Array | NativeBuffer | bigint;

/** A stream's handle; null is the default stream. */
export type NativeStream = bigint | null;

export type AnyTypedArray = Float32Array | Float64Array | Uint16Array;

export interface NativeDevice {
  readonly name: string;
  dispose(): void;
}

export interface NativeBuffer {
  readonly pointer: bigint;
  upload(from: AnyTypedArray, stream: NativeStream): void;
  /** Undefined where `to` is complete when the call returns. */
  download(to: AnyTypedArray): Promise<void> | undefined;
  /** Sets every element to the single element of `element`. */
  fill(element: AnyTypedArray): void;
  dispose(): void;
}

/** The shape of an optimizer's state: arrays have a value per parameter. */
export interface NativeShape {
  /** Elements. */
  lengths: Float64Array;
  /** Numbered in order of first appearance. */
  layers: Uint32Array;
  groups: Uint32Array;
  groupCount: number;
  terms: number;
  /** Whether first moments are summed. */
  summed: boolean;
  /** Whether second moments are summed, too. */
  oneV: boolean;
  amsgrad: boolean;
  /** Whether the step is the mean of the terms' steps. */
  mean: boolean;
  nonFinite: "skipTerm" | "skipStep" | "skipElement" | "propagate";
  /** Whether each step takes the cosines between the terms' gradients. */
  cosines: boolean;
  /** A number is the index of a term. */
  anchor: "first" | "max" | "mean" | number;
  /** p of step 4. */
  balance: number;
  /** c of `initialNorm: c`; 0 = "first". */
  initialNorm: number;
  /** Whether the network is one unit. */
  network: boolean;
  /** Whether scales are computed from the norms before the step. */
  lagged: boolean;
  /** Whether the norm of a silent term rests. */
  rest: boolean;
  stateDtype: NativeStateDtype;
  /** Of draws. */
  seed: bigint;
  /** The names that draws depend on; empty where there are none. */
  parameterNames: readonly string[];
  termNames: readonly string[];
  /** How parameters of 16 bits are rounded; "master": to nearest, with a master. */
  rounding: "stochastic" | "nearest" | "master";
  /** The type of each parameter; empty where all are float32. */
  dtypes: readonly NativeElementDtype[];
  /** The type of each parameter's gradients; empty where all are float32. */
  gradientDtypes: readonly NativeElementDtype[];
}

/** The type of the elements of a parameter or gradient. */
export type NativeElementDtype = "float32" | "float16" | "bfloat16";

/** The type of the moments of large parameters. */
export type NativeStateDtype = "float32" | "bfloat16" | "8bit";

export type NativePlane = "m" | "v" | "x";

/**
 * An element of a parameter's moment. With first moments summed, planes m and x are shared, and `term` is ignored for
 * them; with second moments summed, v too.
 */
export interface NativePlaneStart {
  plane: NativePlane;
  term: number;
  parameter: number;
  first: number;
}

/** How a step ended: captured in a graph, and not taken; taken; or taken without a term that was skipped. */
export const StepOutcome = { captured: 0, taken: 1, skippedATerm: 2 } as const;

export interface NativeOptimizer {
  /** Completed steps. Launches of graphs are counted by `readIterations`. */
  readonly iterations: number;
  readonly termCount: number;
  readonly groupCount: number;
  /** {@link isWhole} and not {@link isOpen}. */
  readonly isIdle: boolean;
  /** Whether a step has begun with `accumulate` and not ended. */
  readonly isOpen: boolean;
  /** False where a call or a restore ended midway: only a complete restore may follow. */
  readonly isWhole: boolean;
  /** Whether the open step has the term. */
  isAccumulated(term: number): boolean;
  /**
   * `values`: {@link packValues}. `stays`: the table is never filled with other gradients, so that a graph that is
   * being captured may read it. `reduced`: whether gradients are sums over all ranks already. Where work may run after
   * the call, no skipped term is known yet.
   */
  step(
    gradients: NativeGradients,
    values: Float64Array,
    stream: NativeStream,
    stays: boolean,
    reduced: boolean,
  ): (typeof StepOutcome)[keyof typeof StepOutcome];
  /**
   * `values`: the groups' part is read only if this call opens a step. Returns whether the term was skipped somewhere, as
   * far as that is known yet; where the ranks are still exchanging it, a later call returns that.
   */
  accumulate(
    gradients: NativeGradients,
    values: Float64Array,
    stream: NativeStream,
    term: number,
    reduced: boolean,
  ): boolean;
  /** Returns whether an accumulated term was skipped that `accumulate` has not told of. */
  update(stream: NativeStream): boolean;
  /** Ends the open step, if there is one, without moving a parameter. */
  discard(): void;
  /** Adds a term after the others. Gradients and captured steps made before become invalid, as with removeTerm. */
  addTerm(name: string): void;
  removeTerm(term: number): void;
  /** Sets every gradient to 0. */
  zero(gradients: NativeGradients, stream: NativeStream): void;
  /** Waits until the gradients' addresses are on the device. */
  upload(gradients: NativeGradients, stream: NativeStream): void;
  /** Sends the options of the next launch of a graph. */
  refresh(values: Float64Array, stream: NativeStream): void;
  /** Waits for the stream. The result includes launches of graphs. */
  readIterations(stream: NativeStream): number;
  /** Ends an open step. The state is not whole until `endRestore`. */
  beginRestore(): void;
  /** `isComplete`: the whole state was replaced. Otherwise, a state that was not whole before stays so. */
  endRestore(iterations: number, isComplete: boolean): void;
  /**
   * target[k] += source[k] for each pair, of the parameter with that index. All are checked before any is added to; a
   * coded error has the pair's `index` and its `role`.
   */
  add(
    targets: readonly NativeSource[],
    sources: readonly NativeSource[],
    parameters: Uint32Array,
    stream: NativeStream,
  ): void;
  /** Undefined where there is nothing to wait for. */
  synchronize(): Promise<void> | undefined;
  synchronizeNow(): void;
  /** A value per layer. */
  readNorms(term: number, n: Float64Array, occurred: Uint8Array, skipped: BigInt64Array): void;
  restoreNorms(term: number, n: Float64Array, occurred: Uint8Array, skipped: BigInt64Array): void;
  /** q, a value per parameter; with the network as one unit only. */
  readSquares(term: number, q: Float64Array): void;
  restoreSquares(term: number, q: Float64Array): void;
  /** A value per parameter; term null: the clock T of the summed first moment. */
  readClocks(term: number | null, t: BigInt64Array, p1: Float64Array, p2: Float64Array): void;
  restoreClocks(term: number | null, t: BigInt64Array, p1: Float64Array, p2: Float64Array): void;
  /** The summed first moment of a parameter and its clock begin again. */
  restartSum(parameter: number): void;
  /** As many elements as `to` has. */
  readPlane(start: NativePlaneStart, to: Float32Array): void;
  /** Sets `to` to the first and the end of the elements of a parameter's moments that this rank has. */
  ownRange(parameter: number, to: Float64Array): void;
  /** The same as readPlane, readCodes and readExponents of a range of these, without the other ranks. */
  readOwnPlane(start: NativePlaneStart, to: Float32Array): void;
  readOwnCodes(start: NativePlaneStart, to: Uint16Array | Uint8Array): void;
  readOwnExponents(start: NativePlaneStart, to: Uint8Array): void;
  /** Rounds to nearest where the moments are codes; the range is then of whole blocks. */
  writePlane(start: NativePlaneStart, from: Float32Array): void;
  /** The codes of a parameter whose moments are codes: Uint16Array for bfloat16, Uint8Array for 8 bits. */
  readCodes(start: NativePlaneStart, to: Uint16Array | Uint8Array): void;
  writeCodes(start: NativePlaneStart, from: Uint16Array | Uint8Array): void;
  /** The exponents of 8-bit codes; `first` counts blocks. */
  readExponents(start: NativePlaneStart, to: Uint8Array): void;
  writeExponents(start: NativePlaneStart, from: Uint8Array): void;
  /** A parameter of 16 bits together with its master, from the element `first` on. */
  readMaster(parameter: number, first: number, to: Float32Array): void;
  /** The same of a range of this rank's elements, without the other ranks. */
  readOwnMaster(parameter: number, first: number, to: Float32Array): void;
  /** Changes the master alone. */
  writeMaster(parameter: number, first: number, from: Float32Array): void;
  /** As if there had been no master yet. */
  resetMaster(parameter: number): void;
  dispose(): void;
}

/** Norms after the calls so far, on their way to the host. */
export interface NativeDiagnostics {
  /** Whether {@link read} never waits on this device. */
  readonly isComplete: boolean;
  /** Settles when {@link read} has nothing to wait for. */
  arrive(): Promise<void>;
  /**
   * Waits for the values, and frees their copies: to be called once.
   *
   * @param values four blocks of terms × layers: n, r, s, and how often a norm was skipped, n and s NaN where a pair has
   * not occurred; and the index of the anchor's term per layer, −1 where it is no term's
   * @param cosines terms × terms × layers of the last step, NaN where there are none
   */
  read(values: Float64Array, cosines: Float32Array | null): void;
}

/** The processes of an MPI job, or of a communicator of NCCL. */
export interface NativeCommunicator {
  readonly rank: number;
  readonly size: number;
  readonly library: string;
  /** Waits for all ranks; throws a coded error unless all make this call. The name has at most 31 bytes. */
  agree(call: string): void;
  close(): void;
}

/** What an optimizer shares with other ranks. */
export interface NativeSharing {
  communicator: NativeCommunicator;
  /** Whether each rank has its part of the state alone. */
  state: boolean;
  ordered: boolean;
  bfloat16: boolean;
}

export interface NativeGradients {
  /** Null = absent. Returns −1, or the parameter that the gradient overlaps; then nothing was set. */
  set(term: number, parameter: number, source: NativeSource | null): number;
}

/** Knows whether a function is running, even after JavaScript was ended in the middle of one. */
export interface NativeCallMark {
  run<T>(call: () => T): T;
  readonly isSet: boolean;
}

export interface NativeCapturedStep {
  replay(values: Float64Array): void;
  dispose(): void;
}

/** A file without a name, which another process can map, too. */
export interface NativeSharedMemory {
  /** The file's, to be inherited by the other process; −1 once the file is mapped. */
  readonly descriptor: number;
  /**
   * Sizes, seals and maps the file, once. Returns an array per offset (in bytes; lengths are in elements, of 4 or 2 bytes);
   * together they keep the memory mapped.
   */
  map(
    byteLength: number,
    offsets: Float64Array,
    lengths: Float64Array,
    elementBytes: Float64Array,
  ): (Float32Array | Uint16Array)[];
}

/** Strings are empty where they do not apply. */
export interface NativeCudaDescription {
  driver: string;
  runtime: string;
  reason: string;
  architectures: string[];
  devices: { name: string; computeCapability: string; reason: string }[];
}

export interface NativeAddon {
  Device: {
    new (kind: "cpu", threads: number, instructionSet: string): NativeDevice;
    new (kind: "cuda", index: number): NativeDevice;
  };
  /**
   * New memory; with a handle of `cudaIpcGetMemHandle`, an allocation of another process; with a buffer, a part of it from
   * `offset`, in bytes.
   */
  Buffer: new (
    device: NativeDevice,
    byteLength: number,
    source?: Uint8Array | NativeBuffer,
    offset?: number,
  ) => NativeBuffer;
  /**
   * Throws a coded error with `parameters`, two indices, if two sources overlap; with `index` if an address is not one
   * of the device.
   */
  Optimizer: new (
    device: NativeDevice,
    shape: NativeShape,
    sources: readonly NativeSource[],
    /** The stream of calls without one. */
    stream: NativeStream,
    sharing: NativeSharing | null,
  ) => NativeOptimizer;
  /** Uses the first library that can be loaded. `timeout`: seconds. Throws a coded error. */
  Communicator: {
    new (kind: "mpi", libraries: readonly string[], timeout: number): NativeCommunicator;
    new (
      kind: "nccl",
      libraries: readonly string[],
      timeout: number,
      device: NativeDevice,
      id: Uint8Array,
      rank: number,
      size: number,
    ): NativeCommunicator;
  };
  /** 128 bytes, which the ranks of one communicator share. Throws a coded error. */
  ncclId(libraries: readonly string[]): Uint8Array;
  Gradients: new (optimizer: NativeOptimizer) => NativeGradients;
  Diagnostics: new (optimizer: NativeOptimizer) => NativeDiagnostics;
  CallMark: new () => NativeCallMark;
  /** Ends a child process with this thread, at the latest when the object is collected. Linux only. */
  Child: new (pid: number) => object;
  /** Throws a coded error on systems other than Linux. */
  SharedMemory: new () => NativeSharedMemory;
  CapturedStep: new (
    optimizer: NativeOptimizer,
    gradients: NativeGradients,
    stream: NativeStream,
  ) => NativeCapturedStep;
  /**
   * Copies the properties of each source to its target. JavaScript cannot be ended between two of them. All must be
   * writable.
   */
  assign(targets: readonly object[], sources: readonly object[]): void;
  describeCpu(): { instructionSets: string[] };
  describeCuda(): NativeCudaDescription;
  /** The number of the CUDA device that owns the address; −1 if none does. */
  cudaOwner(address: bigint): number;
  stateBytes(shape: NativeShape, sharing: NativeSharing | null): number;
  /** What codes stand for, from the first of a block on; `exponents`: of 8-bit codes, else not used. */
  decodeState(
    stateDtype: NativeStateDtype,
    plane: NativePlane,
    codes: Uint16Array | Uint8Array,
    exponents: Uint8Array,
    to: Float32Array,
  ): void;
}

export const native = loadAddon() as NativeAddon;
