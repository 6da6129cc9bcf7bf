import type { Device } from "./device";
import { isBuffer, nativeBuffer, type DeviceBuffer } from "./device-buffer";
import { mustBe, MTAdamError } from "./errors";
import { hasResizableBuffer, typedArrayLength, typedArrayName } from "./inspect";
import type { NativeSource } from "./native";

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

/** A tensor's memory, checked: what native code reads, and what keeps it alive. */
export type Source = Float32Array | DeviceBuffer;

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
 * The memory of a tensor of `length` elements, on `device`.
 *
 * @param subject the tensor's name in messages
 * @throws MTAdamError LENGTH, DTYPE, INVALID_POINTER, DISPOSED
 */
export function checkSource(subject: string, value: unknown, length: number, device: Device): Source {
  if (isBuffer(value)) return checkBuffer(subject, value, length, device);
  if (typedArrayName(value) === "Float32Array") return checkArray(subject, value as Float32Array, length);
  if (isPointerLike(value)) {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${subject}\` must be a Float32Array or a buffer of the device; got a bare pointer, which nothing can ` +
        "vouch for on the CPU.",
    );
  }
  throw mustBe("DTYPE", subject, "be a Float32Array or a float32 buffer", value);
}

function checkBuffer(subject: string, buffer: DeviceBuffer, length: number, device: Device): DeviceBuffer {
  if (buffer.disposed) {
    throw new MTAdamError("DISPOSED", `\`${subject}\` must be a live buffer; got one that was disposed of.`);
  }
  if (buffer.device !== device) {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${subject}\` must be on the optimizer's device, ${device.kind}; got a buffer of another device.`,
    );
  }
  if (buffer.dtype !== "float32") {
    throw new MTAdamError("DTYPE", `\`${subject}\` must be float32; got a ${buffer.dtype} buffer.`);
  }
  if (buffer.length !== length) {
    throw new MTAdamError(
      "LENGTH",
      `\`${subject}\` must have ${length} elements; got a buffer of ${buffer.length}.`,
    );
  }
  return buffer;
}

function checkArray(subject: string, array: Float32Array, length: number): Float32Array {
  if (hasResizableBuffer(array)) {
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${subject}\` must have a buffer of fixed size; got an array over a resizable one.`,
    );
  }
  if (typedArrayLength(array) !== length) throw mustBe("LENGTH", subject, `have ${length} elements`, array);
  return array;
}

/**
 * Whether the memory is still as {@link checkSource} found it. A cheap look for every step.
 *
 * @param subject its name in messages, asked for only when there is one to write
 * @throws MTAdamError LENGTH, DISPOSED
 */
export function recheckSource(subject: () => string, source: Source, length: number): void {
  if (isBuffer(source)) {
    if (!source.disposed) return;
    throw new MTAdamError(
      "DISPOSED",
      `\`${subject()}\` must be a live buffer; got one that was disposed of.`,
    );
  }
  const now = typedArrayLength(source);
  if (now === length) return;
  throw new MTAdamError(
    "LENGTH",
    `\`${subject()}\` must keep its ${length} elements; got ${now}, since its ArrayBuffer was detached.`,
  );
}

export function nativeSource(source: Source): NativeSource {
  return isBuffer(source) ? nativeBuffer(source) : source;
}
