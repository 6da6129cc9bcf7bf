import type { Hash } from "node:crypto";
import { constants, type BigIntStats } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { MTAdamError } from "../errors";
import { typedArrayBytes } from "../inspect";
import { writeAtomically, type Writer } from "./atomic-file";
import { ChunkReader, ChunkWriter, readUpTo, readWhole } from "./chunked-file";
import { parseObject, renderObject } from "./json";
import type { CheckpointProgress, ProgressListener } from "./options";
import { Pace, type Steps } from "./pace";
import { checkRegular, type Place } from "./path";
import { describeShape, type Reading, type StateSource, type TensorRead } from "./reader";
import { checkState, propagates, type Restoration } from "./restore";
import {
  ForeignFile,
  MAX_HEADER_BYTES,
  parseHeader,
  parsePrefix,
  PREFIX_BYTES,
  reasonOf,
  renderHeader,
  type RenderedHeader,
  type SafetensorsDType,
  type SafetensorsHeader,
  type TensorInfo,
} from "./safetensors";
import {
  makeTensor,
  planes,
  stateMetadata,
  stateTensors,
  type SavedTensor,
  type StateOwner,
  type TensorType,
} from "./state";

// A state as a safetensors file, read and written chunk by chunk: this needs no memory of the state's size and never
// blocks the event loop for long, even with many tensors.

const DTYPES: Readonly<Record<TensorType, SafetensorsDType>> = {
  Float32Array: "F32",
  Float64Array: "F64",
  BigInt64Array: "I64",
  Uint16Array: "BF16",
  Uint8Array: "U8",
};

/** The entry of the file's metadata that has a state's metadata, as JSON. */
const METADATA_KEY = "mtadam";

/** The metadata, a list of it, an entry, a shape. */
const METADATA_DEPTH = 4;

/**
 * Writes the state to a new file, which then replaces the one at `target`. The last progress report comes just before
 * the replacement, when all bytes are on the disk.
 *
 * @param writer where the bytes go
 * @throws MTAdamError OPTION, CHECKPOINT (too many tensors for the format), DISPOSED, CUDA; errors of the file system
 */
export async function saveCheckpoint(
  target: Place,
  owner: StateOwner,
  onProgress: (progress: CheckpointProgress) => Promise<void>,
  writer: Writer = writeAtomically,
): Promise<void> {
  const pace = new Pace();
  const { tensors, header } = await renderState(owner, pace);
  const total = header.bytes + header.dataBytes;
  await writer(target, async (file) => {
    const chunks = new ChunkWriter(file, (bytes) => onProgress({ bytes, total }));
    for (const piece of header.pieces) await chunks.append(piece);
    for (const tensor of tensors) {
      await appendElements(chunks, tensor, { first: 0, end: tensor.length, own: false });
      const rest = pace.rest();
      if (rest !== undefined) await rest;
    }
    await chunks.flush();
    await file.sync();
    await onProgress({ bytes: total, total });
  });
}

/** Appends a range of a tensor's elements. `own`: without the other ranks. @throws MTAdamError DISPOSED, CUDA */
export async function appendElements(
  chunks: ChunkWriter,
  tensor: SavedTensor,
  { first, end, own }: { first: number; end: number; own: boolean },
): Promise<void> {
  for (let next = first; next < end;) {
    if (chunks.room === 0) await chunks.flush();
    const count = Math.min(end - next, chunks.room / tensor.bytes);
    const { buffer, byteOffset } = chunks.take(count * tensor.bytes);
    const to = makeTensor(tensor.type, count, buffer, byteOffset);
    if (own && tensor.readOwn !== undefined) tensor.readOwn(next, to);
    else tensor.read(next, to);
    next += count;
  }
}

/** The tensors of a state, and the header of its file. @throws MTAdamError CHECKPOINT, DISPOSED, CUDA */
export async function renderState(
  owner: StateOwner,
  pace: Pace,
): Promise<{ tensors: Iterable<SavedTensor>; header: RenderedHeader }> {
  const metadata = await pace.run(stateMetadata(owner));
  const tensors = stateTensors(owner);
  const header = await pace.run(
    renderHeader(headerEntries(tensors), { [METADATA_KEY]: renderObject(metadata) }),
  );
  return { tensors, header };
}

function* headerEntries(tensors: Iterable<SavedTensor>): Generator<[string, TensorInfo], void, void> {
  for (const { key, type, shape } of tensors) yield [key, { dtype: DTYPES[type], shape }];
}

