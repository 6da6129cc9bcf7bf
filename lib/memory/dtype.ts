import type { AnyTypedArray } from "../addon/native";
import { mustBe } from "../errors";
import { typedArrayName } from "../inspect";

/** Element types of a buffer. Parameters and gradients are not "float64". */
export type DType = "float32" | "float64" | "float16" | "bfloat16";

/** The typed array that holds elements of a dtype on the host. */
export type HostArray<D extends DType = DType> = D extends "float32"
  ? Float32Array
  : D extends "float64"
    ? Float64Array
    : Uint16Array;

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
  /** The typed array that holds it on the host. */
  array: "Float32Array" | "Float64Array" | "Uint16Array";
  make(length: number): AnyTypedArray;
  /** The value as an element of the host array: itself, or its bits. */
  encode(value: number): number;
}

export const DTYPES: Readonly<Record<DType, DTypeTraits>> = {
  float32: { bytes: 4, array: "Float32Array", make: (n) => new Float32Array(n), encode: (value) => value },
  float64: { bytes: 8, array: "Float64Array", make: (n) => new Float64Array(n), encode: (value) => value },
  float16: {
    bytes: 2,
    array: "Uint16Array",
    make: (n) => new Uint16Array(n),
    encode: (value) => floatBits(value, 5, 10),
  },
  bfloat16: {
    bytes: 2,
    array: "Uint16Array",
    make: (n) => new Uint16Array(n),
    encode: (value) => floatBits(value, 8, 7),
  },
};

export function checkDType(value: unknown): DType {
  if (typeof value === "string" && Object.hasOwn(DTYPES, value)) return value as DType;
  throw mustBe("DTYPE", "dtype", 'be "float32", "float64", "float16" or "bfloat16"', value);
}

/** The array, if it is of the kind that holds `dtype`. */
export function checkHostArray(subject: string, value: unknown, dtype: DType): AnyTypedArray {
  const { array } = DTYPES[dtype];
  if (typedArrayName(value) === array) return value as AnyTypedArray;
  throw mustBe("DTYPE", subject, `be a ${array} (${dtype})`, value);
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
