import { checkKeys } from "./arguments";
import { MTAdamError, mustBe } from "./errors";
import { describeValue, isArray, isRevoked, typedArrayLength, typedArrayName } from "./inspect";
import { isBuffer, isDevice, type Device, type DeviceBuffer } from "./memory/device";
import {
  checkDimensions,
  elementsOf,
  DevicePointer,
  isPointerLike,
  readPointer,
  type DevicePointerLike,
} from "./memory/device-pointer";
import { arraysOf, type Float16ArrayLike, type GradientDtype, type ParameterDtype } from "./memory/dtype";
import { defaultCpu, deviceOfAddress } from "./memory/open-device";
import { checkSource, codeOfNoSource, type Source } from "./memory/source";
import {
  checkGroup,
  GROUP_KEYS,
  OPTIMIZER_RULES,
  type CheckedOptions,
  type GroupOptions,
  type Optional,
} from "./options";

/** The memory of the elements of a parameter, or of a gradient in float32 or on a device. */
export type TensorData = Float32Array | DeviceBuffer | DevicePointerLike;

/** One parameter tensor. */
export interface ParameterDescription<Name extends string = string> {
  /** Unique; by default the index among all parameters. */
  name?: Name | undefined;
  /**
   * An array or a buffer, updated in place, or a device pointer. On the CPU, elements of 16 bits are in a Uint16Array of
   * their bits, those of float16 also in a Float16Array.
   */
  data: TensorData | Uint16Array | Float16ArrayLike;
  /** Elements; a bare pointer needs this or `shape`. */
  length?: number | undefined;
  /** Its product is the length. Checkpoints and messages have it. */
  shape?: readonly number[] | undefined;
  /**
   * The type of its elements, "float32" by default. "float16" and "bfloat16", of 2 bytes, are converted to float32, which
   * is exact, and each step rounds the result: see the options `masterWeights` and `rounding`.
   */
  dtype?: ParameterDtype | undefined;
  /** The type of its gradients. Default: that of the optimizer's option. */
  gradientDtype?: GradientDtype | undefined;
  /** Parameters with the same tag are balanced as one layer. Default: each is a layer of its own. */
  layer?: string | undefined;
}

export type ParameterLike<Name extends string = string> = TensorData | ParameterDescription<Name>;

/** Parameters that share options. Options that are left out are the optimizer's. */
export type ParameterGroup<Name extends string = string> = {
  parameters: readonly ParameterLike<Name>[];
} & Optional<GroupOptions>;

export type Parameters<Name extends string = string> =
  readonly ParameterLike<Name>[] | readonly ParameterGroup<Name>[];

/** A name that was given, or the index of a parameter without one. */
export type ParameterName<Name extends string> = Name | `${number}`;

/** One parameter, checked. */
export interface Parameter {
  readonly name: string;
  readonly source: Source;
  readonly length: number;
  readonly shape: readonly number[];
  readonly tag: string | undefined;
  readonly layer: number;
  readonly group: number;
  readonly dtype: ParameterDtype;
  readonly gradientDtype: GradientDtype;
}

/** All parameters in order across groups, the input of native code's layout. */
export interface FlatParameters {
  readonly device: Device;
  readonly parameters: readonly Parameter[];
  /** Names, in order of first appearance. */
  readonly layers: readonly string[];
  readonly groups: readonly GroupOptions[];
  readonly unit: CheckedOptions["unit"];
  readonly scales: CheckedOptions["scales"];
}

/** Whether a step rounds moments or parameters at random: draws depend on the seed and the names. */
export function roundsAtRandom(
  { stateDtype, masterWeights, rounding }: Pick<CheckedOptions, "stateDtype" | "masterWeights" | "rounding">,
  parameters: readonly Parameter[],
): boolean {
  const isNarrow = parameters.some(({ dtype }) => dtype !== "float32");
  return stateDtype !== "float32" || (isNarrow && !masterWeights && rounding === "stochastic");
}

/** What groups and parameters leave out. */
type ParameterDefaults = Pick<CheckedOptions, "group" | "gradientDtype">;

type Described = Omit<Parameter, "source" | "layer"> & { data: unknown };

/** @throws MTAdamError OPTION, LENGTH, DTYPE, HOST_POINTER, INVALID_POINTER, DISPOSED */
export function flattenParameters(
  value: unknown,
  options: ParameterDefaults & Pick<CheckedOptions, "device" | "unit" | "scales">,
): FlatParameters {
  const { described, groups } = readGroups(value, options);
  const { device, unit, scales } = options;
  return flatten(described, { groups, unit, scales }, device);
}

