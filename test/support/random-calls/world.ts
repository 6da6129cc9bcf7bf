import { inspect } from "node:util";
import {
  MTAdam,
  MTAdamError,
  openDevice,
  type CapturedStep,
  type DeviceBuffer,
  type Gradient,
  type Gradients,
  type MTAdamOptions,
  type ParameterDescription,
  type PreparedGradients,
  type StateDict,
} from "../../../lib";
import type { Device } from "../../../lib/memory/device";
import type { CallOptions } from "../oracle";
import { codesOf, rounded, valuesOf as valuesOfCodes } from "./bfloat16";
import type { Draw } from "./draw";
import { Disagreement, LEAN_LENGTH, Shadow, type Fixed, type Group, type TensorPlace } from "./shadow";

/** The memory of a parameter. */
export type Data = Elements | DeviceBuffer<"float32" | "bfloat16">;

/** Values of float32, or codes of bfloat16. */
type Elements = Float32Array | Uint16Array;

/** A gradient's memory on the device under test, and the values that it should hold. */
export interface Handle {
  readonly values: Float32Array<ArrayBuffer>;
  /** As given to the optimizer: an array, a buffer or a pointer to it. */
  readonly data: Exclude<Gradient, null | undefined>;
  /** Absent: the memory is `values` itself. Of the type of gradients. */
  readonly buffer?: DeviceBuffer;
}

/** Per term, then per parameter. */
export type Table = (Handle | null)[][];

export interface Prepared {
  readonly object: PreparedGradients;
  readonly table: Table;
  readonly generation: number;
}

export interface Captured {
  readonly object: CapturedStep;
  readonly table: Table;
  readonly generation: number;
}

export interface Saved {
  readonly state: StateDict;
  readonly generation: number;
}

/** One parameter: the tensor under test, and that of the twin. */
interface Parameter {
  readonly data: Data;
  readonly given: ParameterDescription;
  readonly twin: Elements;
}

const twinDevice = openDevice("cpu", { threads: 1, instructionSet: "baseline" });

/**
 * An optimizer under test; a twin on the plainest device, which gets only the calls that are accepted and must keep the
 * same bits; and the shadow in float64.
 */
export class World {
  readonly device: Device;
  readonly draw: Draw;
  readonly folder: string;
  readonly fixed: Fixed;
  readonly beta3: number;
  optimizer: MTAdam;
  twin: MTAdam;
  shadow: Shadow;
  parameters: Parameter[];
  /** By parameter. */
  pool: Handle[][];
  prepared: Prepared[] = [];
  captured: Captured[] = [];
  saved: Saved[] = [];
  /** Grows when terms or parameters are added or removed. */
  generation = 0;
  /** Names of terms and parameters that have been used. */
  names = 0;
  /** Readings that have not settled, with those of the twin. */
  readings: Promise<void>[] = [];
  /** Ends of listeners. */
  listeners: (() => void)[] = [];
  /** The state of the optimizer after the last call that changed it, if it has been read. */
  #known: string | undefined;

  private constructor(
    device: Device,
    draw: Draw,
    folder: string,
    options: { fixed: Fixed; beta3: number; terms: string[]; weights: number[] },
    places: { tensors: TensorPlace[]; groups: Group[] },
  ) {
    this.device = device;
    this.draw = draw;
    this.folder = folder;
    this.fixed = options.fixed;
    this.beta3 = options.beta3;
    this.parameters = places.tensors.map((place) => this.makeParameter(place));
    this.pool = places.tensors.map(({ length }) => this.makeHandles(length));
    const { terms, weights } = options;
    const init = this.parameters.map(({ twin }) => wide(twin));
    this.shadow = new Shadow(options.fixed, { terms: [...terms], weights: [...weights] }, places, init);
    [this.optimizer, this.twin] = this.#makeBoth();
  }

