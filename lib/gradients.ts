import type { NativeGradients } from "./addon/native";
import { fromNative, MTAdamError, mustBe } from "./errors";
import { describeValue, isArray, isPlainObject } from "./inspect";
import type { Device } from "./memory/device";
import { DevicePointer } from "./memory/device-pointer";
import { checkSource, nativeSource, type Source } from "./memory/source";
import { SourceList } from "./memory/source-list";
import { unknownTerm } from "./options";
import type { Parameter, TensorData } from "./parameters";

/** One term's gradient for one parameter; null or undefined: the term is absent there. */
export type Gradient = TensorData | null | undefined;

/** One term's gradients: one per parameter in order (across groups), or by name, where a missing one is absent. */
export type TermGradients = readonly Gradient[] | Readonly<Record<string, Gradient>> | null | undefined;

/** All terms' gradients, in the order of the terms or by name. */
export type Gradients = readonly TermGradients[] | Readonly<Record<string, TermGradients>>;

/** What a gradient table needs to know of its optimizer. */
export interface GradientTarget {
  readonly device: Device;
  readonly terms: readonly string[];
  readonly parameters: readonly Parameter[];
  /** By parameter name. */
  readonly indices: ReadonlyMap<string, number>;
}

/**
 * Gradients term by term and parameter by parameter, as they were last given. Native code is told of a gradient only
 * when it is another one than before; what supplied it is kept alive until then.
 */
export class GradientTable {
  readonly #target: GradientTarget;
  readonly #sources: SourceList;
  readonly native: NativeGradients;

  constructor(target: GradientTarget, native: NativeGradients) {
    this.#target = target;
    this.#sources = new SourceList(target.terms.length * target.parameters.length);
    this.native = native;
  }

  /** @throws MTAdamError LENGTH, TERM, OPTION, DTYPE, INVALID_POINTER, DISPOSED */
  assign(gradients: unknown): void {
    const { terms } = this.#target;
    if (isArray(gradients)) {
      if (gradients.length !== terms.length) {
        throw mustBe("LENGTH", "gradients", `have ${terms.length} entries, one per term`, gradients);
      }
      for (let term = 0; term < terms.length; ++term) this.assignTerm(term, gradients[term]);
      return;
    }
    const named = checkNamed("gradients", gradients, "term");
    for (const name of Object.keys(named)) {
      if (!terms.includes(name)) throw unknownTerm(name, terms);
    }
    for (const [term, name] of terms.entries()) {
      this.assignTerm(term, Object.hasOwn(named, name) ? named[name] : null);
    }
  }

  /** @throws MTAdamError LENGTH, OPTION, DTYPE, INVALID_POINTER, DISPOSED */
  assignTerm(term: number, gradients: unknown): void {
    const row = isArray(gradients) ? this.#checkRow(gradients) : this.#rowByName(gradients);
    const { length } = this.#target.parameters;
    // Each entry is read once: whoever has put a getter there has one call of it.
    for (let parameter = 0; parameter < length; ++parameter) {
      const gradient = row[parameter] ?? null;
      if (this.#sources.get(term * length + parameter) !== gradient) this.set(term, parameter, gradient);
    }
  }

  /** @throws MTAdamError DTYPE, LENGTH, INVALID_POINTER, DISPOSED */
  set(term: number, parameter: number, value: unknown): void {
    const { device, parameters } = this.#target;
    const at = term * parameters.length + parameter;
    const gradient = value ?? null;
    const before = this.#sources.get(at);
    if (before === gradient) return;
    const { name, length } = this.#parameter(parameter);
    const subject = (): string => this.#subject(term, parameter);
    const source = gradient === null ? null : checkSource(subject, gradient, length, device);
    if (isSameAddress(source, before)) {
      this.#sources.set(at, source, length); // perhaps supplied by another object
      return;
    }
    const nativeValue = source === null ? null : nativeSource(source);
    const overlapped = fromNative(
      () => this.native.set(term, parameter, nativeValue),
      source instanceof DevicePointer ? subject : undefined,
    );
    if (overlapped >= 0) {
      throw new MTAdamError(
        "INVALID_POINTER",
        `\`${subject()}\` must not overlap a parameter; got one that overlaps ` +
          `${describeValue(overlapped === parameter ? name : this.#parameter(overlapped).name)}.`,
      );
    }
    this.#sources.set(at, source, length);
  }

  /**
   * Looks once more at the gradients of the terms from `first` on, where that may find anything.
   *
   * @throws MTAdamError LENGTH, DISPOSED
   */
  recheck(first: number, count: number): void {
    const { length } = this.#target.parameters;
    this.#sources.recheck(this.#subjectAt, first * length, count * length);
  }

  /** @throws MTAdamError LENGTH, DISPOSED */
  recheckAll(): void {
    this.#sources.recheck(this.#subjectAt);
  }

  /** What was given, to look at once more when the table itself may hold something else. */
  snapshot(): { recheck(): void } {
    const sources = this.#sources.copy();
    const subjectAt = this.#subjectAt;
    return {
      recheck() {
        sources.recheck(subjectAt);
      },
    };
  }

  #checkRow(gradients: readonly unknown[]): readonly unknown[] {
    const { length } = this.#target.parameters;
    if (gradients.length === length) return gradients;
    throw mustBe("LENGTH", "gradients", `have ${length} entries, one per parameter`, gradients);
  }