/** The same parameters and one more group of them. @throws MTAdamError as {@link flattenParameters} */
export function withGroup(flat: FlatParameters, group: unknown, defaults: ParameterDefaults): FlatParameters {
  if (!isGroup(group)) throw mustBe("OPTION", "group", "be an object with `parameters`", group);
  const { described, groups } = readGroups([group], defaults, flat.parameters.length, flat.groups.length);
  const before = flat.parameters.map(({ source, ...parameter }): Described => ({
    ...parameter,
    data: source,
  }));
  const together = { ...flat, groups: [...flat.groups, ...groups] };
  return flatten([...before, ...described], together, flat.device);
}

function flatten(
  described: readonly Described[],
  { groups, unit, scales }: Pick<FlatParameters, "groups" | "unit" | "scales">,
  device: Device | undefined,
): FlatParameters {
  checkNames(described);
  const where = device === undefined ? deviceOf(described) : checkDevice(device);
  const numbers = new Map<string, number>();
  const parameters = described.map(({ data, ...parameter }): Parameter => {
    const source = checkSource(parameter.name, data, parameter.length, parameter.dtype, where, "write");
    const layerName = parameter.tag ?? parameter.name;
    const layer = numbers.get(layerName) ?? numbers.size;
    numbers.set(layerName, layer);
    return { ...parameter, source, layer };
  });
  const layers = [...numbers.keys()];
  checkBeta3({ parameters, layers, unit, scales }, groups);
  return { device: where, parameters, layers, groups, unit, scales };
}

function readGroups(
  value: unknown,
  defaults: ParameterDefaults,
  firstParameter = 0,
  firstGroup = 0,
): { described: Described[]; groups: GroupOptions[] } {
  if (!isArray(value) || value.length === 0) {
    throw mustBe("OPTION", "parameters", "be a list of at least one parameter or group", value);
  }
  const described: Described[] = [];
  const groups: GroupOptions[] = [];
  const { group: options } = defaults;
  const inGroups = isGroup(value[0]);
  // One by one: the first wrong entry ends the loop, however long the list is.
  for (const item of value) {
    if (isGroup(item) !== inGroups) {
      throw mustBe("OPTION", "parameters", "be either all groups or all parameters", item);
    }
    if (!inGroups) {
      if (isNearlyGroup(item)) checkKeys("group", item, GROUP_PROPERTIES);
      described.push(describe(item, defaults, described.length, 0));
      continue;
    }
    const given = checkKeys<ParameterGroup>("group", item, GROUP_PROPERTIES);
    const { parameters } = given;
    if (!isArray(parameters)) throw mustBe("OPTION", "group.parameters", "be a list", parameters);
    for (const parameter of parameters) {
      const index = firstParameter + described.length;
      described.push(describe(parameter, defaults, index, firstGroup + groups.length));
    }
    groups.push(checkGroup(given, options));
  }
  if (!inGroups) groups.push(options);
  if (described.length === 0) {
    throw new MTAdamError("OPTION", "`parameters` must have at least one parameter in some group; got none.");
  }
  return { described, groups };
}

function isGroup(item: unknown): item is ParameterGroup {
  return isOwner(item, "parameters");
}

const GROUP_PROPERTIES = ["parameters", ...GROUP_KEYS];

/** Groups of PyTorch have `params`. */
const isNearlyGroup = (item: unknown): boolean => isOwner(item, "params") && !hasData(item);

const PARAMETER_KEYS = ["name", "data", "length", "shape", "dtype", "gradientDtype", "layer"];

function describe(item: unknown, defaults: ParameterDefaults, index: number, group: number): Described {
  const isBare =
    typedArrayName(item) !== undefined || isBuffer(item) || isPointerLike(item) || !hasData(item);
  const given = checkKeys<Record<string, unknown>>(
    "parameter",
    isBare ? { data: item } : item,
    PARAMETER_KEYS,
  );
  const { name = String(index), data, length, shape, dtype = "float32", layer } = given;
  const { gradientDtype = defaults.gradientDtype } = given;
  if (typeof name !== "string" || name === "") {
    throw mustBe("OPTION", "name", "be a string that is not empty", name);
  }
  checkElementDtype(`${name}.dtype`, dtype);
  checkElementDtype(`${name}.gradientDtype`, gradientDtype);
  if (layer !== undefined && (typeof layer !== "string" || layer === "")) {
    throw mustBe("OPTION", `${name}.layer`, "be a string that is not empty", layer);
  }
  const source = isBuffer(data) || !isPointerLike(data) ? data : readPointer(name, data, dtype);
  const elements = lengthOf(name, dtype, { data: source, length, shape });
  return {
    name,
    data: source,
    tag: layer,
    group,
    dtype,
    gradientDtype,
    length: elements,
    shape: checkShape(name, shape, elements),
  };
}

/** Parameters and gradients have the same types. */
function checkElementDtype(subject: string, value: unknown): asserts value is GradientDtype {
  const option = OPTIMIZER_RULES.gradientDtype;
  if (!option.accepts(value, [])) throw mustBe("DTYPE", subject, option.rule, value);
}

function hasData(item: unknown): boolean {
  return isOwner(item, "data");
}

