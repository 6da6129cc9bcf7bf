import { nearest } from "./arguments";
import { mustBe, MTAdamError, nameOf, type Named } from "./errors";
import { describeValue, isArray, isRecord } from "./inspect";

/** Comparing a name with these takes about a millisecond. */
const MOST_COMPARED = 1000;

/** A value per name; a name may be left out. */
export type ByName<Name extends string, Value> = Readonly<Partial<Record<Name, Value | undefined>>>;

/** The names of an optimizer's terms, or of its parameters, in order. */
export class Names {
  readonly list: readonly string[];
  readonly #kind: "term" | "parameter";
  readonly #indices: ReadonlyMap<string, number>;

  constructor(kind: "term" | "parameter", list: readonly string[]) {
    this.#kind = kind;
    this.list = Object.freeze(list);
    this.#indices = new Map(list.map((name, index) => [name, index]));
  }

  /**
   * The index that a name or an index stands for.
   *
   * @throws MTAdamError TERM for terms, OPTION for parameters
   */
  indexOf(given: unknown): number {
    const index = typeof given === "string" ? this.#indices.get(given) : given;
    if (Number.isInteger(index) && (index as number) >= 0 && (index as number) < this.list.length) {
      return index as number;
    }
    throw this.#unknown(given);
  }

  /**
   * Values given as an array with one entry per name or as an object by name, each read once.
   *
   * @param subject what they are, for messages
   * @param least how many names an object must have
   * @returns a value per name; undefined where an object leaves it out
   * @throws MTAdamError LENGTH, OPTION, TERM
   */
  read(subject: Named, values: unknown, least = 0): readonly unknown[] {
    const { length } = this.list;
    if (isArray(values)) {
      if (values.length === length) return values;
      throw mustBe("LENGTH", subject, `have ${length} entries, one per ${this.#kind}`, values);
    }
    if (!isRecord(values)) {
      throw mustBe("OPTION", subject, `be an array or an object by name of the ${this.#kind}`, values);
    }
    const inOrder = new Array<unknown>(length);
    const names = Object.keys(values);
    if (names.length < least) {
      const rule = `must name at least ${least} of the ${this.#kind}s (${this.#shown})`;
      throw new MTAdamError("TERM", `\`${nameOf(subject)}\` ${rule}; got ${names.length}.`);
    }
    for (const name of names) {
      const index = this.#indices.get(name);
      if (index === undefined) throw this.#unknown(name, subject);
      inOrder[index] = values[name];
    }
    return inOrder;
  }

  /** @param subject the object that has it as a key */
  #unknown(given: unknown, subject?: Named): MTAdamError {
    const meant = typeof given === "string" ? nearest(given, this.list.slice(0, MOST_COMPARED)) : undefined;
    const hint = meant === undefined ? "" : ` (did you mean ${describeValue(meant)}?)`;
    const rule =
      subject === undefined
        ? `\`${this.#kind}\` must be one of the ${this.#kind}s (${this.#shown}) or its index`
        : `\`${nameOf(subject)}\` must have names of ${this.#kind}s (${this.#shown}) as keys`;
    const code = this.#kind === "term" ? "TERM" : "OPTION";
    return new MTAdamError(code, `${rule}; got ${describeValue(given)}${hint}.`);
  }

  get #shown(): string {
    return (this.list.length > 8 ? [...this.list.slice(0, 8), "…"] : this.list).join(", ");
  }
}
