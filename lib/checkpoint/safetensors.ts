import { isUtf8 } from "node:buffer";
import { fail } from "./fail";
import { members, parse, parseString, type Member, type Range } from "./json";
import type { Steps } from "./pace";

// The safetensors format: 8 bytes, the header's length as a little-endian u64; the header, a JSON object; then the
// tensors' bytes, little-endian, one tensor after the other without gaps. The header has for each tensor
// { dtype, shape, data_offsets: [begin, end] }, counted from the end of the header, and may have `__metadata__`, an
// object of strings.

/** The bytes before the header. */
export const PREFIX_BYTES = 8;

/** The limit of other readers of the format. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Levels of nesting: the header, an entry, a shape. */
const MAX_DEPTH = 3;

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
  /** The keys of the tensors that have elements, in the order of their bytes. */
  readonly inOrder: readonly string[];
}

/** The bytes before the tensors, and how many come after them. */
export interface RenderedHeader {
  readonly pieces: readonly Uint8Array[];
  readonly bytes: number;
  readonly dataBytes: number;
}

/** A file that most likely has another format. The message completes "… is not a safetensors file". */
export class ForeignFile extends Error {}

/** The approximate length of a rendered piece. */
const PIECE_LENGTH = 2 ** 16;

/**
 * The bytes before the tensors: prefix and header, padded with spaces to a multiple of 8 bytes.
 *
 * @param tensors keys, dtypes and shapes, in the order of their bytes
 * @param metadata texts in pieces
 * @throws MTAdamError CHECKPOINT where readers of the format would refuse it for its length
 */
export function* renderHeader(
  tensors: Iterable<readonly [key: string, TensorInfo]>,
  metadata: Readonly<Record<string, Iterable<string>>>,
): Steps<RenderedHeader> {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  const pieces: Uint8Array[] = [prefix];
  let length = 0;
  let dataBytes = 0;
  let text = "";
  for (const part of headerParts()) {
    text += part;
    if (text.length >= PIECE_LENGTH) {
      add(text);
      text = "";
      yield undefined;
    }
  }
  add(text);
  add(" ".repeat(-length & (PREFIX_BYTES - 1)));
  prefix.writeBigUInt64LE(BigInt(length));
  return { pieces, bytes: PREFIX_BYTES + length, dataBytes };

  function add(part: string): void {
    const bytes = Buffer.from(part, "utf8");
    pieces.push(bytes);
    length += bytes.length;
    if (length > MAX_HEADER_BYTES) {
      fail(`The header of a checkpoint must have at most ${MAX_HEADER_BYTES} bytes; it would have more.`);
    }
  }

  function* headerParts(): Generator<string, void, void> {
    yield `{"__metadata__":{`;
    let before = "";
    for (const [name, value] of Object.entries(metadata)) {
      yield `${before}${JSON.stringify(name)}:"`;
      before = ",";
      for (const piece of value) yield JSON.stringify(piece).slice(1, -1);
      yield `"`;
    }
    yield "}";
    for (const [key, { dtype, shape }] of tensors) {
      const begin = dataBytes;
      dataBytes += byteLength({ dtype, shape });
      yield `,${JSON.stringify(key)}:{"dtype":"${dtype}","shape":[${shape.join()}],"data_offsets":[${begin},${dataBytes}]}`;
    }
    yield "}";
  }
}

/**
 * The header's length, from the first {@link PREFIX_BYTES} of a file (fewer if the file is shorter).
 *
 * @throws MTAdamError CHECKPOINT unless it is at most `maxBytes`; ForeignFile
 */
export function parsePrefix(prefix: Uint8Array, fileBytes: number, maxBytes: number): number {
  if (prefix.length < PREFIX_BYTES) throw new ForeignFile("; it ends in the first 8 bytes");
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > fileBytes - PREFIX_BYTES)
    throw new ForeignFile(", or is cut short; its header would end after it");
  if (length > maxBytes) {
    fail(`The file must have a header of at most ${maxBytes} bytes; it says ${String(length)}.`);
  }
  return Number(length);
}

/**
 * The header, checked: every tensor's shape and dtype agree with its bytes, and the tensors fill the rest of the file
 * without gap or overlap.
 *
 * @param dataBytes how many bytes follow it in the file
 * @throws MTAdamError CHECKPOINT; ForeignFile
 */
export function* parseHeader(header: Buffer, dataBytes: number): Steps<SafetensorsHeader> {
  // The format wants the brace first; only at the end may there be spaces.
  if (header[0] !== "{".charCodeAt(0) || !isUtf8(header))
    throw new ForeignFile("; its header is not a JSON object");
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorPlace>();
  try {
    for (const member of members(header, { begin: 0, end: header.length }, MAX_DEPTH)) {
      if (member === undefined) yield undefined;
      else if (member.key === "__metadata__") yield* parseMetadata(header, member, metadata);
      else {
        tensors.set(member.key, checkTensor(member.key, parseEntry(header, member)));
        yield undefined;
      }
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    fail(`The file must have a JSON object as its header; ${reasonOf(error)}.`, error);
  }
  return { metadata, tensors, inOrder: yield* checkPlaces(tensors, dataBytes) };
}

/** Why a text is not JSON. The engine's messages quote the text, which may contain line breaks. */
export const reasonOf = ({ message }: SyntaxError): string =>
  message.startsWith("it ") ? message : "it has a syntax error";

function* parseMetadata(header: Buffer, range: Range, metadata: Map<string, string>): Steps<void> {
  if (header[range.begin] !== "{".charCodeAt(0))
    fail("The file must have an object of strings as `__metadata__`.");
  for (const member of members(header, range, MAX_DEPTH - 1)) {
    if (member === undefined) yield undefined;
    else if (header[member.begin] !== '"'.charCodeAt(0))
      fail("The file must have an object of strings as `__metadata__`.");
    else metadata.set(member.key, yield* parseString(header, member));
  }
}

/** Scanned before it is parsed: a long list of small values would take much memory. */
const parseEntry = (header: Buffer, member: Member): unknown =>
  header[member.begin] === "{".charCodeAt(0) ? parse(header, member) : undefined;

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

/** @returns the keys of the tensors that have elements, in the order of their bytes */
function* checkPlaces(tensors: ReadonlyMap<string, TensorPlace>, dataBytes: number): Steps<string[]> {
  // Keys by the offset of the tensor. Sorting the tensors would block the event loop for too long.
  const filled = new Map<number, string>();
  for (const [key, { begin, end }] of tensors) {
    if (begin < end) {
      if (filled.has(begin)) failPlaces();
      filled.set(begin, key);
    }
    yield undefined;
  }
  const inOrder: string[] = [];
  let end = 0;
  for (let key = filled.get(0); key !== undefined; key = filled.get(end)) {
    inOrder.push(key);
    end = tensors.get(key)!.end;
    yield undefined;
  }
  for (const { begin, end: stop } of tensors.values()) {
    // An empty tensor lies between others.
    if (begin === stop && begin !== end && !filled.has(begin)) failPlaces();
  }
  if (inOrder.length !== filled.size) failPlaces();
  if (end !== dataBytes)
    fail(`The file must have ${end} bytes of tensors after its header; it has ${dataBytes}.`);
  return inOrder;
}

function failPlaces(): never {
  fail("The file must have its tensors one after the other, without gap or overlap.");
}

/** The tensor's bytes. NaN, which equals no length, if the elements do not fill whole bytes. */
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
