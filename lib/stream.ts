import { mustBe } from "./errors";
import type { NativeStream } from "./native";

/**
 * A CUDA stream of the optimizer's device: its handle (a `cudaStream_t`), or an object that has it as `ptr`. It must
 * exist for as long as calls that were given it have not completed: CUDA cannot tell a handle from any other number.
 */
export type StreamLike = bigint | number | { readonly ptr: bigint | number };

/** A number of 64 bits, such as an address or a handle; undefined for anything else. */
export function toAddress(value: unknown): bigint | undefined {
  if (typeof value === "bigint") return value >= 0n && value < 2n ** 64n ? value : undefined;
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}

/**
 * The handle; null and 0 are the default stream.
 *
 * @throws MTAdamError OPTION
 */
export function checkStream(value: unknown): NativeStream {
  if (value === undefined || value === null) return null;
  const handle = toAddress(typeof value === "object" && "ptr" in value ? value.ptr : value);
  if (handle === undefined) throw mustBe("OPTION", "stream", "be the handle of a CUDA stream or null", value);
  return handle === 0n ? null : handle;
}
