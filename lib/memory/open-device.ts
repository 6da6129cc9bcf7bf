import os from "node:os";
import { native, type NativeAddon } from "../addon/native";
import { checkKeys } from "../arguments";
import { fromNative, MTAdamError, mustBe } from "../errors";
import { cpuQuota } from "./cpu-quota";
import { Device, deviceKey } from "./device";

export interface CpuDeviceOptions {
  /**
   * Threads that compute, the calling one included. Default: as many as the system lets this process use, at most its
   * quota of CPU time, such as a container's.
   */
  threads?: number | undefined;
  /**
   * One of `describeDevices().cpu.instructionSets`; default: the widest. Every result has the same bits with each, so
   * this serves measurements and tests.
   */
  instructionSet?: string | undefined;
}

const MAX_THREADS = 1024;

interface CheckedCpuOptions {
  readonly threads: number;
  /** "" for the widest. */
  readonly instructionSet: string;
}

/**
 * Opens a device: "auto" takes the first CUDA device that can be used, else the CPU; "cuda" is "cuda:0".
 *
 * @throws MTAdamError NO_DEVICE, DRIVER, OUT_OF_MEMORY, CUDA (with the reason), OPTION
 */
export function openDevice(name?: "auto" | "cpu", options?: CpuDeviceOptions): Device;
export function openDevice(name: string): Device;
export function openDevice(name: unknown = "auto", options: unknown = {}): Device {
  if (name === "cpu" || name === "auto") {
    const checked = checkCpuOptions(options);
    return (name === "auto" ? openFirstCuda() : undefined) ?? openCpu(checked);
  }
  const index = typeof name === "string" ? /^cuda(?::(\d{1,6}))?$/.exec(name) : null;
  if (index === null) throw mustBe("OPTION", "device", 'be "auto", "cpu", "cuda" or "cuda:<number>"', name);
  checkKeys("options", options, []);
  return openCuda(native, Number(index[1] ?? 0));
}

function checkCpuOptions(options: unknown): CheckedCpuOptions {
  const given = checkKeys<CpuDeviceOptions>("options", options, ["threads", "instructionSet"]);
  const threads = given.threads ?? defaultThreads();
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw mustBe("OPTION", "threads", `be a whole number from 1 to ${MAX_THREADS}`, threads);
  }
  const instructionSet = given.instructionSet ?? "";
  if (typeof instructionSet !== "string") {
    throw mustBe("OPTION", "instructionSet", "be a string", instructionSet);
  }
  return { threads, instructionSet };
}

function openCpu({ threads, instructionSet }: CheckedCpuOptions): Device {
  const device = fromNative(() => new native.Device("cpu", threads, instructionSet));
  return new Device(deviceKey, "cpu", `${cpuModel()} (${device.name})`, threads, native, device);
}

/** At most the quota: once it is used up, threads stop in the middle of a step. */
function defaultThreads(): number {
  return Math.max(1, Math.floor(Math.min(os.availableParallelism(), cpuQuota(), MAX_THREADS)));
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
      // It is in exclusive use, out of memory or faulty: try the next one.
    }
  }
  return undefined;
}

// One of each per Node environment, for parameters that name no device.
let sharedCpu: Device | undefined;
const sharedCuda: (Device | undefined)[] = [];

/** @internal */
export function defaultCpu(): Device {
  if (sharedCpu === undefined || sharedCpu.disposed) sharedCpu = openCpu(checkCpuOptions({}));
  return sharedCpu;
}

/**
 * @internal The device that owns an address.
 * @throws MTAdamError HOST_POINTER where none does, INVALID_POINTER where there is none
 */
export function deviceOfAddress(subject: string, address: bigint): Device {
  const { usable, reason } = describeCuda();
  if (!usable) {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${subject}\` is a device pointer, which needs a CUDA device; none can be used: ${reason}`,
    );
  }
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

/** One CUDA device, as {@link describeDevices} lists it. */
export interface CudaDeviceDescription {
  /** As in "cuda:<index>". */
  index: number;
  name: string;
  /** For example "9.0". */
  computeCapability: string;
  usable: boolean;
  /** Why it is not usable. */
  reason?: string;
}

export interface DevicesDescription {
  cpu: {
    name: string;
    /** The instruction set that is used by default. */
    instructionSet: string;
    /** All that this build contains and this machine supports, narrowest first. */
    instructionSets: string[];
    threads: number;
  };
  cuda: {
    /** Whether a CUDA device can be opened. */
    usable: boolean;
    /** Why none can be opened. */
    reason?: string;
    /** The newest CUDA version that the driver supports, for example "13.0". */
    driver?: string;
    /** The CUDA version of this build. */
    runtime?: string;
    /** Compute capabilities that the binary contains code for, for example "8.0"; "12.0+PTX" covers all newer ones. */
    architectures: string[];
    devices: CudaDeviceDescription[];
  };
}

/** The devices of this machine that this build can use. Never throws. */
export function describeDevices(): DevicesDescription {
  const { instructionSets } = native.describeCpu();
  return {
    cpu: {
      name: cpuModel(),
      instructionSet: instructionSets.at(-1) ?? "baseline",
      instructionSets,
      threads: defaultThreads(),
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
