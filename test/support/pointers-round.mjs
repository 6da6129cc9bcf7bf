// Runs the training of examples/device-pointers on the executor, in a separate process, and prints where the point ends and
// how many allocations are left, as JSON.
// node pointers-round.mjs EXAMPLES

import { createRequire } from "node:module";
import { openDevice } from "./open-device.mjs";

const [examples] = process.argv.slice(2);
const { train } = await import(`${examples}/device-pointers/train.mjs`);
const { simt } = createRequire(import.meta.url)("../../build/executor/mtadam.node");

const device = openDevice("executor");
const bytesOf = ({ buffer }) => new Uint8Array(buffer);
const live = new Set();
const point = await train(
  {
    allocate: (bytes) => {
      const address = simt.allocate(bytes, 0);
      live.add(address);
      return address;
    },
    upload: (address, values) => simt.write(address, bytesOf(values)),
    download: (address, values) => simt.read(bytesOf(values), address),
    free: (address) => {
      simt.free(address);
      live.delete(address);
    },
  },
  { device },
);
console.log(JSON.stringify({ point: [...point], left: live.size }));