/** Whether a value is an object with a property of its own of this name. */
function isOwner(value: unknown, key: string): boolean {
  return typeof value === "object" && value !== null && !isRevoked(value) && Object.hasOwn(value, key);
}

function lengthOf(
  name: string,
  dtype: ParameterDtype,
  { data, length, shape }: Readonly<Record<"data" | "length" | "shape", unknown>>,
): number {
  const memory = `be ${arraysOf(dtype, `a ${dtype} buffer`, "a device pointer")}`;
  if (isRevoked(data)) throw mustBe("DTYPE", name, memory, data);
  const own = ownLength(data);
  if (length === undefined && own !== undefined) return own;
  if (length === undefined && shape !== undefined && data instanceof DevicePointer) {
    return elementsOf(checkDimensions(`${name}.shape`, shape));
  }
  if (own === undefined && !(data instanceof DevicePointer)) {
    throw mustBe(codeOfNoSource(data), name, memory, data);
  }
  if (typeof length !== "number" || !Number.isSafeInteger(length) || length < 0) {
    throw mustBe("LENGTH", `${name}.length`, "be a whole number of elements", length);
  }
  if (own !== undefined) checkGivenLength(name, length, own);
  return length;
}

/** @throws MTAdamError LENGTH unless a length that is given is that of the data */
export function checkGivenLength(name: string, given: unknown, length: number): void {
  if (given === undefined || given === length) return;
  throw mustBe("LENGTH", `${name}.length`, `be that of its data, ${length}`, given);
}

function ownLength(data: unknown): number | undefined {
  if (isBuffer(data) || data instanceof DevicePointer) return data.length;
  return typedArrayName(data) === undefined ? undefined : typedArrayLength(data as ArrayBufferView);
}

/** The dimensions of a tensor of `length` elements; one dimension by default. @throws MTAdamError OPTION, LENGTH */
export function checkShape(name: string, shape: unknown, length: number): readonly number[] {
  if (shape === undefined) return [length];
  const dimensions = checkDimensions(`${name}.shape`, shape);
  if (elementsOf(dimensions) !== length) {
    throw new MTAdamError(
      "LENGTH",
      `\`${name}.shape\` must have the ${length} elements of its data; got [${dimensions.join(", ")}].`,
    );
  }
  return dimensions;
}

function checkNames(described: readonly Described[]): void {
  const names = new Set<string>();
  const untagged = new Set<string>();
  for (const { name, tag } of described) {
    if (names.has(name)) throw mustBe("OPTION", "name", "be unique among the parameters", name);
    names.add(name);
    if (tag === undefined) untagged.add(name);
  }
  for (const { tag } of described) {
    if (tag === undefined || !untagged.has(tag)) continue;
    throw mustBe("OPTION", "layer", "not be the name of a parameter that is a layer of its own", tag);
  }
}

function deviceOf(described: readonly Described[]): Device {
  for (const { data } of described) {
    if (isBuffer(data)) return data.device;
  }
  for (const { name, data } of described) {
    if (!(data instanceof DevicePointer) || data.length === 0) continue;
    return deviceOfAddress(name, data.address);
  }
  return defaultCpu();
}

function checkDevice(device: unknown): Device {
  if (isDevice(device)) return device;
  throw mustBe("OPTION", "device", "be a device from `openDevice`", device);
}

/** With lagged scales and a smaller β₃, a term whose norm jumps would get far too large a scale in that step. */
const LEAST_LAGGED_BETA3 = 0.99;

/** @throws MTAdamError OPTION where β₃ differs among tensors that may be balanced together, or is too small */
export function checkBeta3(
  { parameters, layers, unit, scales }: Pick<FlatParameters, "parameters" | "layers" | "unit" | "scales">,
  groups: readonly GroupOptions[],
): void {
  for (const { betas } of scales === "lagged" ? groups : []) {
    if (betas[2] >= LEAST_LAGGED_BETA3) continue;
    throw mustBe(
      "OPTION",
      "betas[2]",
      `be at least ${LEAST_LAGGED_BETA3} with \`scales: "lagged"\``,
      betas[2],
    );
  }
  if (groups.length === 1) return;
  const members = new Uint32Array(unit === "network" ? layers.length : 0);
  if (unit === "network") for (const { layer } of parameters) members[layer]! += 1;
  const betas: (number | undefined)[] = [];
  for (const { layer, group } of parameters) {
    const inNetwork = members[layer] === 1;
    const place = inNetwork ? layers.length : layer;
    const beta3 = groups[group]?.betas[2];
    betas[place] ??= beta3;
    if (betas[place] === beta3) continue;
    const where = inNetwork ? "the unit of the network" : `layer ${describeValue(layers[layer])}`;
    throw new MTAdamError(
      "OPTION",
      `\`betas\` must have the same β₃ in all groups that are balanced together; ${where} ` +
        `got ${String(betas[place])} and ${String(beta3)}.`,
    );
  }
}
