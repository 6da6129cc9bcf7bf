import { openDevice, type CpuDeviceOptions } from "../../lib";
import type { Device } from "../../lib/device";

/** The device that the suite runs on. Tests that ask for nothing else make all their memory with its `buffer()`. */
export function testDevice(options?: CpuDeviceOptions): Device {
  return openDevice("cpu", options);
}
