import { Buffer } from "node:buffer";
import { MTAdamError, mustBe } from "../errors";
import {
  describeValue,
  isArray,
  isRecord,
  typedArrayBytes,
  typedArrayLength,
  typedArrayName,
} from "../inspect";

// How values cross to Python and back: as JSON, with the elements of arrays behind it. An object with the key "$" stands for
// a value that JSON lacks:
//   ["tensor", dtype, offset in bytes, elements, shape or null]   ["number", "NaN"]   ["bigint", "123"]
//   ["object", its entries], for an object that has the key "$" itself

/** A typed array that PyTorch has a dtype for. */
export type TensorArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Int32Array
  | BigInt64Array;

/** A tensor of more than one dimension. A typed array alone is a tensor of one dimension. */
export interface TensorValue {
  data: TensorArray;
  shape: readonly number[];
}

/** A value that can be passed to Python: plain data and tensors. `undefined` in an object is left out. */
export type PythonValue =
  | null
  | undefined
  | boolean
  | number
  | bigint
  | string
  | TensorArray
  | TensorValue
  | readonly PythonValue[]
  | { readonly [key: string]: PythonValue };

/** Names of torch's dtypes. */
const DTYPES: Readonly<Record<string, string>> = {
  Float16Array: "float16",
  Float32Array: "float32",
  Float64Array: "float64",
  Int8Array: "int8",
  Uint8Array: "uint8",
  Uint8ClampedArray: "uint8",
  Int16Array: "int16",
  Int32Array: "int32",
  BigInt64Array: "int64",
};

type ArrayClass = new (buffer: ArrayBuffer, offset: number, length: number) => TensorArray;

const CLASSES: Readonly<Record<string, ArrayClass>> = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
};

/** Deeper values are taken for ones that contain themselves. */
const DEEPEST = 100;

export const ALIGNMENT = 64;
/** Lengths of a message's JSON (uint32) and of its arrays (uint64), in bytes. */
export const HEAD_BYTES = 12;

export const padded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/**
 * A message in pieces. The pieces of arrays are views: the arrays must not change until they are written.
 *
 * @param message its keys are the names of the values in error messages
 * @throws MTAdamError OPTION, DTYPE, LENGTH
 */
export function encode(message: Readonly<Record<string, unknown>>): Uint8Array[] {
  const encoder = new Encoder();
  const entries = Object.entries(message).map(([key, item]) => [key, encoder.value(key, item, 0) ?? null]);
  const text = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(text.length);
  head.writeBigUInt64LE(BigInt(encoder.bytes), 4);
  return [head, text, ...encoder.pieces];
}

class Encoder {
  readonly pieces: Uint8Array[] = [];
  bytes = 0;

  value(subject: string, value: unknown, depth: number): unknown {
    switch (typeof value) {
      case "string":
      case "boolean":
      case "undefined":
        return value;
      case "number":
        return Number.isFinite(value) && !Object.is(value, -0)
          ? value
          : { $: ["number", Object.is(value, -0) ? "-0" : String(value)] };
      case "bigint":
        return { $: ["bigint", String(value)] };
    }
    if (value === null) return null;
    if (depth > DEEPEST) throw new MTAdamError("OPTION", `\`${subject}\` must not contain itself.`);
    if (typedArrayName(value) !== undefined) return this.#tensor(subject, value as ArrayBufferView, null);
    if (isArray(value)) {
      return Array.from(value, (item, k) => this.value(`${subject}[${k}]`, item, depth + 1) ?? null);
    }
    if (!isRecord(value)) {
      throw mustBe(
        "OPTION",
        subject,
        "be plain data: numbers, strings, typed arrays, lists and objects",
        value,
      );
    }
    const { data, shape, ...others } = value;
    if (typedArrayName(data) !== undefined && isArray(shape) && Object.keys(others).length === 0) {
      return this.#tensor(subject, data as ArrayBufferView, shape);
    }
    const entries = Object.entries(value)
      .map(([key, item]) => [key, this.value(`${subject}.${key}`, item, depth + 1)] as const)
      .filter(([, item]) => item !== undefined);
    return Object.hasOwn(value, "$") ? { $: ["object", entries] } : Object.fromEntries(entries);
  }

  #tensor(subject: string, array: ArrayBufferView, shape: readonly unknown[] | null): unknown {
    const dtype = DTYPES[typedArrayName(array)!];
    if (dtype === undefined) {
      throw mustBe("DTYPE", subject, `be one of ${Object.keys(DTYPES).join(", ")}`, array);
    }
    const length = typedArrayLength(array);
    if (shape !== null) checkShape(subject, shape, length);
    const piece = typedArrayBytes(array);
    const offset = this.bytes;
    const bytes = padded(piece.length);
    this.pieces.push(piece, new Uint8Array(bytes - piece.length));
    this.bytes += bytes;
    return { $: ["tensor", dtype, offset, length, shape] };
  }
}

function checkShape(subject: string, shape: readonly unknown[], length: number): void {
  const isShape = shape.every((size) => Number.isSafeInteger(size) && (size as number) >= 0);
  const product = shape.reduce<number>((left, right) => left * (right as number), 1);
  if (isShape && product === length) return;
  throw new MTAdamError(
    "LENGTH",
    `\`${subject}.shape\` must have the ${length} elements of its data; got [${shape.map(describeValue).join(", ")}].`,
  );
}

/** The value of a message of Python. @param arrays the message's, in memory of their own */
export function decode(value: unknown, arrays: ArrayBuffer): unknown {
  if (isArray(value)) return value.map((item) => decode(item, arrays));
  if (typeof value !== "object" || value === null) return value;
  const { $: special } = value as { $?: [string, ...unknown[]] };
  if (special === undefined) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decode(item, arrays)]));
  }
  switch (special[0]) {
    case "number":
      return Number(special[1]);
    case "bigint":
      return BigInt(special[1] as string);
    case "object":
      return Object.fromEntries(
        (special[1] as [string, unknown][]).map(([key, item]) => [key, decode(item, arrays)]),
      );
  }
  const [, dtype, offset, length, shape] = special as [string, string, number, number, number[]];
  return { data: new CLASSES[dtype]!(arrays, offset, length), shape };
}