/** Does not block if a FIFO has just taken the file's place. */
const READ_ONLY =
  process.platform === "win32" ? constants.O_RDONLY : constants.O_RDONLY | constants.O_NONBLOCK;

/** An open checkpoint whose header has been read and checked. */
export class CheckpointFile implements StateSource {
  readonly metadata: unknown;
  readonly #opened: OpenedFile;
  readonly #chunks: ChunkReader;
  readonly #pace: Pace;
  readonly #finish: () => Promise<void>;
  /** Bytes of tensors read, by the check and by the restoration. */
  #read = 0;

  private constructor(
    opened: OpenedFile,
    metadata: unknown,
    pace: Pace,
    onProgress: (progress: CheckpointProgress) => Promise<void>,
  ) {
    const { file, size } = opened;
    this.#opened = opened;
    this.#pace = pace;
    this.metadata = metadata;
    this.#chunks = new ChunkReader(file, size, () =>
      onProgress({ bytes: Math.floor(this.#read / 2), total: size }),
    );
    this.#finish = () => onProgress({ bytes: size, total: size });
  }

  /**
   * @param maxHeaderBytes a longer header is refused
   * @throws MTAdamError CHECKPOINT if it is not a file of the format, OPTION if it is not a regular file; errors of the
   * file system
   */
  static async open(
    place: Place,
    maxHeaderBytes: number,
    onProgress: (progress: CheckpointProgress) => Promise<void>,
  ): Promise<CheckpointFile> {
    const pace = new Pace();
    const opened = await openSafetensors(place, pace, maxHeaderBytes);
    try {
      const metadata = await pace.run(parseMetadata(opened.header));
      return new CheckpointFile(opened, metadata, pace, onProgress);
    } catch (error) {
      await opened.file.close();
      throw error;
    }
  }

  /**
   * @param hash gets the metadata, and the records per term and layer or parameter
   * @throws MTAdamError as {@link checkState}; errors of the file system
   */
  check(owner: StateOwner, strict: boolean, hash?: Hash): Promise<Restoration> {
    hash?.update(this.#header.metadata.get(METADATA_KEY)!);
    const reading = checkState(owner, this, { strict, propagates: propagates(owner) });
    return this.#run(reading, ({ key, to }) => {
      // The keys of moments and masters have a dot. Hashing those would take as long as reading them.
      if (!key.includes(".")) hash?.update(key).update(typedArrayBytes(to));
    });
  }

  /**
   * Writes a checked state into the optimizer.
   *
   * @throws MTAdamError CHECKPOINT where the file has changed meanwhile, DISPOSED, CUDA; errors of the file system. The
   * state is then inconsistent.
   */
  async restore(restoration: Restoration): Promise<void> {
    await this.#run(restoration.apply());
    // Tensors that were not needed count as done, too.
    await this.#finish();
  }

  keys(): Iterable<string> {
    return this.#header.inOrder;
  }

  has(key: string, type: TensorType, shape: readonly number[]): boolean {
    const tensor = this.#header.tensors.get(key);
    return tensor?.dtype === DTYPES[type] && tensor.shape.join() === shape.join();
  }

  lacks(key: string): boolean {
    return !this.#header.tensors.has(key);
  }

  describe(key: string): string {
    const tensor = this.#header.tensors.get(key);
    return tensor === undefined ? "none" : `${tensor.dtype} of ${describeShape(tensor.shape)}`;
  }

  async close(): Promise<void> {
    await this.#opened.file.close();
  }

  get #header(): SafetensorsHeader {
    return this.#opened.header;
  }

  async #run<T>(reading: Reading<T>, onRead: (read: TensorRead) => void = () => undefined): Promise<T> {
    for (;;) {
      const next = reading.next();
      if (next.done === true) {
        // The records come from a first reading and the moments from a second: of two contents they would be a mixture.
        await checkUnchanged(this.#opened);
        return next.value;
      }
      if (next.value !== undefined) {
        const { key, first, to } = next.value;
        const { begin } = this.#header.tensors.get(key)!;
        const position = this.#opened.start + begin + first * to.BYTES_PER_ELEMENT;
        const pending = this.#chunks.read(typedArrayBytes(to), position);
        if (pending !== undefined) await pending;
        this.#read += to.byteLength;
        onRead(next.value);
      }
      const rest = this.#pace.rest();
      if (rest !== undefined) await rest;
    }
  }
}

/** An open file and its header, checked. */
export interface OpenedFile {
  readonly file: FileHandle;
  readonly header: SafetensorsHeader;
  /** Where the tensors begin. */
  readonly start: number;
  readonly size: number;
  /** What a write to the file changes. */
  readonly version: Pick<BigIntStats, "size" | "mtimeNs">;
}

