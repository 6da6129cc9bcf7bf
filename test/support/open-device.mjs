// A device for the scripts that tests run in a process of their own.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** @param {string} kind cpu (one thread), executor or cuda */
export function openDevice(kind) {
  if (kind !== "executor")
    return require("../../dist").openDevice(kind, ...(kind === "cpu" ? [{ threads: 1 }] : []));
  const addon = require("../../build/executor/mtadam.node");
  addon.simt.reset("hide_device_memory=0");
  return require("../../dist/memory/open-device.js").openCuda(addon, 0);
}
