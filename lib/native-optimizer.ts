import {
  native,
  type NativeOptimizer,
  type NativeShape,
  type NativeSharing,
  type NativeStream,
} from "./addon/native";
import { nativeCommunicator } from "./distributed/communicator";
import { fromNative, MTAdamError } from "./errors";
import { addonOf, isSameMemory, nativeDevice, type Device } from "./memory/device";
import { nativeSource } from "./memory/source";
import type { CheckedOptions } from "./options";
import { roundsAtRandom, type FlatParameters } from "./parameters";

/** @throws MTAdamError HOST_POINTER, INVALID_POINTER, DISPOSED, OUT_OF_MEMORY, CUDA */
export function makeNativeOptimizer(
  flat: FlatParameters,
  options: CheckedOptions,
  stream: NativeStream,
): NativeOptimizer {
  const { device, parameters } = flat;
  checkDeviceOf(options, device);
  const sources = parameters.map(({ source }) => nativeSource(source));
  try {
    return fromNative(
      () =>
        new (addonOf(device).Optimizer)(
          nativeDevice(device),
          nativeShape(flat, options),
          sources,
          stream,
          nativeSharing(options),
        ),
      ({ index = 0 }) => String(parameters[index]?.name),
    );
  } catch (error) {
    const cause = (error as Error).cause as { parameters?: number[] } | undefined;
    const overlapping = cause?.parameters;
    if (overlapping === undefined) throw error;
    const names = overlapping.map((index) => JSON.stringify(parameters[index]?.name));
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`parameters\` must not overlap; got ${names.join(" and ")}, which share memory.`,
    );
  }
}

/** The bytes that the state of an optimizer takes on its device. */
export function stateBytes(flat: FlatParameters, options: CheckedOptions): number {
  return fromNative(() => native.stateBytes(nativeShape(flat, options), nativeSharing(options)));
}

function checkDeviceOf({ distributed }: CheckedOptions, device: Device): void {
  if (distributed?.device === undefined || isSameMemory(distributed.device, device)) return;
  throw new MTAdamError(
    "OPTION",
    "`distributed` must have the device of the parameters, with `connectNccl`.",
  );
}

function nativeSharing({ distributed, shard, reduction, wire }: CheckedOptions): NativeSharing | null {
  if (distributed === undefined) return null;
  return {
    communicator: nativeCommunicator(distributed),
    state: shard === "state",
    ordered: reduction === "ordered",
    bfloat16: wire === "bfloat16",
  };
}

function nativeShape(flat: FlatParameters, options: CheckedOptions): NativeShape {
  const isShared = options.distributed !== undefined;
  const isLean = options.stateDtype !== "float32";
  const isNarrow = flat.parameters.some(({ dtype }) => dtype !== "float32");
  const hasNarrowGradients = flat.parameters.some(({ gradientDtype }) => gradientDtype !== "float32");
  return {
    lengths: Float64Array.from(flat.parameters, ({ length }) => length),
    layers: Uint32Array.from(flat.parameters, ({ layer }) => layer),
    groups: Uint32Array.from(flat.parameters, ({ group }) => group),
    groupCount: flat.groups.length,
    terms: options.terms.length,
    summed: options.firstMoment === "summed",
    oneV: options.secondMoment === "summed",
    amsgrad: options.amsgrad,
    mean: options.stepScale === "mean",
    nonFinite: options.nonFinite,
    cosines: options.cosines,
    anchor: nativeAnchor(options),
    balance: options.balance,
    initialNorm: options.initialNorm === "first" ? 0 : options.initialNorm,
    network: options.unit === "network",
    lagged: options.scales === "lagged",
    rest: options.silence === "rest",
    stateDtype: options.stateDtype,
    seed: BigInt(options.seed),
    // Random numbers depend on names, and ranks must have the same.
    parameterNames:
      isShared || roundsAtRandom(options, flat.parameters) ? flat.parameters.map(({ name }) => name) : [],
    termNames: isShared || isLean ? options.terms : [],
    rounding: options.masterWeights ? "master" : options.rounding,
    dtypes: isNarrow ? flat.parameters.map(({ dtype }) => dtype) : [],
    gradientDtypes: hasNarrowGradients ? flat.parameters.map(({ gradientDtype }) => gradientDtype) : [],
  };
}

function nativeAnchor({ anchor, terms }: CheckedOptions): NativeShape["anchor"] {
  const term = terms.indexOf(anchor);
  return term < 0 ? (anchor as "first" | "max" | "mean") : term;
}
