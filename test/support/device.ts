import { describeDevices, openDevice, type CpuDeviceOptions } from "../../lib";
import type { Device } from "../../lib/memory/device";
import { openExecutor } from "./executor";

/** The device of a jest project, set in jest.config.js. */
declare global {
  var testDeviceKind: "cpu" | "executor" | "cuda";
}

/** On the host executor, where each CUDA thread is a fiber, large models take minutes. */
export const isSlow = testDeviceKind === "executor";

const cudaDevices = describeDevices().cuda.devices.length;

/**
 * The device that the suite runs on. Tests make all their memory with its `buffer()` unless they need other memory.
 *
 * @param options used if the device has them
 */
export function testDevice(options?: CpuDeviceOptions): Device {
  switch (testDeviceKind) {
    case "cpu":
      return openDevice("cpu", options);
    case "executor":
      return openExecutor();
    case "cuda":
      return openDevice("cuda");
  }
}

/** Another device, whose memory is not the first one's. */
export function otherDevice(): Device {
  if (testDeviceKind === "executor") return openExecutor(1);
  return testDeviceKind === "cuda" && cudaDevices > 1
    ? openDevice("cuda:1")
    : openDevice("cpu", { threads: 1 });
}

type Body = () => void;

/** Tests of features of the CPU alone: arrays updated in place, threads, ends of processes. */
export function onCpu(what: string, body: Body): void {
  if (testDeviceKind === "cpu") describe(`on the CPU: ${what}`, body);
}

/** A test that counts calls of CUDA, or needs a library that only the executor has. */
export const onExecutor = testDeviceKind === "executor" ? test : test.skip;

/** Tests of features of CUDA alone: streams, graphs, pointers. */
export function onCuda(what: string, body: Body): void {
  if (testDeviceKind !== "cpu") describe(`on CUDA: ${what}`, body);
}
