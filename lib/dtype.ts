import { mustBe, typedArrayName } from "./errors";
import type { AnyTypedArray } from "./native";

/** Element types of a buffer. Parameters and gradients are "float32". */
export type DType = "float32" | "float64" | "float16" | "bfloat16";

/** What holds the elements of a dtype on the host. */
export type HostArray<D extends DType = DType> = D extends "float32"
  ? Float32Array
  : D extends "float64"
    ? Float64Array
    : Uint16Array;

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
  float16: { bytes: 2, array: "Uint16Array", make: (n) => new Uint16Array(n), encode: float16Bits },
  bfloat16: { bytes: 2, array: "Uint16Array", make: (n) => new Uint16Array(n), encode: bfloat16Bits },
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

/** The nearest float16, ties to even, as its 16 bits. */
function float16Bits(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | roundToEven(magnitude * 2 ** 24);
  const exponent = Math.min(15, Math.floor(Math.log2(magnitude)));
  // A log2 that rounds up to the next integer would leave a significand below 1.
  const power = 2 ** exponent > magnitude ? exponent - 1 : exponent;
  // Rounding up to 2048 carries into the exponent, as it should.
  return sign | (((power + 14) << 10) + roundToEven((magnitude / 2 ** power) * 1024));
}

/** The nearest bfloat16, ties to even, as its 16 bits. */
function bfloat16Bits(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  const bits = view.getUint32(0);
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
