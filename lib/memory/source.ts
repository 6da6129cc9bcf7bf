import type { NativeSource } from "../addon/native";
import { MTAdamError, mustBe, nameOf, type Named } from "../errors";
import { hasResizableBuffer, isOfAnotherCopy, isRevoked, typedArrayLength, typedArrayName } from "../inspect";
import { arraysOf, holds, nativeArray, type GradientDtype, type HostElements } from "./dtype";
import { isBuffer, isSameMemory, nativeBuffer, type Device, type DeviceBuffer } from "./device";
import { DevicePointer, isPointerLike, readPointer } from "./device-pointer";

/** A tensor's memory on the host, checked. */
export type ArraySource = HostElements<GradientDtype>;

/** A tensor's memory, checked. */
export type Source = ArraySource | DeviceBuffer | DevicePointer;

/**
 * The memory of a tensor of `length` elements of `dtype`, on `device`. Only the form of an address is checked here:
 * native code asks the device whether it owns the address.
 *
 * @param subject the tensor's name in messages
 * @param use "write": the tensor is updated in place
 * @throws MTAdamError LENGTH, DTYPE, OPTION, HOST_POINTER, INVALID_POINTER, DISPOSED
 */
export function checkSource(
  subject: Named,
  value: unknown,
  length: number,
  dtype: GradientDtype,
  device: Device,
  use: "read" | "write" = "read",
): Source {
  if (isBuffer(value)) return checkBuffer(subject, value, length, dtype, device);
  const onHost = device.kind === "cpu";
  if (onHost && holds(typedArrayName(value), dtype)) {
    return checkArray(subject, value as ArraySource, length);
  }
  if (isRevoked(value)) throw mustBe("DTYPE", subject, "be the memory of a tensor", value);
  if (value instanceof DevicePointer || isPointerLike(value)) {
    if (!onHost) return checkPointer(subject, readPointer(subject, value, dtype), length, use);
    throw new MTAdamError(
      "INVALID_POINTER",
      `\`${nameOf(subject)}\` must be ${arraysOf(dtype, "a buffer of the device")}; got a bare pointer, which ` +
        "nothing can vouch for on the CPU.",
    );
  }
  if (onHost)
    throw mustBe(codeOfNoSource(value), subject, `be ${arraysOf(dtype, `a ${dtype} buffer`)}`, value);
  const inHostMemory =
    ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer;
  throw mustBe(
    inHostMemory ? "HOST_POINTER" : codeOfNoSource(value),
    subject,
    "be a buffer of the CUDA device or a pointer into its memory",
    value,
  );
}

/** The code for a value that is not a tensor's memory. Another copy's buffer is memory, but cannot be used. */
export function codeOfNoSource(value: unknown): "INVALID_POINTER" | "DTYPE" {
  return isOfAnotherCopy(value) ? "INVALID_POINTER" : "DTYPE";
}

function checkBuffer(
  subject: Named,
  buffer: DeviceBuffer,
  length: number,
  dtype: GradientDtype,
  device: Device,
): DeviceBuffer {
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
  if (buffer.dtype !== dtype) {
    throw new MTAdamError("DTYPE", `\`${nameOf(subject)}\` must be ${dtype}; got a ${buffer.dtype} buffer.`);
  }
  if (buffer.length !== length) {
    throw new MTAdamError(
      "LENGTH",
      `\`${nameOf(subject)}\` must have ${length} elements; got a buffer of ${buffer.length}.`,
    );
  }
  return buffer;
}

function checkArray(subject: Named, array: ArraySource, length: number): ArraySource {
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
 * Throws if the memory has changed since {@link checkSource}.
 *
 * @param subject its name in messages, called only for an error
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

export function isArraySource(source: Source | null): source is ArraySource {
  return source !== null && !(source instanceof DevicePointer) && !isBuffer(source);
}

export function nativeSource(source: Source): NativeSource {
  if (source instanceof DevicePointer) return source.address;
  if (isBuffer(source)) return nativeBuffer(source);
  return nativeArray(source);
}
