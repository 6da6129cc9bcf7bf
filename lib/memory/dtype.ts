import type { AnyTypedArray } from "../addon/native";
import { mustBe } from "../errors";
import { typedArrayLength, typedArrayName, typedArrayPlace } from "../inspect";

/** Element types of a buffer. Parameters and gradients are not "float64". */
export type DType = "float32" | "float64" | "float16" | "bfloat16";

/** The typed array that this package makes for elements of a dtype. Elements of 16 bits are in it as their bits. */
export type HostArray<D extends DType = DType> = D extends "float32"
  ? Float32Array
  : D extends "float64"
    ? Float64Array
    : Uint16Array;

/** The typed arrays that this package takes for elements of a dtype. */
export type HostElements<D extends DType = DType> =
  HostArray<D> | (D extends "float16" ? Float16ArrayLike : never);

/** Element types of a parameter. */
export type ParameterDtype = "float32" | "float16" | "bfloat16";

/** Element types of a gradient. */
export type GradientDtype = ParameterDtype;

/** A `Float16Array`, which not every runtime and not every TypeScript has. */
export interface Float16ArrayLike extends ArrayBufferView {
  readonly [Symbol.toStringTag]: "Float16Array";
  readonly length: number;
}

interface DTypeTraits {
  bytes: number;
  /** The names of the typed arrays that hold it on the host. */
  arrays: readonly string[];
  make(length: number): AnyTypedArray;
  /** The value as an element of the host array: itself, or its bits. */
  encode(value: number): number;
}

export const DTYPES: Readonly<Record<DType, DTypeTraits>> = {
  float32: { bytes: 4, arrays: ["Float32Array"], make: (n) => new Float32Array(n), encode: (value) => value },
  float64: { bytes: 8, arrays: ["Float64Array"], make: (n) => new Float64Array(n), encode: (value) => value },
  float16: {
    bytes: 2,
    arrays: ["Uint16Array", "Float16Array"],
    make: (n) => new Uint16Array(n),
    encode: (value) => floatBits(value, 5, 10),
  },
  bfloat16: {
    bytes: 2,
    arrays: ["Uint16Array"],
    make: (n) => new Uint16Array(n),
    encode: (value) => floatBits(value, 8, 7),
  },
};

export function checkDType(value: unknown): DType {
  if (typeof value === "string" && Object.hasOwn(DTYPES, value)) return value as DType;
  throw mustBe("DTYPE", "dtype", 'be "float32", "float64", "float16" or "bfloat16"', value);
}

/** Whether a typed array of that name holds elements of `dtype`. */
export function holds(name: string | undefined, dtype: DType): boolean {
  return name !== undefined && DTYPES[dtype].arrays.includes(name);
}

/** Names the typed arrays that hold `dtype`, and what else is allowed, for messages: "a Float32Array or a float32 buffer". */
export function arraysOf(dtype: DType, ...others: string[]): string {
  const all = [...DTYPES[dtype].arrays.map((name) => `a ${name}`), ...others];
  const last = all.pop()!;
  return all.length === 0 ? last : `${all.join(", ")} or ${last}`;
}

/** The elements, as native code takes them, of an array of a kind that holds `dtype`. */
export function checkHostArray(subject: string, value: unknown, dtype: DType): AnyTypedArray {
  if (holds(typedArrayName(value), dtype)) return nativeArray(value as HostElements);
  throw mustBe("DTYPE", subject, `be ${arraysOf(dtype)} (${dtype})`, value);
}

/** The array; of a Float16Array its memory in a Uint16Array, which every version of Node-API knows. */
export function nativeArray<A extends HostElements>(array: A): Exclude<A, Float16ArrayLike> | Uint16Array {
  if (typedArrayName(array) !== "Float16Array") return array as Exclude<A, Float16ArrayLike>;
  const { buffer, byteOffset } = typedArrayPlace(array);
  return new Uint16Array(buffer, byteOffset, typedArrayLength(array));
}

/** The bits of the nearest float of that form, ties to even. */
function floatBits(value: number, exponentBits: number, significandBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const infinity = (2 ** exponentBits - 1) * 2 ** significandBits;
  if (Number.isNaN(value)) return infinity + 2 ** (significandBits - 1);
  const sign = value < 0 || Object.is(value, -0) ? 2 ** (exponentBits + significandBits) : 0;
  const magnitude = Math.abs(value);
  if (magnitude === Infinity) return sign + infinity;
  // Subnormals have the spacing of the smallest normals. log2 may round up to the next integer.
  const guess = Math.max(1 - bias, Math.floor(Math.log2(magnitude)));
  const exponent = guess > 1 - bias && 2 ** guess > magnitude ? guess - 1 : guess;
  const significand = roundToEven(magnitude / 2 ** (exponent - significandBits));
  // The leading bit of a normal adds 1 to the exponent field; so does rounding up to the next power of two.
  const bits = (exponent + bias - 1) * 2 ** significandBits + significand;
  return sign + Math.min(bits, infinity);
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
