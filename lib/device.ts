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
/** Whether what lies in the memory of one can be used on the other: the same GPU may be opened more than once. */
export let isSameMemory: (a: Device, b: Device) => boolean;
/** @throws MTAdamError DISPOSED */
export let nativeDevice: (device: Device) => NativeDevice;

/** Where parameters, gradients and the optimizer's state live, and where a step is computed. */
export class Device {
  readonly kind: DeviceKind;
  readonly name: string;
  /**
   * Threads of the CPU that compute, the calling one included; they start with the first step that can use them. On a
   * CUDA device none: 0.
   */
  readonly threads: number;
  readonly #addon: NativeAddon;
  /** Of a CUDA device: its number. */
  readonly #index: number | undefined;
  #native: NativeDevice | undefined;

  static {
    isDevice = (value): value is Device => typeof value === "object" && value !== null && #native in value;
    addonOf = (device) => device.#addon;
    isSameMemory = (a, b) =>
      a === b || (a.#index !== undefined && a.#index === b.#index && a.#addon === b.#addon);
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
    index?: number,
  ) {
    if (key !== deviceKey) throw new MTAdamError("OPTION", "A device must be opened by `openDevice()`.");
    this.kind = kind;
    this.name = name;
    this.threads = threads;
    this.#addon = addon;
    this.#native = own;
    this.#index = index;
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
 * Opens a device: "auto" takes the first CUDA device that can be used, else the CPU; "cuda" is "cuda:0".
 *
 * @throws MTAdamError NO_DEVICE, DRIVER, OUT_OF_MEMORY, CUDA (with the reason), OPTION
 */
export function openDevice(name?: "auto" | "cpu", options?: CpuDeviceOptions): Device;
export function openDevice(name: string): Device;
export function openDevice(name: unknown = "auto", options: unknown = {}): Device {
  if (name === "cpu") return openCpu(options);
  if (name === "auto") return openFirstCuda() ?? openCpu(options);
  const index = typeof name === "string" ? /^cuda(?::(\d{1,6}))?$/.exec(name) : null;
  if (index === null) throw mustBe("OPTION", "device", 'be "auto", "cpu", "cuda" or "cuda:<number>"', name);
  checkKeys("options", options, []);
  return openCuda(native, Number(index[1] ?? 0));
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
  const device = fromNative(() => new native.Device("cpu", threads, instructionSet));
  return new Device(deviceKey, "cpu", `${cpuModel()} (${device.name})`, threads, native, device);
}

/** @internal A CUDA device of an addon: this package's, or the tests' own. */
export function openCuda(addon: NativeAddon, index: number): Device {
  const device = fromNative(() => new addon.Device("cuda", index));
  return new Device(deviceKey, "cuda", device.name, 0, addon, device, index);
}

function openFirstCuda(): Device | undefined {
  for (const [index, { usable }] of describeCuda().devices.entries()) {
    if (!usable) continue;
    try {
      return openCuda(native, index);
    } catch {
      // Taken by another process, out of memory, faulty: the next one may do.
    }
  }
  return undefined;
}

// One of each per Node environment, for parameters that name no device.
let sharedCpu: Device | undefined;
const sharedCuda: (Device | undefined)[] = [];

/** @internal */
export function defaultCpu(): Device {
  if (sharedCpu === undefined || sharedCpu.disposed) sharedCpu = openCpu({});
  return sharedCpu;
}

/**
 * @internal The device that owns an address; undefined where there is no CUDA device that could.
 * @throws MTAdamError HOST_POINTER where none does
 */
export function deviceOfAddress(subject: string, address: bigint): Device | undefined {
  if (!describeCuda().usable) return undefined;
  const index = native.cudaOwner(address);
  if (index < 0) {
    throw new MTAdamError(
      "HOST_POINTER",
      `\`${subject}\` must be memory of a CUDA device; got host memory, or device memory that was freed.`,
    );
  }
  const device = sharedCuda[index];
  if (device !== undefined && !device.disposed) return device;
  return (sharedCuda[index] = openCuda(native, index));
}

/** What {@link describeDevices} says of one CUDA device. */
export interface CudaDeviceDescription {
  /** As in "cuda:<index>". */
  index: number;
  name: string;
  /** Such as "9.0". */
  computeCapability: string;
  usable: boolean;
  /** Why it is not. */
  reason?: string;
}

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
    /** The newest CUDA that the driver serves, such as "13.0". */
    driver?: string;
    /** The CUDA of this build. */
    runtime?: string;
    /** Compute capabilities that the binary holds code for, such as "8.0", and "12.0+PTX" for all from there on. */
    architectures: string[];
    devices: CudaDeviceDescription[];
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
    cuda: describeCuda(),
  };
}

function describeCuda(): DevicesDescription["cuda"] {
  const { driver, runtime, reason, architectures, devices } = native.describeCuda();
  return {
    usable: reason === "",
    ...(reason === "" ? {} : { reason }),
    ...(driver === "" ? {} : { driver }),
    ...(runtime === "" ? {} : { runtime }),
    architectures,
    devices: devices.map(({ reason: why, ...device }, index) => ({
      index,
      ...device,
      usable: why === "",
      ...(why === "" ? {} : { reason: why }),
    })),
  };
}

function cpuModel(): string {
  return os.cpus()[0]?.model.trim() ?? os.arch();
}
