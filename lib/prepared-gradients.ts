import type { NativeStream } from "./addon/native";
import { fromNative, MTAdamError } from "./errors";
import type { Gradient, GradientTable } from "./gradients";
import type { Guard } from "./guard";
import type { ParameterName } from "./parameters";
import { checkReceivers } from "./receiver";
import { makeUncloneable } from "./uncloneable";

/** Private to the package, so that no other code can construct the class below. */
export const preparedKey = Symbol("PreparedGradients");

/**
 * Gradients at fixed addresses, made once by `optimizer.prepare()`. `optimizer.step()` takes them in place of gradients
 * and does not check them one by one. They are valid until terms or parameters are added or removed.
 */
export class PreparedGradients<Term extends string = string, Parameter extends string = string> {
  readonly #table: GradientTable;
  /** The guard of the optimizer that made them. */
  readonly #guard: Guard;
  readonly #stream: NativeStream;

  static {
    const isPrepared = (value: unknown): boolean =>
      typeof value === "object" && value !== null && #table in value;
    checkReceivers("a PreparedGradients", this.prototype, isPrepared);
  }

  /** @internal `optimizer.prepare()` makes these. */
  constructor(key: symbol, table: GradientTable, guard: Guard, stream: NativeStream) {
    if (key !== preparedKey) {
      throw new MTAdamError("OPTION", "Prepared gradients must be made by `optimizer.prepare()`.");
    }
    this.#table = table;
    this.#guard = guard;
    this.#stream = stream;
    makeUncloneable(this);
  }

  /**
   * Replaces one gradient; null: absent.
   *
   * @param term its index or name
   * @param parameter its index or name
   * @throws MTAdamError TERM, OPTION, DTYPE, LENGTH, HOST_POINTER, INVALID_POINTER, STATE, DISPOSED
   */
  set(term: number | Term, parameter: number | ParameterName<Parameter>, gradient: Gradient): void {
    const table = this.#current();
    const { terms, parameters } = table.shape;
    this.#guard.alive();
    this.#guard.reading("set", () => {
      table.set(terms.indexOf(term), parameters.indexOf(parameter), gradient);
    });
  }

  /** Sets every element of every gradient to 0. @throws MTAdamError LENGTH, STATE, BUSY, DISPOSED, CUDA */
  zero(): void {
    const table = this.#current();
    const native = this.#guard.usable();
    table.recheck();
    fromNative(() => {
      native.zero(table.native, this.#stream);
    });
  }

  /**
   * Waits until the addresses are on the device. A step in a CUDA graph of your own needs this call; other steps send
   * the addresses themselves.
   *
   * @throws MTAdamError LENGTH, STATE, BUSY, DISPOSED, CUDA
   */
  upload(): void {
    const table = this.#current();
    const native = this.#guard.usable();
    table.recheck();
    fromNative(() => {
      native.upload(table.native, this.#stream);
    });
  }

  #current(): GradientTable {
    if (this.#table.shape.isCurrent) return this.#table;
    throw new MTAdamError(
      "STATE",
      "`prepare` must be called again: the optimizer's terms or parameters have changed.",
    );
  }

  /**
   * @internal The table, if `value` is one of this class.
   * @throws MTAdamError STATE, OPTION where another optimizer made it
   */
  static table(value: unknown, guard: Guard): GradientTable | undefined {
    if (typeof value !== "object" || value === null || !(#table in value)) return undefined;
    if (value.#guard === guard) return value.#current();
    throw new MTAdamError(
      "OPTION",
      "`gradients` must be prepared by the same optimizer; got those of another.",
    );
  }
}
