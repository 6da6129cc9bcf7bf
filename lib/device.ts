import os from "node:os";
import { DeviceBuffer } from "./device-buffer";
import { checkDType, type DType, type HostArray } from "./dtype";
import { fromNative, mustBe, MTAdamError } from "./errors";
import { typedArrayName } from "./inspect";
import { native, type NativeAddon, type NativeDevice } from "./native";
import { checkKeys } from "./options";

export type DeviceKind = "cpu" | "cuda";

export interface CpuDeviceOptions {
  /** Threads that compute, the calling one included. Default: as many as the system lets this process use. */
  threads?: number;
  /**
   * One of `describeDevices().cpu.instructionSets`; default: the widest. Every result has the same bits with each, so
   * this serves measurements and tests.
   */
  instructionSet?: string;
}

/** What only this package has, so that nobody else constructs the class below. */
export const deviceKey = Symbol("Device");

// The way to what is private in a device, for this package alone.

/** Whether `value` was made by {@link Device}: unlike instanceof, true for nothing else. */
export let isDevice: (value: unknown) => value is Device;
/** The addon that this device's buffers and optimizers are made with. */
export let addonOf: (device: Device) => NativeAddon;
/** @throws MTAdamError DISPOSED */
export let nativeDevice: (device: Device) => NativeDevice;

/** Where parameters, gradients and the optimizer's state live, and where a step is computed. */
export class Device {
  readonly kind: DeviceKind;
  readonly name: string;
  /** Threads that compute, the calling one included. They start with the first step that can use them. */
  readonly threads: number;
  readonly #addon: NativeAddon;
  #native: NativeDevice | undefined;

  static {
    isDevice = (value): value is Device => typeof value === "object" && value !== null && #native in value;
    addonOf = (device) => device.#addon;
    nativeDevice = (device) => {
      if (device.#native === undefined) throw new MTAdamError("DISPOSED", "The device has been disposed of.");
      return device.#native;
    };
  }

  /** @internal {@link openDevice} makes devices. */
  constructor(
    key: symbol,
    kind: DeviceKind,
    name: string,
    threads: number,
    addon: NativeAddon,
    own: NativeDevice,
  ) {
    if (key !== deviceKey) throw new MTAdamError("OPTION", "A device must be opened by `openDevice()`.");
    this.kind = kind;
    this.name = name;
    this.threads = threads;
    this.#addon = addon;
    this.#native = own;
    Object.freeze(this);
  }

  /**
   * Memory on this device.
   *
   * @param lengthOrArray a number of elements, which start at 0, or a typed array of the dtype, which is copied
   * @throws MTAdamError LENGTH, DTYPE, OUT_OF_MEMORY, DISPOSED
   */
  buffer<D extends DType = "float32">(lengthOrArray: number | HostArray<D>, dtype?: D): DeviceBuffer<D>;
  buffer(lengthOrArray: unknown, dtype: unknown = "float32"): DeviceBuffer {
    const type = checkDType(dtype);
    return typedArrayName(lengthOrArray) === undefined && typeof lengthOrArray !== "object"
      ? DeviceBuffer.allocate(this, lengthOrArray, type)
      : DeviceBuffer.copyOf(this, lengthOrArray, type);
  }

  get disposed(): boolean {
    return this.#native === undefined;
  }

  /**
   * Optional: a device that nothing refers to is collected. What was made on it can still be used; nothing new can be
   * made. Its threads end when it and all that was made on it are gone.
   */
  dispose(): void {
    this.#native?.dispose();
    this.#native = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const MAX_THREADS = 1024;

/**
 * Opens a device: "auto" takes the first CUDA device that can be used, else the CPU.
 *
 * @throws MTAdamError NO_DEVICE (with the reason), OPTION
 */
export function openDevice(name?: "auto" | "cpu", options?: CpuDeviceOptions): Device;
export function openDevice(name: string): Device;
export function openDevice(name: unknown = "auto", options: unknown = {}): Device {
  if (name === "auto" || name === "cpu") return openCpu(options);
  if (typeof name === "string" && /^cuda(:\d+)?$/.test(name)) {
    throw new MTAdamError("NO_DEVICE", `\`${name}\` cannot be opened: ${NO_CUDA}`);
  }
  throw mustBe("OPTION", "device", 'be "auto", "cpu", "cuda" or "cuda:<number>"', name);
}

function openCpu(options: unknown): Device {
  const given = checkKeys<CpuDeviceOptions>("options", options, ["threads", "instructionSet"]);
  const threads = given.threads ?? os.availableParallelism();
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw mustBe("OPTION", "threads", `be a whole number from 1 to ${MAX_THREADS}`, threads);
  }
  const instructionSet = given.instructionSet ?? "";
  if (typeof instructionSet !== "string") {
    throw mustBe("OPTION", "instructionSet", "be a string", instructionSet);
  }
  const device = fromNative(() => new native.Device(threads, instructionSet));
  return new Device(deviceKey, "cpu", `${cpuModel()} (${device.instructionSet})`, threads, native, device);
}

let shared: Device | undefined;

/** @internal The CPU device for parameters that name none: one per Node environment. */
export function defaultCpu(): Device {
  if (shared === undefined || shared.disposed) shared = openCpu({});
  return shared;
}

const NO_CUDA = "this build of mtadam has no CUDA.";

export interface DevicesDescription {
  cpu: {
    name: string;
    /** The one that is used unless another is asked for. */
    instructionSet: string;
    /** All that this build has and this machine runs, narrowest first. */
    instructionSets: string[];
    threads: number;
  };
  cuda: {
    /** Whether a CUDA device can be opened. */
    usable: boolean;
    /** Why none can. */
    reason?: string;
    driver?: string;
    runtime?: string;
    /** Compute capabilities that the binary holds code for, such as "8.0". */
    architectures: string[];
    devices: { index: number; name: string; computeCapability: string; usable: boolean; reason?: string }[];
  };
}

/** What this machine and this build have. Never throws. */
export function describeDevices(): DevicesDescription {
  const { instructionSets } = native.describeCpu();
  return {
    cpu: {
      name: cpuModel(),
      instructionSet: instructionSets.at(-1) ?? "baseline",
      instructionSets,
      threads: os.availableParallelism(),
    },
    cuda: { usable: false, reason: NO_CUDA, architectures: [], devices: [] },
  };
}

function cpuModel(): string {
  return os.cpus()[0]?.model.trim() ?? os.arch();
}