  static make(device: Device, draw: Draw, folder: string): World {
    const count = 1 + draw.below(4);
    const groupCount = 1 + draw.below(3);
    const terms = draw.chance(0.3)
      ? Array.from({ length: 1 + draw.below(5) }, (_, k) => String(k))
      : draw.shuffled(["content", "style", "a", "b", "tv"]).slice(0, 1 + draw.below(5));
    const scales = draw.one(["current", "current", "lagged"] as const);
    const beta3 = draw.one(scales === "lagged" ? [0.99, 0.999, 1] : [0.9, 0.999, 0, 1]);
    const firstMoment = draw.one(["perTerm", "summed"] as const);
    // Seldom, since a lean tensor is long.
    const stateDtype = draw.chance(0.04) ? draw.one(["bfloat16", "8bit"] as const) : "float32";
    const fixed: Fixed = {
      amsgrad: stateDtype !== "8bit" && draw.chance(0.4),
      firstMoment,
      secondMoment: firstMoment === "summed" ? draw.one(["perTerm", "summed"]) : "perTerm",
      initialNorm: draw.one(["first", "first", 1, 0.25]),
      unit: draw.one(["tensor", "network"]),
      silence: draw.one(["decay", "rest"]),
      scales,
      stateDtype,
      seed: draw.one([0n, 7n, 2n ** 64n - 1n]),
      gradientDtype: draw.chance(0.2) ? "bfloat16" : "float32",
      masterWeights: draw.chance(0.5),
      rounding: draw.one(["stochastic", "stochastic", "nearest"]),
      anchor: draw.one(["first", "first", "max", "mean", draw.one(terms)]),
      balance: draw.one([1, 1, 0.5, 0, 0.3]),
      stepScale: draw.one(["sum", "mean"]),
      nonFinite: draw.one(
        scales === "lagged"
          ? ["skipElement", "skipElement", "propagate"]
          : ["skipTerm", "skipTerm", "skipStep", "propagate"],
      ),
      cosines: draw.chance(0.15),
    };
    const groups = Array.from({ length: groupCount }, () => drawGroup(draw, beta3));
    const tensors = Array.from({ length: count }, (_, k): TensorPlace => ({
      name: `p${k}`,
      length: stateDtype !== "float32" && k === 0 ? LEAN_LENGTH + draw.below(300) : drawLength(draw),
      layer: draw.chance(0.4) ? draw.one(["shared", "other"]) : undefined,
      group: k < groupCount ? k : draw.below(groupCount),
      dtype: drawDtype(draw),
    }));
    // Parameters count across groups.
    tensors.sort((a, b) => a.group - b.group);
    const used = groups.slice(0, Math.min(count, groupCount));
    const weights = terms.map(() => draw.one([1, 1, 0.5, 3, 0]));
    return new World(device, draw, folder, { fixed, beta3, terms, weights }, { tensors, groups: used });
  }

  // ---- Making things ----

