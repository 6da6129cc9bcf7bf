// Runs examples/device-pointers on a kind of device, in a separate process, and prints where the point ends and what was
// not freed, as JSON.
// node pointers-round.mjs EXAMPLES executor|cuda

import { createRequire } from "node:module";
import { openDevice } from "./open-device.mjs";

const [examples, kind] = process.argv.slice(2);
const { openRuntime } = await import(`${examples}/device-pointers/runtime.mjs`);
const { train } = await import(`${examples}/device-pointers/train.mjs`);

const addresses = new Set();

/** The executor's memory, as a library of its own would hand it out. */
function executorMemory() {
  const { simt } = createRequire(import.meta.url)("../../build/executor/mtadam.node");
  const bytesOf = ({ buffer }) => new Uint8Array(buffer);
  return {
    allocate: (bytes) => simt.allocate(bytes, 0),
    upload: (address, values) => simt.write(address, bytesOf(values)),
    download: (address, values) => simt.read(bytesOf(values), address),
    free: (address) => simt.free(address),
  };
}

const device = openDevice(kind);
const memory = kind === "executor" ? executorMemory() : openRuntime();
const point = await train(
  {
    ...memory,
    allocate: (bytes) => {
      const address = memory.allocate(bytes);
      addresses.add(address);
      return address;
    },
    free: (address) => {
      memory.free(address);
      addresses.delete(address);
    },
  },
  { device },
);
console.log(JSON.stringify({ point: [...point], left: addresses.size }));
