import * as workers from "node:worker_threads";

// Exists since Node 22.10; the types of the oldest supported Node lack it.
const { markAsUncloneable } = workers as { markAsUncloneable?: (object: object) => void };

/**
 * Makes `structuredClone` and `postMessage` throw for an object that wraps a native one. Before Node 22.10, it does
 * nothing.
 */
export function makeUncloneable(object: object): void {
  markAsUncloneable?.(object);
}