  /** An optimizer of the parameters, and its twin. */
  #makeBoth(): [optimizer: MTAdam, twin: MTAdam] {
    const own = this.parameters.map(({ given }) => given);
    const twins = this.parameters.map(({ given, twin }) => withData(given, twin));
    return [
      this.#make(own, this.device),
      this.#make(twins, twinDevice, { gradientDtype: "float32" }), // of the same values
    ];
  }

  #make(given: readonly ParameterDescription[], device: Device, own: Partial<MTAdamOptions> = {}): MTAdam {
    const { terms, weights, groups, tensors } = this.shadow;
    const inGroups = groups.map((group, index) => ({
      ...group,
      betas: [...group.betas] as [number, number, number],
      parameters: given.filter((_, k) => tensors[k]!.group === index),
    }));
    const options: MTAdamOptions = {
      ...this.fixed,
      terms,
      weights: [...weights],
      device,
      betas: [0.9, 0.999, this.beta3],
      ...own,
    };
    return new MTAdam(inGroups, options);
  }

  makeParameter({ name, length, layer, dtype }: TensorPlace, draw = this.draw): Parameter {
    const values = draw.tensor(length, 1);
    const twin = dtype === "float32" ? values : codesOf(values);
    const isArray = this.device.kind === "cpu" && draw.chance(0.5);
    const data = isArray ? twin.slice() : this.device.buffer(twin, dtype);
    const asPointer = this.device.kind === "cuda" && length > 0 && draw.chance(0.2);
    const given: ParameterDescription = {
      name,
      data: asPointer ? (data as DeviceBuffer).ptr : data,
      ...(asPointer ? { length } : {}),
      ...(dtype === "float32" ? {} : { dtype }),
      ...(layer === undefined ? {} : { layer }),
      ...(draw.chance(0.2) ? { shape: [1, length] } : {}),
    };
    return { data, given, twin };
  }

  /** Memory that may serve as gradients of one parameter. */
  makeHandles(length: number, draw = this.draw): Handle[] {
    return Array.from({ length: 3 }, () => this.makeHandle(length, draw));
  }

  makeHandle(length: number, draw = this.draw): Handle {
    const values = this.stored(draw.tensor(length, 10 ** (draw.below(5) - 2)));
    const onCpu = this.device.kind === "cpu";
    if (onCpu && !this.#isNarrow && draw.chance(0.5)) return { values, data: values };
    const buffer: DeviceBuffer = this.#isNarrow
      ? this.device.buffer(codesOf(values), "bfloat16")
      : this.device.buffer(values);
    if (onCpu || length === 0 || draw.chance(0.6)) return { values, data: buffer, buffer };
    // The pool keeps the buffer, and with it the memory.
    const { ptr, byteLength } = buffer;
    return { values, data: draw.chance(0.5) ? ptr : { ptr, byteLength }, buffer };
  }

  get #isNarrow(): boolean {
    return this.fixed.gradientDtype === "bfloat16";
  }

  /** The values as memory of gradients holds them. */
  stored(values: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
    return this.#isNarrow ? rounded(values) : values;
  }

  /** A new optimizer and twin over the same parameters, without state. */
  renew(): void {
    this.changed();
    this.generation += 1;
    const { shadow } = this;
    const fresh = new Shadow(
      this.fixed,
      { terms: shadow.terms, weights: shadow.weights },
      { tensors: shadow.tensors, groups: shadow.groups },
      this.parameters.map(({ twin }) => wide(twin)),
    );
    this.optimizer.dispose();
    this.twin.dispose();
    this.shadow = fresh;
    this.listeners = [];
    [this.optimizer, this.twin] = this.#makeBoth();
  }

  // ---- Gradients ----

  /** Random gradients for every term; null: absent. */
  table(draw: Draw, presence = 0.85): Table {
    return this.shadow.terms.map(() => this.row(draw, presence));
  }

  row(draw: Draw, presence = 0.85): (Handle | null)[] {
    return this.pool.map((handles) => (draw.chance(presence) ? draw.one(handles) : null));
  }

  /** The table as an argument for `step`: arrays or objects by name. */
  gradients(table: Table, draw: Draw): Gradients {
    const rows = table.map((row) => this.termGradients(row, draw));
    return draw.chance(0.5)
      ? rows
      : Object.fromEntries(draw.shuffled([...rows.keys()]).map((k) => [this.shadow.terms[k]!, rows[k]]));
  }

  termGradients(row: readonly (Handle | null)[], draw: Draw): Gradient[] | Record<string, Gradient> | null {
    if (row.every((handle) => handle === null) && draw.chance(0.5)) return null;
    const data = row.map((handle) => handle?.data ?? null);
    if (draw.chance(0.5)) return data;
    const named = data.map((value, k) => [this.shadow.tensors[k]!.name, value] as const);
    return Object.fromEntries(named.filter(([, value]) => value !== null || draw.chance(0.5)));
  }

  /** Those that were made for the present terms and parameters. */
  current<T extends { readonly generation: number }>(list: readonly T[]): T[] {
    return list.filter(({ generation }) => generation === this.generation);
  }

  // ---- Calls ----

  /** Marks the state that was last read as outdated. */
  changed(): void {
    this.#known = undefined;
  }

  /** A call with these gradients on the twin and the shadow. */
  stepAll(table: Table, call: CallOptions): void {
    this.changed();
    const values = table.map(valuesOf);
    this.twin.step(values, call);
    this.shadow.step(values, call);
  }

  accumulateAll(term: number, row: readonly (Handle | null)[], call: CallOptions): void {
    this.changed();
    const values = valuesOf(row);
    this.twin.accumulate(term, values, call);
    this.shadow.accumulate(term, values, call);
  }

  /**
   * A call that must be refused with one of these codes, and change nothing.
   *
   * @throws Disagreement
   */
  async refuse(what: string, codes: readonly string[], call: () => unknown): Promise<void> {
    const before = (this.#known ??= await this.#read());
    const outcome = await outcomeOf(call);
    const after = await this.#read();
    if (before !== after) throw new Disagreement(`${what}, ${outcome}, changed\n${before}\nto\n${after}`);
    if (!codes.includes(outcome)) throw new Disagreement(`${what}: ${outcome}, not ${codes.join(" or ")}`);
  }

  /** Everything that a refused call must leave unchanged. */
  async #read(): Promise<string> {
    const { optimizer } = this;
    const parameters = await Promise.all(this.parameters.map(({ data }) => contents(data)));
    const { iterations, terms, weights, layers, paramGroups, lr } = optimizer;
    const state =
      this.shadow.open === undefined ? await optimizer.stateDict() : await optimizer.diagnostics();
    return inspect(
      [
        parameters.map(bits),
        iterations,
        terms,
        weights,
        layers,
        paramGroups,
        lr,
        Object.entries(state as object).map(([key, value]: [string, unknown]) => [
          key,
          ArrayBuffer.isView(value) ? bits(value) : value,
        ]),
      ],
      { depth: 9, maxArrayLength: null, breakLength: Infinity },
    );
  }

  /**
   * Compares the optimizer with its twin, bit for bit, and with the shadow.
   *
   * @throws Disagreement
   */
  async verify(): Promise<void> {
    const parameters = await Promise.all(this.parameters.map(({ data }) => contents(data)));
    for (const [index, { twin }] of this.parameters.entries()) {
      sameBits(`θ of ${this.shadow.tensors[index]!.name}`, parameters[index]!, twin);
    }
    const values = parameters.map(wide);
    this.shadow.compareParameters(values);
    await Promise.all(this.readings.splice(0));
    if (this.shadow.open !== undefined) return;
    const [state, twin] = await Promise.all([this.optimizer.stateDict(), this.twin.stateDict()]);
    sameState(state, twin);
    this.shadow.compareState(state);
    this.shadow.follow(state, values);
  }

  /** After a call whose effect is known only by its twin: reads names and options again. */
  async adopt(): Promise<void> {
    this.changed();
    const [state, twin] = await Promise.all([this.optimizer.stateDict(), this.twin.stateDict()]);
    sameState(state, twin);
    this.shadow.weights = [...state.metadata.options.weights];
    this.shadow.groups = this.optimizer.paramGroups.map(
      ({ lr, betas, eps, weightDecay, decoupledWeightDecay, maximize }) => ({
        lr,
        betas: [...betas],
        eps,
        weightDecay,
        decoupledWeightDecay,
        maximize,
      }),
    );
    const parameters = await Promise.all(this.parameters.map(({ data }) => contents(data)));
    this.shadow.follow(state, parameters.map(wide));
  }

  /** Compares a reading with the twin's, when both have settled. */
  read<T>(what: string, own: Promise<T>, twin: Promise<T>): void {
    const reading = Promise.all([own, twin]).then(([value, expected]) => {
      sameValues(what, value as object, expected as object);
    });
    reading.catch(() => undefined); // thrown again by `verify`
    this.readings.push(reading);
  }

  async end(): Promise<void> {
    if (this.shadow.open !== undefined) {
      this.optimizer.discard();
      this.twin.discard();
      this.shadow.discard();
    }
    await this.verify();
    for (const { object } of this.captured) object.dispose();
    this.optimizer.dispose();
    this.twin.dispose();
    for (const { data } of this.parameters) if (!ArrayBuffer.isView(data)) data.dispose();
    for (const { buffer } of this.pool.flat()) buffer?.dispose();
  }
}

