/**
 * Scenes and values for the tests of hostile input. Nothing that a user passes may crash the process: a call works,
 * throws an MTAdamError, or rethrows the value's own error; a refused call changes nothing. The exception is the handle
 * of a stream that does not exist, on a GPU: docs/cuda.md.
 */

import { inspect } from "node:util";
import { MTAdamError, type PreparedGradients } from "../../lib";
import { testDevice } from "./device";
import { contents, inArray, Scene, type Tensor } from "./scene";

/** A scene on its own device, after one step, with gradients and prepared gradients. */
export class HostileScene extends Scene<Tensor> {
  readonly g: [w: Tensor, b: Tensor];
  readonly prepared: PreparedGradients;

  constructor(
    readonly inArrays: boolean,
    readonly device = testDevice({ threads: 1 }),
  ) {
    super(inArrays ? inArray : (...values) => device.buffer(inArray(...values)), { device });
    this.g = this.gradients();
    this.optimizer.step([this.g, this.g]);
    this.prepared = this.optimizer.prepare([this.g, this.g]);
  }

  /** Everything that a refused call must leave unchanged. */
  async fingerprint(): Promise<string> {
    const tensors = [this.w, this.b].map(contents);
    const state = await this.optimizer.stateDict().catch((error: unknown) => (error as MTAdamError).code);
    const { iterations, weights, paramGroups } = this.optimizer;
    return inspect([await Promise.all(tensors), state, iterations, weights, paramGroups], { depth: 9 });
  }
}

export const inBuffers = (): HostileScene => new HostileScene(false);

export const ownDevice = testDevice({ threads: 1 });

/** Thrown by the hostile values of this file. */
export class Mischief extends Error {}

/** The outcome of a call: "works", or the name of its error if that error is allowed. */
export async function outcome(call: () => unknown): Promise<string> {
  try {
    await call();
    return "works";
  } catch (error) {
    if (error instanceof MTAdamError) return error.code;
    if (error instanceof Mischief) return "Mischief";
    // Compared by name, since these errors come from several realms.
    if ((error as Error).name === "TypeError") return "TypeError";
    throw error;
  }
}

export const detach = (array: Float32Array): Float32Array => {
  const { buffer } = array;
  return new Float32Array(structuredClone(buffer, { transfer: [buffer as ArrayBuffer] }));
};

export const revoked = (): object => {
  const { proxy, revoke } = Proxy.revocable([], {});
  revoke();
  return proxy;
};

export const throwing = (target: object): object => {
  const fail = (): never => {
    throw new Mischief();
  };
  return new Proxy(target, {
    get: fail,
    has: fail,
    ownKeys: fail,
    getOwnPropertyDescriptor: fail,
    getPrototypeOf: fail,
  });
};
