import { isSameMemory, type Device } from "./device";
import { isBuffer, nativeBuffer, type DeviceBuffer } from "./device-buffer";
import { mustBe, MTAdamError, nameOf, type Named } from "./errors";
import { describeValue, hasResizableBuffer, isArray, typedArrayLength, typedArrayName } from "./inspect";
import type { NativeSource } from "./native";
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
  /** Elements, where the form says. */
  readonly length: number | undefined;
  readonly readOnly: boolean;
  /** What supplied the address: alive for as long as this is. */
  readonly supplier: unknown;

  constructor(supplier: unknown, address: bigint, length: number | undefined, readOnly = false) {
    this.supplier = supplier;
    this.address = address;
    this.length = length;
    this.readOnly = readOnly;
  }
}

/** A tensor's memory, checked: what native code reads, and what keeps it alive. */
export type Source = Float32Array | DeviceBuffer | DevicePointer;

const ELEMENT_BYTES = 4; // float32

/** Whether `value` has one of the forms of {@link DevicePointerLike} (which says nothing about the address). */
export function isPointerLike(value: unknown): boolean {
  if (typeof value === "bigint" || typeof value === "number") return true;
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return false;
  try {
    if ("ptr" in value || "__cuda_array_interface__" in value) return true;
    const buffer = "buffer" in value ? value.buffer : undefined;
    return typeof buffer === "object" && buffer !== null && "ptr" in buffer;
  } catch {
    return false; // a revoked proxy, a prototype: whatever it is, it is no pointer
  }
}

/**
 * The address that a {@link DevicePointerLike} stands for; nothing is known of it yet. Each property is read once.
 *
 * @throws MTAdamError INVALID_POINTER, LENGTH, DTYPE, OPTION
 */
export function readPointer(subject: Named, value: unknown): DevicePointer {
  if (value instanceof DevicePointer) return value;
  if (typeof value !== "object" || value === null) {
    return new DevicePointer(undefined, checkAddress(subject, value), undefined);
  }
  const form = value as Record<string, unknown>;
  const { buffer } = form;
  if (typeof buffer === "object" && buffer !== null && "ptr" in buffer) {
    return readView(subject, value, buffer.ptr, form);
  }
  if ("ptr" in form) return readView(subject, value, form["ptr"], form);
  return readArrayInterface(subject, value, form["__cuda_array_interface__"]);
}

function checkAddress(subject: Named, value: unknown): bigint {
  const address = toAddress(value);
  if (address === undefined) {
    // Not mustBe: a message names no address.
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must be an address: a bigint, or a number that is a safe integer, from 0 to 2**64 − 1; ` +
        `got ${typeof value === "number" ? "another number" : describeValue(value)}.`,
    );
  }
  if (address % BigInt(ELEMENT_BYTES) !== 0n) {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must begin at a multiple of ${ELEMENT_BYTES} bytes; got an address that does not.`,
    );
  }
  return address;
}

/** ptr + byteOffset, and where it is given byteLength. */
function readView(
  subject: Named,
  supplier: object,
  ptr: unknown,
  { byteOffset = 0, byteLength }: Record<string, unknown>,
): DevicePointer {
  const base = toAddress(ptr);
  const offset = checkBytes(subject, "byteOffset", byteOffset);
  const bytes = byteLength === undefined ? undefined : checkBytes(subject, "byteLength", byteLength);
  if (bytes !== undefined && bytes % ELEMENT_BYTES !== 0) {
    throw mustBe("LENGTH", `${nameOf(subject)}.byteLength`, `be a multiple of ${ELEMENT_BYTES}`, bytes);
  }
  const address = checkAddress(subject, base === undefined ? ptr : base + BigInt(offset));
  return new DevicePointer(supplier, address, bytes === undefined ? undefined : bytes / ELEMENT_BYTES);
}

function checkBytes(subject: Named, property: string, value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw mustBe("LENGTH", `${nameOf(subject)}.${property}`, "be a whole number of bytes", value);
}

/** The CUDA array interface, version 3, as plain data. Its `stream` is the user's to wait for. */
function readArrayInterface(subject: Named, supplier: object, value: unknown): DevicePointer {
  const what = `${nameOf(subject)}.__cuda_array_interface__`;
  if (typeof value !== "object" || value === null) throw mustBe("OPTION", what, "be an object", value);
  const { shape, typestr, data, strides, mask } = value as Record<string, unknown>;
  if (typestr !== "<f4") throw mustBe("DTYPE", `${what}.typestr`, 'be "<f4" (float32)', typestr);
  if (!isArray(data) || data.length !== 2) {
    throw mustBe("OPTION", `${what}.data`, "be an address and whether it is read-only", data);
  }
  if (mask !== undefined && mask !== null) throw mustBe("OPTION", `${what}.mask`, "be null", mask);
  const dimensions = checkDimensions(`${what}.shape`, shape);
  if (strides !== undefined && strides !== null) checkContiguous(`${what}.strides`, strides, dimensions);
  const length = dimensions.reduce((product, dimension) => product * dimension, 1);
  return new DevicePointer(supplier, checkAddress(subject, data[0]), length, data[1] === true);
}

const MAX_DIMENSIONS = 64;