/** The same parameter with other memory. */
export const withData = (given: ParameterDescription, data: Elements): ParameterDescription => {
  const { name, layer, shape, dtype } = given;
  return {
    name: name!,
    data,
    ...(layer === undefined ? {} : { layer }),
    ...(shape === undefined ? {} : { shape }),
    ...(dtype === undefined ? {} : { dtype }),
  };
};

const valuesOf = (row: readonly (Handle | null)[]): (Float32Array | null)[] =>
  row.map((handle) => handle?.values ?? null);

export function drawLength(draw: Draw): number {
  if (draw.chance(0.002)) return draw.one([4095, 4096, 4097, 8200]);
  return draw.chance(0.05) ? draw.one([64, 255, 257]) : draw.one([0, 1, 2, 3, 7, 8, 16, 31, 33]);
}

export const drawDtype = (draw: Draw): TensorPlace["dtype"] => (draw.chance(0.15) ? "bfloat16" : "float32");

export function drawGroup(draw: Draw, beta3: number): Group {
  return {
    lr: draw.one([1e-3, 0.02, 0.1, 0]),
    betas: [draw.one([0.9, 0.8, 0]), draw.one([0.999, 0.95, 0.5]), beta3],
    eps: draw.one([1e-8, 1e-4, 1]),
    weightDecay: draw.one([0, 0, 0.1]),
    decoupledWeightDecay: draw.chance(0.3),
    maximize: draw.chance(0.2),
  };
}

