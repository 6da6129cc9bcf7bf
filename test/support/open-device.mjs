// A device for the scripts that tests run in a process of their own.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

let loaded;

/** The tests' addon, on a fresh machine. */
export function executor() {
  if (loaded === undefined) {
    loaded = require("../../build/executor/mtadam.node");
    loaded.simt.reset("hide_device_memory=0");
  }
  return loaded;
}

/**
 * @param {string} kind cpu (one thread), executor or cuda
 * @param {boolean} onePass on the executor: a step is one kernel where it can be
 */
export function openDevice(kind, onePass = false) {
  if (kind !== "executor")
    return require("../../dist").openDevice(kind, ...(kind === "cpu" ? [{ threads: 1 }] : []));
  return require("../../dist/memory/open-device.js").openCuda(executor(), 0, onePass);
}
