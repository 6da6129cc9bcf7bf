import { isUtf8 } from "node:buffer";
import { MTAdamError } from "../errors";

// The safetensors format: 8 bytes, the header's length as a little-endian u64; the header, a JSON object; then the
// tensors' bytes, little-endian, one tensor after the other without gaps. The header has for each tensor
// { dtype, shape, data_offsets: [begin, end] }, counted from the end of the header, and may have `__metadata__`, an
// object of strings.

/** The bytes before the header. */
export const PREFIX_BYTES = 8;

/** The limit of other readers of the format. It bounds the memory that reading a file takes. */
const MAX_HEADER_BYTES = 100_000_000;

/** Bits per element, of every dtype that a file may have. */
const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  U16: 16,
  I16: 16,
  F16: 16,
  BF16: 16,
  U32: 32,
  I32: 32,
  F32: 32,
  U64: 64,
  I64: 64,
  F64: 64,
  C64: 64,
} as const;

export type SafetensorsDType = keyof typeof DTYPE_BITS;

export interface TensorInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
}

/** A tensor's bytes in the file: from `begin` up to `end`, counted from the end of the header. */
export interface TensorPlace extends TensorInfo {
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorPlace>;
}

function fail(message: string, cause?: unknown): never {
  throw new MTAdamError("CHECKPOINT", message, cause === undefined ? undefined : { cause });
}

/**
 * The bytes before the tensors: prefix and header, padded with spaces to a multiple of 8 bytes.
 *
 * @param tensors keys, dtypes and shapes, in the order of their bytes
 * @throws MTAdamError CHECKPOINT where readers of the format would refuse it for its length
 */
export function renderHeader(
  tensors: Iterable<readonly [key: string, TensorInfo]>,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const entries: [string, unknown][] = [["__metadata__", metadata]];
  let end = 0;
  for (const [key, { dtype, shape }] of tensors) {
    const begin = end;
    end += byteLength({ dtype, shape });
    entries.push([key, { dtype, shape, data_offsets: [begin, end] }]);
  }
  const text = Buffer.from(JSON.stringify(Object.fromEntries(entries)), "utf8");
  const length = Math.ceil(text.length / PREFIX_BYTES) * PREFIX_BYTES;
  if (length > MAX_HEADER_BYTES) {
    fail(`The header of a checkpoint must have at most ${MAX_HEADER_BYTES} bytes; it would have ${length}.`);
  }
  const bytes = Buffer.alloc(PREFIX_BYTES + length, " ");
  bytes.writeBigUInt64LE(BigInt(length));
  text.copy(bytes, PREFIX_BYTES);
  return bytes;
}

/**
 * The header's length, from the first {@link PREFIX_BYTES} of a file (fewer if the file is shorter).
 *
 * @throws MTAdamError CHECKPOINT unless it fits the file and is no larger than readers of the format accept
 */
export function parsePrefix(prefix: Uint8Array, fileBytes: number): number {
  if (prefix.length < PREFIX_BYTES)
    fail("The file must begin with the length of its header; it ends before.");
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    fail(`The file must have a header of at most ${MAX_HEADER_BYTES} bytes; it says ${String(length)}.`);
  }
  const rest = fileBytes - PREFIX_BYTES;
  if (length > rest)
    fail(`The file must have a header of ${String(length)} bytes, as it says; it ends after ${rest}.`);
  return Number(length);
}

/**
 * The header, checked: every tensor's shape and dtype agree with its bytes, and the tensors fill the rest of the file
 * without gap or overlap.
 *
 * @param dataBytes how many bytes follow it in the file
 * @throws MTAdamError CHECKPOINT
 */
export function parseHeader(header: Uint8Array, dataBytes: number): SafetensorsHeader {
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorPlace>();
  for (const [key, value] of Object.entries(parseObject(header))) {
    if (key === "__metadata__") {
      if (!isObject(value)) fail("The file must have an object of strings as `__metadata__`.");
      for (const [name, text] of Object.entries(value)) {
        if (typeof text !== "string") fail("The file must have an object of strings as `__metadata__`.");
        metadata.set(name, text);
      }
    } else {
      tensors.set(key, checkTensor(key, value));
    }
  }
  checkPlaces(tensors, dataBytes);
  return { metadata, tensors };
}

function parseObject(header: Uint8Array): Record<string, unknown> {
  // The format wants the brace first; only at the end may there be spaces.
  if (header[0] !== "{".charCodeAt(0) || !isUtf8(header))
    fail("The file must have a JSON object as its header.");
  try {
    return JSON.parse(
      Buffer.from(header.buffer, header.byteOffset, header.length).toString("utf8"),
    ) as Record<string, unknown>;
  } catch (error) {
    fail("The file must have a JSON object as its header.", error);
  }
}

function checkTensor(key: string, value: unknown): TensorPlace {
  if (isObject(value)) {
    const { dtype, shape, data_offsets: offsets } = value;
    if (isDType(dtype) && isCounts(shape) && isCounts(offsets) && offsets.length === 2) {
      const [begin, end] = offsets as [number, number];
      if (byteLength({ dtype, shape }) === end - begin) return { dtype, shape, begin, end };
    }
  }
  fail(
    `The file must have a dtype, a shape and offsets that fit them for ${JSON.stringify(key.slice(0, 40))}.`,
  );
}

function checkPlaces(tensors: ReadonlyMap<string, TensorPlace>, dataBytes: number): void {
  // An empty tensor precedes a tensor with the same offset.
  const inOrder = [...tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  for (const place of inOrder) {
    if (place.begin !== end)
      fail("The file must have its tensors one after the other, without gap or overlap.");
    end = place.end;
  }
  if (end !== dataBytes)
    fail(`The file must have ${end} bytes of tensors after its header; it has ${dataBytes}.`);
}

/** NaN where elements do not make whole bytes, which then equals no length. */
function byteLength({ dtype, shape }: TensorInfo): number {
  const bits = shape.reduce((product, size) => product * size, DTYPE_BITS[dtype]);
  return bits % 8 === 0 ? bits / 8 : NaN;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isDType = (value: unknown): value is SafetensorsDType =>
  typeof value === "string" && Object.hasOwn(DTYPE_BITS, value);
const isCounts = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && (size as number) >= 0);
