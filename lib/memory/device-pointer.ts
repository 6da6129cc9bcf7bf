import { mustBe, MTAdamError, nameOf, type Named } from "../errors";
import { describeValue, isArray, isOfAnotherCopy, ownEntries, propertyOf } from "../inspect";
import { DTYPES, type GradientDtype } from "./dtype";
import { toAddress } from "./stream";

/** An address in device memory, in the forms that the Node packages which hand them out use. */
export type DevicePointerLike =
  | bigint
  | number
  | { readonly ptr: bigint | number; readonly byteOffset?: number; readonly byteLength?: number }
  | {
      readonly buffer: { readonly ptr: bigint | number };
      readonly byteOffset: number;
      readonly byteLength: number;
    }
  | { readonly __cuda_array_interface__: object };

/** Borrowed memory of a CUDA device. */
export class DevicePointer {
  readonly address: bigint;
  /** In elements; undefined where the form does not give it. */
  readonly length: number | undefined;
  readonly readOnly: boolean;
  /** The object that supplied the address, kept alive. */
  readonly supplier: unknown;

  constructor(supplier: unknown, address: bigint, length: number | undefined, readOnly = false) {
    this.supplier = supplier;
    this.address = address;
    this.length = length;
    this.readOnly = readOnly;
  }
}

/** What the CUDA array interface calls them; NumPy has no bfloat16, and other libraries pass its 2 bytes so. */
const TYPE_STRINGS: Readonly<Record<GradientDtype, string>> = {
  float32: "<f4",
  float16: "<f2",
  bfloat16: "<V2",
};

/** Whether `value` has one of the forms of {@link DevicePointerLike} (the address itself is not checked). */
export function isPointerLike(value: unknown): boolean {
  if (typeof value === "bigint" || typeof value === "number") return true;
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return false;
  // Another copy's buffer has `ptr`, but this copy would not notice its disposal.
  if (isOfAnotherCopy(value)) return false;
  try {
    if (has(value, "ptr") || has(value, "__cuda_array_interface__")) return true;
    const buffer = propertyOf(value, "buffer");
    return typeof buffer === "object" && buffer !== null && has(buffer, "ptr");
  } catch {
    return false; // a revoked proxy or a prototype
  }
}

/** Like `in`, but without the properties that {@link propertyOf} ignores. */
function has(object: object, key: string): boolean {
  return key in object && (!(key in Object.prototype) || Object.hasOwn(object, key));
}

/**
 * The address that a {@link DevicePointerLike} stands for, of elements of `dtype`, not checked yet. Each property is read
 * once.
 *
 * @throws MTAdamError INVALID_POINTER, LENGTH, DTYPE, OPTION
 */
export function readPointer(subject: Named, value: unknown, dtype: GradientDtype = "float32"): DevicePointer {
  if (value instanceof DevicePointer) return value;
  if (typeof value !== "object" || value === null) {
    return new DevicePointer(undefined, checkAddress(subject, value, dtype), undefined);
  }
  const buffer = propertyOf(value, "buffer");
  if (typeof buffer === "object" && buffer !== null && has(buffer, "ptr")) {
    return readView(subject, value, propertyOf(buffer, "ptr"), dtype);
  }
  if (has(value, "ptr")) return readView(subject, value, propertyOf(value, "ptr"), dtype);
  return readArrayInterface(subject, value, propertyOf(value, "__cuda_array_interface__"), dtype);
}

function checkAddress(subject: Named, value: unknown, dtype: GradientDtype): bigint {
  const address = toAddress(value);
  if (address === undefined) {
    // Not mustBe: a message names no address.
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must be an address: a bigint, or a number that is a safe integer, from 0 to 2**64 − 1; ` +
        `got ${typeof value === "number" ? "another number" : describeValue(value)}.`,
    );
  }
  const { bytes } = DTYPES[dtype];
  if (address % BigInt(bytes) !== 0n) {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must begin at a multiple of ${bytes} bytes; got an address that does not.`,
    );
  }
  return address;
}

