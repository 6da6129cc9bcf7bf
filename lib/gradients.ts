import type { NativeGradients } from "./addon/native";
import { fromNative, MTAdamError } from "./errors";
import { describeValue } from "./inspect";
import { DevicePointer } from "./memory/device-pointer";
import type { Float16ArrayLike } from "./memory/dtype";
import { checkSource, nativeSource, type Source } from "./memory/source";
import { SourceList } from "./memory/source-list";
import type { FlatParameters, ParameterName, TensorData } from "./parameters";
import type { ByName, Names } from "./per-name";

/**
 * One term's gradient for one parameter, of the parameter's `gradientDtype`; null or undefined: the term is absent there.
 * On the CPU, elements of 16 bits are in a Uint16Array of their bits, those of float16 also in a Float16Array.
 */
export type Gradient = TensorData | Uint16Array | Float16ArrayLike | null | undefined;

/** One term's gradients: one per parameter in order (across groups), or by name; a parameter left out is absent. */
export type TermGradients<Parameter extends string = string> =
  readonly Gradient[] | ByName<ParameterName<Parameter>, Gradient> | null | undefined;

/** All terms' gradients, in the order of the terms or by name. */
export type Gradients<Term extends string = string, Parameter extends string = string> =
  readonly TermGradients<Parameter>[] | ByName<Term, TermGradients<Parameter>>;

/** The terms and parameters of a table, which has one gradient per pair. */
export interface GradientShape {
  readonly terms: Names;
  readonly parameters: Names;
  readonly flat: FlatParameters;
  /** Whether the optimizer still has these terms and parameters. */
  readonly isCurrent: boolean;
}

/**
 * The last gradient given for each term and parameter. Native code is told only of gradients that changed. The table
 * keeps their memory alive.
 */
export class GradientTable {
  readonly shape: GradientShape;
  readonly native: NativeGradients;
  /** Term by term. */
  readonly #sources: SourceList;
  /**
   * An entry whose address in native code may differ from the list: JavaScript may have ended between the two updates.
   */
  #unsettled: number | undefined;

  constructor(shape: GradientShape, native: NativeGradients) {
    this.shape = shape;
    this.native = native;
    this.#sources = new SourceList(shape.terms.list.length * shape.parameters.list.length);
  }

  /**
   * Sets all gradients.
   *
   * @param least how many terms an object must name
   * @throws MTAdamError LENGTH, TERM, OPTION, DTYPE, INVALID_POINTER, DISPOSED
   */
  assign(gradients: unknown, least = 0): void {
    const { terms } = this.shape;
    const inOrder = terms.read("gradients", gradients, least);
    for (let term = 0; term < terms.list.length; ++term) this.assignTerm(term, inOrder[term]);
  }

  /** Sets one term's gradients. @throws MTAdamError LENGTH, OPTION, DTYPE, INVALID_POINTER, DISPOSED */
  assignTerm(term: number, gradients: unknown): void {
    const { parameters } = this.shape;
    const inOrder = parameters.read(() => this.#nameOf(term), gradients ?? {});
    // Each entry is read once, since it may be a getter.
    const { length } = parameters.list;
    for (let parameter = 0; parameter < length; ++parameter) {
      const gradient = inOrder[parameter] ?? null;
      // Most gradients are those of the last step, and `set` allocates.
      if (this.#sources.get(term * length + parameter) !== gradient) this.set(term, parameter, gradient);
    }
  }

  /** Sets one gradient. @throws MTAdamError DTYPE, LENGTH, INVALID_POINTER, DISPOSED */
  set(term: number, parameter: number, gradient: unknown): void {
    const { parameters, device } = this.shape.flat;
    const at = term * parameters.length + parameter;
    const { length, gradientDtype } = parameters[parameter]!;
    const name = (): string => this.#nameAt(at);
    // This may run the user's code, which may set this gradient, too.
    const source =
      gradient === undefined || gradient === null
        ? null
        : checkSource(name, gradient, length, gradientDtype, device);
    if (this.#unsettled !== undefined) this.#settle(this.#unsettled);
    const before = this.#sources.get(at);
    if (before === source) return;
    this.#unsettled = at;
    if (!isSameAddress(source, before)) {
      const overlapped = this.#tell(at, source, source instanceof DevicePointer ? name : undefined);
      if (overlapped >= 0) {
        this.#unsettled = undefined;
        throw new MTAdamError(
          "INVALID_POINTER",
          `\`${name()}\` must not overlap a parameter; got one that overlaps ` +
            `${describeValue(parameters[overlapped]?.name)}.`,
        );
      }
    }
    this.#sources.set(at, source, length);
    this.#unsettled = undefined;
  }

  /**
   * Sends one address to native code. @returns −1, or the parameter that the gradient overlaps; then nothing was set
   */
  #tell(at: number, source: Source | null, name?: () => string): number {
    const { length } = this.shape.parameters.list;
    const own = source === null ? null : nativeSource(source);
    return fromNative(() => this.native.set(Math.floor(at / length), at % length, own), name);
  }

  /** Sends the list's address to native code, or none if the memory is gone, which the next recheck reports. */
  #settle(at: number): void {
    this.#tell(at, this.#sources.isAlive(at) ? this.#sources.get(at) : null);
    this.#unsettled = undefined;
  }

  /**
   * Checks again that all gradients, or one term's, still have their memory.
   *
   * @throws MTAdamError LENGTH, DISPOSED
   */
  recheck(term?: number): void {
    if (this.#unsettled !== undefined) this.#settle(this.#unsettled);
    const { length } = this.shape.parameters.list;
    if (term === undefined) this.#sources.recheck(this.#nameAt);
    else this.#sources.recheck(this.#nameAt, term * length, length);
  }

  /** The current gradients, which can be rechecked even after the table has changed. */
  snapshot(): { recheck(): void } {
    const sources = this.#sources.copy();
    return { recheck: () => sources.recheck(this.#nameAt) };
  }

  #nameOf(term: number): string {
    return `gradients[${JSON.stringify(this.shape.terms.list[term])}]`;
  }

  /** A gradient's name in messages. */
  readonly #nameAt = (at: number): string => {
    const { list } = this.shape.parameters;
    return `${this.#nameOf(Math.floor(at / list.length))}[${JSON.stringify(list[at % list.length])}]`;
  };
}

function isSameAddress(a: Source | null, b: Source | null): boolean {
  return a instanceof DevicePointer && b instanceof DevicePointer && a.address === b.address;
}