  /** One term's gradients as a list with an entry per parameter. */
  #rowByName(gradients: unknown): unknown[] {
    const { parameters, indices } = this.#target;
    const row = new Array<unknown>(parameters.length).fill(null);
    if (gradients === null || gradients === undefined) return row;
    const named = checkNamed("gradients", gradients, "parameter");
    for (const name of Object.keys(named)) {
      const parameter = indices.get(name);
      if (parameter === undefined) {
        throw mustBe("OPTION", "gradients", "be by name of a parameter", name);
      }
      row[parameter] = named[name];
    }
    return row;
  }

  readonly #subjectAt = (at: number): string => {
    const { length } = this.#target.parameters;
    return this.#subject(Math.floor(at / length), at % length);
  };

  #subject(term: number, parameter: number): string {
    return `gradients[${JSON.stringify(this.#target.terms[term])}][${JSON.stringify(this.#parameter(parameter).name)}]`;
  }

  #parameter(index: number): Parameter {
    return this.#target.parameters[index]!;
  }
}

function isSameAddress(a: Source | null, b: Source | null): boolean {
  return a instanceof DevicePointer && b instanceof DevicePointer && a.address === b.address;
}

function checkNamed(subject: string, value: unknown, key: string): Record<string, unknown> {
  if (isPlainObject(value)) return value;
  throw mustBe(
    "OPTION",
    subject,
    `be an array, one entry per ${key}, or an object by name of the ${key}`,
    value,
  );
}

/** What only this package has, so that nobody else constructs the class below. */
export const preparedKey = Symbol("PreparedGradients");

/** What prepared gradients ask of the optimizer that made them. */
export interface PreparedOwner {
  readonly optimizer: object;
  /** Whether it still has the terms and parameters that it had then. */
  isCurrent(): boolean;
  resolve(term: unknown, parameter: unknown): [term: number, parameter: number];
  zero(table: GradientTable): void;
}

/**
 * Gradients at addresses that stay: made once by `optimizer.prepare()`, then given to `optimizer.step()` in place of
 * gradients, without a look at each of them. They hold until terms or parameters are added or removed.
 */
export class PreparedGradients {
  readonly #table: GradientTable;
  readonly #owner: PreparedOwner;

  /** @internal `optimizer.prepare()` makes these. */
  constructor(key: symbol, table: GradientTable, owner: PreparedOwner) {
    if (key !== preparedKey) {
      throw new MTAdamError("OPTION", "Prepared gradients must be made by `optimizer.prepare()`.");
    }
    this.#table = table;
    this.#owner = owner;
  }

  /**
   * Another gradient in place of one; null: absent.
   *
   * @param term its index or name
   * @param parameter its index or name
   * @throws MTAdamError TERM, OPTION, DTYPE, LENGTH, HOST_POINTER, INVALID_POINTER, STATE, DISPOSED
   */
  set(term: number | string, parameter: number | string, gradient: Gradient): void {
    this.#current().set(...this.#owner.resolve(term, parameter), gradient);
  }

  /** Sets every element of every gradient to 0. @throws MTAdamError LENGTH, STATE, BUSY, DISPOSED, CUDA */
  zero(): void {
    this.#owner.zero(this.#current());
  }

  #current(): GradientTable {
    if (this.#owner.isCurrent()) return this.#table;
    throw new MTAdamError(
      "STATE",
      "`prepare` must be called again: the optimizer has got other terms or parameters since.",
    );
  }

  /** @internal The table, if `value` is one of this class. */
  static table(value: unknown, optimizer: object): GradientTable | undefined {
    if (typeof value !== "object" || value === null || !(#table in value)) return undefined;
    if (value.#owner.optimizer === optimizer) return value.#current();
    throw new MTAdamError(
      "OPTION",
      "`gradients` must be prepared by the same optimizer; got those of another.",
    );
  }
}
