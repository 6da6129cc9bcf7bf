import * as workers from "node:worker_threads";

// Node 22.10 and newer; not yet in the types of the oldest Node that is served.
const { markAsUncloneable } = workers as { markAsUncloneable?: (object: object) => void };

/** Makes `structuredClone` and `postMessage` throw for an object that wraps a native one, where the runtime can. */
export function makeUncloneable(object: object): void {
  markAsUncloneable?.(object);
}
