import type { NativeOptimizer } from "./addon/native";
import { packValues, valuesLength, type CallValues, type GroupValues } from "./call-options";
import { fromNative, MTAdamError } from "./errors";
import { GradientTable } from "./gradients";
import { addonOf } from "./memory/device";
import { SourceList } from "./memory/source-list";
import type { FlatParameters } from "./parameters";
import type { ParamGroup } from "./param-groups";
import { Names } from "./per-name";

/** The terms and parameters of an optimizer until one is added or removed, and the memory that its calls share. */
export class Generation {
  readonly terms: Names;
  readonly parameters: Names;
  readonly flat: FlatParameters;
  readonly groups: readonly ParamGroup[];
  /** w of each term, in order. */
  weights: readonly number[];
  /** The options of one call, as native code reads them. */
  readonly #values: Float64Array;
  /** False once there is a newer generation: tables and captured steps of this one are then invalid. */
  isCurrent = true;
  readonly #sources: SourceList;
  #table: GradientTable | undefined;

  constructor(
    flat: FlatParameters,
    terms: readonly string[],
    weights: readonly number[],
    groups: readonly ParamGroup[],
  ) {
    checkPairs(terms.length, flat.parameters.length);
    this.flat = flat;
    this.weights = Object.freeze(weights);
    this.groups = Object.freeze(groups);
    this.terms = new Names("term", terms);
    this.parameters = new Names(
      "parameter",
      flat.parameters.map(({ name }) => name),
    );
    this.#values = new Float64Array(valuesLength(terms.length, flat.groups.length));
    this.#sources = new SourceList(flat.parameters.length);
    for (const [index, { source, length }] of flat.parameters.entries()) {
      this.#sources.set(index, source, length);
    }
    // Those of an earlier generation may have lost their buffers since.
    this.#sources.distrust();
  }

  /** Whether the native optimizer has as many terms and groups as this generation. */
  isOf({ termCount, groupCount }: NativeOptimizer): boolean {
    return termCount === this.terms.list.length && groupCount === this.groups.length;
  }

  /**
   * The options of one call, as native code reads them; valid until the next call.
   *
   * @param groups undefined: those of the open step
   */
  pack(call: CallValues, groups: readonly GroupValues[] | undefined): Float64Array {
    const terms = this.terms.list.length;
    // With a wrong number of weights, native code would read the groups' options at wrong positions.
    if (call.weights.length !== terms || (groups !== undefined && groups.length !== this.groups.length)) {
      throw new RangeError("A call must have the values of all terms and groups.");
    }
    packValues(this.#values, call, groups ?? []);
    return this.#values;
  }

  /** The table for gradients that are passed to a call directly. @throws MTAdamError OUT_OF_MEMORY */
  table(native: NativeOptimizer): GradientTable {
    return (this.#table ??= this.makeTable(native));
  }

  /** @throws MTAdamError OUT_OF_MEMORY */
  makeTable(native: NativeOptimizer): GradientTable {
    const { Gradients } = addonOf(this.flat.device);
    return new GradientTable(
      this,
      fromNative(() => new Gradients(native)),
    );
  }

  /** Checks again that the parameters still have their memory. @throws MTAdamError LENGTH, DISPOSED */
  recheckParameters(): void {
    this.#sources.recheck((at) => this.parameters.list[at]!);
  }

  /** The same for one of them. */
  recheckParameter(index: number): void {
    this.#sources.recheck((at) => this.parameters.list[at]!, index, 1);
  }
}

/** Of more, the lists of gradients would exceed what V8 keeps as an array: they would take minutes, then all memory. */
const MOST_PAIRS = 2 ** 25;

/** @throws MTAdamError OPTION */
function checkPairs(terms: number, parameters: number): void {
  if (terms * parameters <= MOST_PAIRS) return;
  const got = `${terms} terms and ${parameters} parameters`;
  throw new MTAdamError(
    "OPTION",
    `There must be at most ${MOST_PAIRS} pairs of a term and a parameter; got ${got}.`,
  );
}
