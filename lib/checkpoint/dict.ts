import { fromNative, MTAdamError } from "../errors";
import { describeValue, typedArrayLength, typedArrayName, typedArrayPlace } from "../inspect";
import { elementsOf } from "../memory/device-pointer";
import { runAtOnce } from "./pace";
import type { Reading, StateSource, TensorRead } from "./reader";
import { checkState, propagates, type Restoration } from "./restore";
import {
  makeTensor,
  stateMetadata,
  stateTensors,
  type StateDict,
  type StateOwner,
  type StateTensor,
  type TensorType,
} from "./state";

// A state as an object in memory.

/** @throws MTAdamError OPTION if an option of a group is invalid, DISPOSED, CUDA */
export function stateDict(owner: StateOwner): StateDict {
  const state: StateDict = { metadata: runAtOnce(stateMetadata(owner)) };
  for (const tensor of stateTensors(owner)) {
    const values = makeTensor(tensor.type, tensor.length);
    tensor.read(0, values);
    state[tensor.key] = values;
  }
  return state;
}

/** A state held by the user. Only the constructor runs the user's code (getters, proxies). */
export class DictSource implements StateSource {
  readonly metadata: unknown;
  readonly #entries: Readonly<Record<string, unknown>>;

  /** @throws MTAdamError CHECKPOINT if it is not an object of plain data */
  constructor(state: unknown) {
    if (typeof state !== "object" || state === null) {
      throw new MTAdamError("CHECKPOINT", "The state must be an object.");
    }
    try {
      this.#entries = { ...state };
      // As in a file, where metadata is JSON.
      this.metadata = JSON.parse(JSON.stringify(this.#entries["metadata"] ?? null));
    } catch {
      throw new MTAdamError("CHECKPOINT", "The state must be an object of plain data.");
    }
  }

  keys(): Iterable<string> {
    return Object.keys(this.#entries);
  }

  has(key: string, type: TensorType, shape: readonly number[]): boolean {
    const tensor = this.#get(key);
    return typedArrayName(tensor) === type && typedArrayLength(tensor as StateTensor) === elementsOf(shape);
  }

  lacks(key: string): boolean {
    return this.#get(key) === undefined;
  }

  describe(key: string): string {
    return describeValue(this.#get(key));
  }

  read({ key, type, first, to }: TensorRead): void {
    const { buffer, byteOffset } = typedArrayPlace(this.#get(key) as StateTensor);
    // A new view: the user's array may have methods of the user.
    const from = makeTensor(type, to.length, buffer, byteOffset + first * to.BYTES_PER_ELEMENT);
    (to as Float64Array).set(from as Float64Array);
  }

  #get(key: string): unknown {
    return Object.hasOwn(this.#entries, key) ? this.#entries[key] : undefined;
  }
}

/** @throws MTAdamError as {@link checkState} */
export function checkDict(owner: StateOwner, source: DictSource, strict: boolean): Restoration {
  return run(source, checkState(owner, source, { strict, propagates: propagates(owner) }));
}

/** Restores a checked state synchronously, so that nothing can change it in between. */
export function restoreDict(source: DictSource, restoration: Restoration): void {
  run(source, restoration.apply());
}

function run<T>(source: DictSource, reading: Reading<T>): T {
  for (;;) {
    const next = reading.next();
    if (next.done === true) return next.value;
    if (next.value !== undefined) source.read(next.value);
  }
}

/** Copies the state of one optimizer unchanged to a fresh one with the same terms and at least the same parameters. */
export function copyState(from: StateOwner, to: StateOwner): void {
  const source = new DictSource(stateDict(from));
  const restoration = run(source, checkState(to, source, { strict: false, propagates: true }));
  fromNative(() => {
    to.native.beginRestore();
  });
  restoreDict(source, restoration);
  fromNative(() => {
    to.native.endRestore(from.iterations, true);
  });
}
