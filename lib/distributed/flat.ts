import { checkKeys } from "../arguments";
import { MTAdamError, mustBe } from "../errors";
import { isArray, isRecord } from "../inspect";
import { checkDimensions, elementsOf } from "../memory/device-pointer";
import { checkTerms } from "../term-names";

/** A number of elements, or dimensions. */
export type Shape = number | readonly number[];

export interface FlatOptions<Terms extends number | readonly string[] = number | readonly string[]> {
  /** As the optimizer's: the names of the loss terms, or their number. */
  terms: Terms;
}

/** A parameter for the optimizer's constructor. */
export interface FlatParameter<Name extends string = string> {
  /** Of shapes by name. */
  readonly name?: Name;
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** Tensors in arrays that have them one after another: the parameters in one, the gradients of each term in one. */
export interface FlatTensors<
  Terms extends number | readonly string[] = number | readonly string[],
  Name extends string = string,
> {
  readonly parameters: readonly FlatParameter<Name>[];
  /** By term, as `terms` gives them, one per parameter in order: what a step takes. */
  readonly gradients: Terms extends readonly (infer Term extends string)[]
    ? Readonly<Record<Term, readonly Float32Array[]>>
    : readonly (readonly Float32Array[])[];
}

/** @throws MTAdamError OPTION, OUT_OF_MEMORY */
export function makeFlat(shapes: unknown, options: unknown): FlatTensors {
  const described = readShapes(shapes);
  const { terms } = checkKeys<FlatOptions>("options", options, ["terms"]);
  const names = checkTerms(terms);
  const lengths = described.map(({ shape }) => elementsOf(shape));
  const views = consecutive(lengths);
  const parameters = described.map((description, k) => Object.freeze({ ...description, data: views[k]! }));
  const gradients: Record<string, readonly Float32Array[]> | (readonly Float32Array[])[] =
    typeof terms === "number" ? [] : (Object.create(null) as Record<string, readonly Float32Array[]>);
  for (const name of names) Object.assign(gradients, { [name]: Object.freeze(consecutive(lengths)) });
  return Object.freeze({ parameters: Object.freeze(parameters), gradients: Object.freeze(gradients) });
}

function readShapes(shapes: unknown): { name?: string; shape: readonly number[] }[] {
  if (isArray(shapes)) {
    return Array.from(shapes, (shape, k) => ({ shape: checkShape(`shapes[${k}]`, shape) }));
  }
  if (!isRecord(shapes)) throw mustBe("OPTION", "shapes", "be an array or an object by name", shapes);
  return Object.entries(shapes).map(([name, shape]) => ({
    name,
    shape: checkShape(`shapes[${JSON.stringify(name)}]`, shape),
  }));
}

function checkShape(subject: string, shape: unknown): readonly number[] {
  if (typeof shape === "number" && !(Number.isSafeInteger(shape) && shape >= 0)) {
    throw mustBe("OPTION", subject, "be a whole number or a list of them", shape);
  }
  return Object.freeze(checkDimensions(subject, typeof shape === "number" ? [shape] : shape));
}

/** Views of one new array. */
function consecutive(lengths: readonly number[]): Float32Array[] {
  const all = newArray(lengths.reduce((sum, length) => sum + length, 0));
  let next = 0;
  return lengths.map((length) => all.subarray(next, (next += length)));
}

function newArray(length: number): Float32Array {
  try {
    return new Float32Array(length);
  } catch (error) {
    const message = `There is not enough memory for an array of ${length} float32 elements.`;
    throw new MTAdamError("OUT_OF_MEMORY", message, { cause: error });
  }
}