export async function contents(tensor: Data): Promise<Elements> {
  return ArrayBuffer.isView(tensor) ? tensor.slice() : tensor.download();
}

/** The values in float32. */
const wide = (elements: Elements): Float32Array<ArrayBuffer> =>
  elements instanceof Uint16Array ? valuesOfCodes(elements) : elements.slice();

export function codeOf(error: unknown): string {
  if (error instanceof MTAdamError) return error.code.replace("ERR_MTADAM_", "");
  const { code, name } = error as NodeJS.ErrnoException;
  return code ?? name;
}

/** The code of the error that a call throws or rejects with; "accepted" if it succeeds. */
export async function outcomeOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    return codeOf(error);
  }
  return "accepted";
}

const bytes = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer =>
  Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);

const bits = (array: ArrayBufferView): string => bytes(array).toString("base64");

/** NaNs count as equal. @throws Disagreement */
export function sameBits(what: string, actual: ArrayLike<unknown>, expected: ArrayLike<unknown>): void {
  if (actual.length !== expected.length)
    throw new Disagreement(`${what}: ${actual.length} elements, not ${expected.length}`);
  if (ArrayBuffer.isView(actual) && ArrayBuffer.isView(expected) && bytes(actual).equals(bytes(expected)))
    return;
  for (let k = 0; k < expected.length; ++k) {
    if (Object.is(actual[k], expected[k])) continue;
    throw new Disagreement(
      `${what}, element ${k}: ${String(actual[k])}, and the twin has ${String(expected[k])}`,
    );
  }
}

/** Compares arrays in objects by their bits, and other values as JSON. @throws Disagreement */
export function sameValues(what: string, actual: object, expected: object): void {
  if (ArrayBuffer.isView(expected)) {
    sameBits(what, actual as ArrayLike<unknown>, expected as never);
    return;
  }
  const [own, other] = [actual, expected].map((value) => new Map(Object.entries(value)));
  if (own!.size !== other!.size) throw new Disagreement(`${what}: ${[...own!.keys()].join()}`);
  for (const [key, value] of other!) {
    const mine: unknown = own!.get(key);
    if (ArrayBuffer.isView(value)) sameBits(`${what}.${key}`, mine as ArrayLike<unknown>, value as never);
    else if (JSON.stringify(mine) !== JSON.stringify(value)) {
      throw new Disagreement(
        `${what}.${key}: ${JSON.stringify(mine)}, and the twin has ${JSON.stringify(value)}`,
      );
    }
  }
}

export const sameState = (actual: StateDict, expected: StateDict): void => {
  sameValues("state", actual, expected);
};
