import type { NativeCommunicator } from "../addon/native";
import { fromNative, MTAdamError, mustBe } from "../errors";
import { nameClass } from "../inspect";
import type { Device } from "../memory/device";
import { checkReceivers } from "../receiver";
import { makeUncloneable } from "../uncloneable";
import { makeFlat, type FlatOptions, type FlatTensors, type Shape } from "./flat";

/** Private to the package, so that no other code can construct the class below. */
export const communicatorKey = Symbol("Communicator");

/** Whether `value` was made by {@link Communicator}'s constructor. */
export let isCommunicator: (value: unknown) => value is Communicator;
/** The addon's object. */
export let nativeCommunicator: (communicator: Communicator) => NativeCommunicator;

/**
 * The processes that train together. All ranks make the same calls of the communicator and of the optimizers that have
 * it, in the same order.
 */
export class Communicator {
  readonly kind: "mpi" | "nccl";
  /** The number of this process, from 0. */
  readonly rank: number;
  /** The number of processes. */
  readonly size: number;
  /** What the library says of itself, e.g. "Open MPI v4.1.4" or "NCCL 2.27.3". */
  readonly library: string;
  /** With NCCL: the device of the parameters. */
  readonly device: Device | undefined;
  readonly #native: NativeCommunicator;

  static {
    isCommunicator = (value): value is Communicator =>
      typeof value === "object" && value !== null && #native in value;
    checkReceivers("a Communicator", this.prototype, isCommunicator);
    nameClass(this.prototype, "Communicator");
    nativeCommunicator = (communicator) => communicator.#native;
  }

  /** @internal {@link connectMpi} and {@link connectNccl} make it; only the latter has a device. */
  constructor(key: symbol, own: NativeCommunicator, device?: Device) {
    if (key !== communicatorKey) {
      throw new MTAdamError("OPTION", "A communicator must be made by `connectMpi()` or `connectNccl()`.");
    }
    this.#native = own;
    this.kind = device === undefined ? "mpi" : "nccl";
    this.device = device;
    this.rank = own.rank;
    this.size = own.size;
    this.library = own.library;
    makeUncloneable(this);
    Object.freeze(this);
  }

  /**
   * Waits until all ranks have called it. The event loop stands still meanwhile.
   *
   * @throws MTAdamError DISTRIBUTED if another rank makes another call, or after {@link close}
   */
  barrier(): Promise<void> {
    return this.#call(() => {
      this.#native.agree("barrier");
    });
  }

  /**
   * Parameters and gradients on the CPU that the ranks exchange from where they lie: no step copies them. All elements
   * are 0. Nothing is exchanged here. `shapes`: in order, or by name of the parameter.
   *
   * @throws MTAdamError OPTION, also with NCCL, for whose buffers a copy costs little; OUT_OF_MEMORY
   */
  flat<const Terms extends number | readonly string[], Name extends string = string>(
    shapes: readonly Shape[] | Readonly<Record<Name, Shape>>,
    options: FlatOptions<Terms>,
  ): FlatTensors<Terms, Name> {
    if (this.kind === "nccl") {
      throw new MTAdamError(
        "OPTION",
        "`flat` needs MPI; with NCCL, parameters and gradients are buffers of the device.",
      );
    }
    return makeFlat(shapes, options) as FlatTensors<Terms, Name>;
  }

  /**
   * Ends the use of the library in this process; with MPI, it waits for the other ranks to do so. A process that ends with
   * code 0 does it by itself. The optimizers of the communicator can take no further step.
   */
  close(): Promise<void> {
    return this.#call(() => {
      this.#native.close();
      forget(this.#native);
    });
  }

  async #call(call: () => void): Promise<void> {
    fromNative(call);
  }
}

/** Waits for all ranks to get here. @throws MTAdamError DISTRIBUTED unless all make the same call, of at most 31 characters */
export function agree(communicator: Communicator, call: string): void {
  fromNative(() => {
    nativeCommunicator(communicator).agree(call);
  });
}

/**
 * Runs a call that all ranks make. Where it fails on one rank, it fails on all.
 *
 * @throws MTAdamError DISTRIBUTED where it failed on another rank or ranks make different calls; else what it throws
 */
export async function together(
  communicator: Communicator,
  call: string,
  run: () => Promise<void>,
): Promise<void> {
  agree(communicator, call);
  try {
    await run();
  } catch (error) {
    // The other ranks have that error, too.
    if (error instanceof MTAdamError && error.code === "ERR_MTADAM_DISTRIBUTED") throw error;
    try {
      agree(communicator, `${call}, which failed`);
    } catch {
      // Expected: the other ranks are elsewhere.
    }
    throw error;
  }
  agree(communicator, `the end of ${call}`);
}

export interface LibraryOptions {
  library?: string | undefined;
  timeout?: number | undefined;
}

/** @throws MTAdamError OPTION */
export function checkLibrary({ library, timeout = 60 }: LibraryOptions): {
  library: string | undefined;
  timeout: number;
} {
  if (library !== undefined && (typeof library !== "string" || library === "")) {
    throw mustBe("OPTION", "library", "be the name of a file", library);
  }
  if (typeof timeout !== "number" || !(timeout > 0 && timeout <= 1e6)) {
    throw mustBe("OPTION", "timeout", "be a number of seconds above 0, at most 1000000", timeout);
  }
  return { library, timeout };
}

/** What is not closed yet. */
const open = new Set<NativeCommunicator>();

/** Closes at the end of a process that has not failed: one that has must not wait for ranks that are to be ended. */
export function closeAtExit(own: NativeCommunicator): void {
  if (open.size === 0) process.on("exit", closeAll);
  open.add(own);
}

function closeAll(code: number): void {
  if (code !== 0) return;
  for (const own of open) own.close();
}

function forget(own: NativeCommunicator): void {
  if (open.delete(own) && open.size === 0) process.off("exit", closeAll);
}