/** ptr + byteOffset, and byteLength if it is given. */
function readView(subject: Named, supplier: object, ptr: unknown, dtype: GradientDtype): DevicePointer {
  const byteOffset = propertyOf(supplier, "byteOffset") ?? 0;
  const byteLength = propertyOf(supplier, "byteLength");
  const base = toAddress(ptr);
  const offset = checkBytes(subject, "byteOffset", byteOffset);
  const bytes = byteLength === undefined ? undefined : checkBytes(subject, "byteLength", byteLength);
  const element = DTYPES[dtype].bytes;
  if (bytes !== undefined && bytes % element !== 0) {
    throw mustBe("LENGTH", `${nameOf(subject)}.byteLength`, `be a multiple of ${element}`, bytes);
  }
  const address = checkAddress(subject, base === undefined ? ptr : base + BigInt(offset), dtype);
  return new DevicePointer(supplier, address, bytes === undefined ? undefined : bytes / element);
}

function checkBytes(subject: Named, property: string, value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw mustBe("LENGTH", `${nameOf(subject)}.${property}`, "be a whole number of bytes", value);
}

/** The CUDA array interface, version 3, as plain data. The user must wait for its `stream`. */
function readArrayInterface(
  subject: Named,
  supplier: object,
  value: unknown,
  dtype: GradientDtype,
): DevicePointer {
  const what = `${nameOf(subject)}.__cuda_array_interface__`;
  if (typeof value !== "object" || value === null) throw mustBe("OPTION", what, "be an object", value);
  const [shape, typestr, data] = ["shape", "typestr", "data"].map((key) => propertyOf(value, key));
  const [strides, mask] = ["strides", "mask"].map((key) => propertyOf(value, key));
  const expected = TYPE_STRINGS[dtype];
  if (typestr !== expected) throw mustBe("DTYPE", `${what}.typestr`, `be "${expected}" (${dtype})`, typestr);
  if (!isArray(data) || data.length !== 2) {
    throw mustBe("OPTION", `${what}.data`, "be an address and whether it is read-only", data);
  }
  if (mask !== undefined && mask !== null) throw mustBe("OPTION", `${what}.mask`, "be null", mask);
  const dimensions = checkDimensions(`${what}.shape`, shape);
  if (strides !== undefined && strides !== null) {
    checkContiguous(`${what}.strides`, strides, dimensions, DTYPES[dtype].bytes);
  }
  return new DevicePointer(
    supplier,
    checkAddress(subject, data[0], dtype),
    elementsOf(dimensions),
    data[1] === true,
  );
}

const MAX_DIMENSIONS = 64;

/** The number of elements of a tensor. */
export function elementsOf(dimensions: readonly number[]): number {
  return dimensions.reduce((product, dimension) => product * dimension, 1);
}

/** The dimensions of a tensor. @throws MTAdamError OPTION */
export function checkDimensions(subject: Named, shape: unknown): number[] {
  const dimensions = isArray(shape) && shape.length <= MAX_DIMENSIONS ? ownEntries(shape) : undefined;
  const isDimension = (value: unknown): value is number =>
    Number.isSafeInteger(value) && (value as number) >= 0;
  if (dimensions?.every(isDimension) === true) return dimensions;
  throw mustBe("OPTION", subject, "be a list of whole numbers", shape);
}

function checkContiguous(
  subject: Named,
  strides: unknown,
  dimensions: readonly number[],
  element: number,
): void {
  const given = isArray(strides) ? strides : [];
  let expected = element;
  let contiguous = given.length === dimensions.length;
  for (let k = dimensions.length - 1; k >= 0; --k) {
    // The stride of a dimension of 1 is never used.
    contiguous &&= given[k] === expected || dimensions[k] === 1;
    expected *= dimensions[k]!;
  }
  if (contiguous || dimensions.includes(0)) return;
  throw mustBe("OPTION", subject, "be those of a C-contiguous array", strides);
}
