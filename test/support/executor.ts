import path from "node:path";
import type { NativeAddon } from "../../lib/addon/native";
import { Device, deviceKey } from "../../lib/memory/device";
import { openCuda } from "../../lib/memory/open-device";

/** The additions of the tests' addon: the machine, and the calls of a user's own CUDA code. */
export interface Executor {
  /** Starts a fresh machine; native/test/simt/control.h lists the words. */
  reset(words: string): void;
  setExecution(execution: "eager" | "lazy" | "random", seed?: number): void;
  /** The n-th launch from now (1: the next) and all later calls fail with an illegal address. */
  failLaunch(n: number): void;
  /** The n-th allocation from now runs out of memory. */
  failAllocation(n: number): void;
  /** The n-th call of a function ("": of any) from now (1, the default: the next) fails with cudaErrorUnknown. */
  failCall(name: string, n?: number): void;
  /** The n-th allocation of the addon's own C++ code from now fails; 0: none. */
  failNew(n: number): void;
  /** Returns whether some call or allocation was still to fail; from now on none does. */
  clearFaults(): boolean;
  counters(): {
    launches: number;
    calls: Record<string, number>;
    copies: number;
    pageableCopies: number;
  };
  resetCounters(): void;
  live(): {
    deviceBytes: number;
    pinnedBytes: number;
    streams: number;
    events: number;
    graphs: number;
    queued: number;
  };
  allocate(bytes: number, device: number): bigint;
  allocatePinned(bytes: number): bigint;
  free(address: bigint): void;
  createStream(nonBlocking: boolean, device: number): bigint;
  destroyStream(stream: bigint): void;
  beginCapture(stream: bigint, mode?: "global" | "threadLocal" | "relaxed"): void;
  /** Ends the capture and drops the graph. */
  endCapture(stream: bigint): void;
  /** Ends the capture. Returns its graph, which can be launched. */
  instantiateCapture(stream: bigint): bigint;
  launchGraph(graph: bigint, stream: bigint): void;
  destroyGraph(graph: bigint): void;
  /** Copies from device to device, on the stream or in its capture. */
  copy(to: bigint, from: bigint, bytes: number, stream: bigint): void;
  synchronizeStream(stream: bigint): void;
  /** Has the stand-in of NCCL, a file, enqueue its work on the machine's streams. */
  useNccl(file: string): void;
  write(to: bigint, from: Uint8Array): void;
  read(to: Uint8Array, from: bigint): void;
}

/** Two devices. Checks that need system calls at every operation are left to the native tests. */
export const MACHINE = "devices=2 hide_device_memory=0";

/** If MTADAM_PREBUILD names another build for the package (scripts/test/sanitized.js), it has the executor, too. */
const { MTADAM_PREBUILD } = process.env;
const file =
  MTADAM_PREBUILD === undefined
    ? path.join(__dirname, "../../build/executor/mtadam.node")
    : path.join(MTADAM_PREBUILD, "build/Release/mtadam.node");

let loaded: (NativeAddon & { simt: Executor }) | undefined;

function addon(): NativeAddon & { simt: Executor } {
  if (loaded === undefined) {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- a native addon
    loaded = require(file) as typeof loaded;
    loaded!.simt.reset(MACHINE);
  }
  return loaded!;
}

export function executor(): Executor {
  return addon().simt;
}

/** A CUDA device of the host executor. */
export function openExecutor(index = 0): Device {
  return openCuda(addon(), index);
}

/** The CPU device of the tests' addon, for `failNew`. */
export function openExecutorCpu(threads = 1): Device {
  return new Device(deviceKey, "cpu", "CPU", threads, addon(), new (addon().Device)("cpu", threads, ""));
}