/**
 * Opens a safetensors file for reading.
 *
 * @param maxHeaderBytes a longer header is refused
 * @throws MTAdamError CHECKPOINT if it is not a file of the format, OPTION if it is not a regular file; errors of the
 * file system
 */
export async function openSafetensors(place: Place, pace: Pace, maxHeaderBytes: number): Promise<OpenedFile> {
  const file = await open(place.path, READ_ONLY);
  try {
    const version = await file.stat({ bigint: true });
    checkRegular(version);
    const size = Number(version.size);
    const prefix = new Uint8Array(PREFIX_BYTES);
    const length = parsePrefix(prefix.subarray(0, await readUpTo(file, prefix, 0)), size, maxHeaderBytes);
    const bytes = Buffer.alloc(length);
    const start = PREFIX_BYTES + length;
    await readWhole(file, bytes, PREFIX_BYTES);
    return { file, header: await pace.run(parseHeader(bytes, size - start)), start, size, version };
  } catch (error) {
    await file.close();
    if (!(error instanceof ForeignFile)) throw error;
    const path = JSON.stringify(String(place.path));
    throw new MTAdamError("CHECKPOINT", `${path} is not a safetensors file${error.message}.`);
  }
}

/** Called when a file has been read. @throws MTAdamError CHECKPOINT where it has been written to since it was opened */
export async function checkUnchanged({ file, version }: OpenedFile): Promise<void> {
  const { size, mtimeNs } = await file.stat({ bigint: true });
  if (size === version.size && mtimeNs === version.mtimeNs) return;
  throw new MTAdamError(
    "CHECKPOINT",
    "The file must stay as it is while it is read; it has been written to.",
  );
}

/**
 * The longest header that is accepted for this optimizer: twice the longest that it can write, since other tools that
 * rewrite a checkpoint may add spaces, escapes and tensors. Without `strict`, the file may belong to a larger
 * optimizer.
 */
export function maxHeaderBytes(owner: StateOwner, strict: boolean): number {
  const bytes = 2 * ownHeaderBytes(owner) + 2 ** 20;
  return Math.min(strict ? bytes : Math.max(bytes, 2 ** 24), MAX_HEADER_BYTES);
}

/** An upper bound of the header's length. */
function ownHeaderBytes({ options, terms, parameters, layers, groups }: StateOwner): number {
  const { own, shared } = planes(options);
  // With 8 bits, each has exponents. The last is a master.
  const moments = 2 * (terms.length * own.length + shared.length) + 1;
  // A number has up to 16 digits. In JSON in JSON a character takes up to 7 bytes.
  const NUMBER = 17;
  const text = (value: string): number => 10 + 7 * value.length;
  let bytes = 2048 + 512 * groups.length + text(options.anchor);
  for (const name of [...terms, ...layers]) bytes += text(name) + 32;
  for (const { name, shape, layer } of parameters) {
    const dimensions = NUMBER * shape.length;
    bytes += 128 + text(name) + text(layers[layer] ?? name) + dimensions;
    bytes += moments * (128 + dimensions);
  }
  return bytes;
}

/**
 * A listener whose first error is kept until `rethrow`, so that a restore is not interrupted. After an error it is not
 * called again.
 */
export function deferErrors(listener: ProgressListener | undefined): {
  report: (progress: CheckpointProgress) => Promise<void>;
  rethrow: () => void;
} {
  const errors: unknown[] = [];
  return {
    async report(progress) {
      if (errors.length > 0) return;
      try {
        await listener?.(progress);
      } catch (error) {
        errors.push(error);
      }
    },
    rethrow() {
      if (errors.length > 0) throw errors[0];
    },
  };
}

function* parseMetadata({ metadata, tensors }: SafetensorsHeader): Steps<unknown> {
  const text = metadata.get(METADATA_KEY);
  if (text === undefined) {
    throw new MTAdamError(
      "CHECKPOINT",
      `The file must have \`${METADATA_KEY}\` in its metadata; it has none.`,
    );
  }
  try {
    // Every term and every parameter has tensors of its own; groups may be empty.
    return yield* parseObject(Buffer.from(text, "utf8"), {
      depth: METADATA_DEPTH,
      elements: tensors.size + MAX_EMPTY_GROUPS,
    });
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new MTAdamError(
      "CHECKPOINT",
      `The file must have a JSON object as \`${METADATA_KEY}\`; ${reasonOf(cause)}.`,
      { cause },
    );
  }
}

const MAX_EMPTY_GROUPS = 65536;