/** The dimensions of a tensor. @throws MTAdamError OPTION */
export function checkDimensions(subject: Named, shape: unknown): number[] {
  const dimensions = isArray(shape) && shape.length <= MAX_DIMENSIONS ? [...shape] : undefined;
  const isDimension = (value: unknown): value is number =>
    Number.isSafeInteger(value) && (value as number) >= 0;
  if (dimensions?.every(isDimension) === true) return dimensions;
  throw mustBe("OPTION", subject, "be a list of whole numbers", shape);
}

function checkContiguous(subject: Named, strides: unknown, dimensions: readonly number[]): void {
  const given = isArray(strides) ? strides : [];
  let expected = ELEMENT_BYTES;
  let contiguous = given.length === dimensions.length;
  for (let k = dimensions.length - 1; k >= 0; --k) {
    // A dimension of one is never stepped along.
    contiguous &&= given[k] === expected || dimensions[k] === 1;
    expected *= dimensions[k]!;
  }
  if (contiguous || dimensions.includes(0)) return;
  throw mustBe("OPTION", subject, "be those of a C-contiguous array", strides);
}

/**
 * The memory of a tensor of `length` elements, on `device`. An address is only checked for its form: whether the
 * device owns it, native code asks when it is told of it.
 *
 * @param subject the tensor's name in messages
 * @param use "write": the tensor is updated in place
 * @throws MTAdamError LENGTH, DTYPE, OPTION, HOST_POINTER, INVALID_POINTER, DISPOSED
 */
export function checkSource(
  subject: Named,
  value: unknown,
  length: number,
  device: Device,
  use: "read" | "write" = "read",
): Source {
  if (isBuffer(value)) return checkBuffer(subject, value, length, device);
  const onHost = device.kind === "cpu";
  if (onHost && typedArrayName(value) === "Float32Array") {
    return checkArray(subject, value as Float32Array, length);
  }
  if (value instanceof DevicePointer || isPointerLike(value)) {
    if (!onHost) return checkPointer(subject, readPointer(subject, value), length, use);
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must be a Float32Array or a buffer of the device; got a bare pointer, which nothing can ` +
        "vouch for on the CPU.",
    );
  }
  if (onHost) throw mustBe("DTYPE", subject, "be a Float32Array or a float32 buffer", value);
  const inHostMemory =
    ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer;
  throw mustBe(
    inHostMemory ? "HOST_POINTER" : "DTYPE",
    subject,
    "be a buffer of the CUDA device or a pointer into its memory",
    value,
  );
}

function checkBuffer(subject: Named, buffer: DeviceBuffer, length: number, device: Device): DeviceBuffer {
  if (buffer.disposed) {
    throw new MTAdamError(
      "DISPOSED",
      `\`${nameOf(subject)}\` must be a live buffer; got one that was disposed of.`,
    );
  }
  if (!isSameMemory(buffer.device, device)) {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must be on the optimizer's device, ${device.kind}; got a buffer of another device.`,
    );
  }
  if (buffer.dtype !== "float32") {
    throw new MTAdamError("DTYPE", `\`${nameOf(subject)}\` must be float32; got a ${buffer.dtype} buffer.`);
  }
  if (buffer.length !== length) {
    throw new MTAdamError(
      "LENGTH",
      `\`${nameOf(subject)}\` must have ${length} elements; got a buffer of ${buffer.length}.`,
    );
  }
  return buffer;
}

function checkArray(subject: Named, array: Float32Array, length: number): Float32Array {
  if (hasResizableBuffer(array)) {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must have a buffer of fixed size; got an array over a resizable one.`,
    );
  }
  if (typedArrayLength(array) !== length) throw mustBe("LENGTH", subject, `have ${length} elements`, array);
  return array;
}

function checkPointer(
  subject: Named,
  pointer: DevicePointer,
  length: number,
  use: "read" | "write",
): DevicePointer {
  if (pointer.length !== undefined && pointer.length !== length) {
    throw new MTAdamError(
      "LENGTH",
      `\`${nameOf(subject)}\` must have ${length} elements; got memory of ${pointer.length}.`,
    );
  }
  if (pointer.readOnly && use === "write") {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must be writable, since it is updated in place; got read-only memory.`,
    );
  }
  return pointer;
}

/**
 * Throws where the memory is no longer as {@link checkSource} found it.
 *
 * @param subject its name in messages, asked for only when there is one to write
 * @throws MTAdamError LENGTH, DISPOSED
 */
export function recheckSource(subject: Named, source: Source, length: number): void {
  if (source instanceof DevicePointer) return;
  if (isBuffer(source)) {
    if (!source.disposed) return;
    throw new MTAdamError(
      "DISPOSED",
      `\`${nameOf(subject)}\` must be a live buffer; got one that was disposed of.`,
    );
  }
  if (typedArrayLength(source) === length) return;
  throw new MTAdamError(
    "LENGTH",
    `\`${nameOf(subject)}\` must keep its ${length} elements; got ${typedArrayLength(source)}, since its ArrayBuffer was detached.`,
  );
}

export function isArraySource(source: Source | null): source is Float32Array {
  return source !== null && !(source instanceof DevicePointer) && !isBuffer(source);
}

export function nativeSource(source: Source): NativeSource {
  if (source instanceof DevicePointer) return source.address;
  return isBuffer(source) ? nativeBuffer(source) : source;
}
