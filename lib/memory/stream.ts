import type { NativeStream } from "../addon/native";
import { MTAdamError } from "../errors";
import { describeValue, isRevoked, propertyOf } from "../inspect";

/**
 * A CUDA stream of the optimizer's device: its handle (a `cudaStream_t`), or an object that has it as `ptr`. It must
 * exist until the calls that are given it have returned, and that of a captured step as long as it is replayed: CUDA cannot
 * tell a handle from any other number.
 */
export type StreamLike = bigint | number | { readonly ptr: bigint | number };

/** An address or a handle as 64 bits; undefined for anything else. */
export function toAddress(value: unknown): bigint | undefined {
  if (typeof value === "bigint") return value >= 0n && value < 2n ** 64n ? value : undefined;
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}

const LEGACY = 1n; // cudaStreamLegacy

/**
 * The handle; null, 0 and cudaStreamLegacy are the default stream.
 *
 * @throws MTAdamError OPTION
 */
export function checkStream(value: unknown): NativeStream {
  if (value === undefined || value === null) return null;
  const isObject = typeof value === "object" && !isRevoked(value);
  const handle = toAddress(isObject ? propertyOf(value, "ptr") : value);
  if (handle !== undefined) return handle === 0n || handle === LEGACY ? null : handle;
  // Not mustBe: a message names no address.
  const got = typeof value === "number" ? "another number" : describeValue(value);
  throw new MTAdamError("OPTION", `\`stream\` must be the handle of a CUDA stream or null; got ${got}.`);
}
