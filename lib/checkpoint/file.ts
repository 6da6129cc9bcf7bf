import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { MTAdamError } from "../errors";
import { writeAtomically } from "./atomic-file";
import type { ProgressListener } from "./options";
import { checkRegular, type Place } from "./path";
import { describeShape, type StateSource, type TensorRead } from "./reader";
import { checkState, type Restoration } from "./restore";
import {
  parseHeader,
  parsePrefix,
  PREFIX_BYTES,
  renderHeader,
  type SafetensorsDType,
  type SafetensorsHeader,
} from "./safetensors";
import {
  CHUNK_BYTES,
  chunks,
  makeTensor,
  stateMetadata,
  stateTensors,
  type StateOwner,
  type StateTensor,
  type TensorType,
} from "./state";

// A state as a safetensors file, read and written chunk by chunk: neither takes memory of the size of the state, nor
// keeps the event loop for longer than a chunk.

const DTYPES: Readonly<Record<TensorType, SafetensorsDType>> = {
  Float32Array: "F32",
  Float64Array: "F64",
  BigInt64Array: "I64",
  Uint8Array: "U8",
};

/** The entry of the file's metadata that has a state's metadata, as JSON. */
const METADATA_KEY = "mtadam";

/**
 * Writes the state to a file that then replaces the one at `path`. The last report of progress comes when all is on the
 * disk, just before that; until then the old file stands.
 *
 * @throws MTAdamError OPTION, CHECKPOINT (too many tensors for the format), DISPOSED, CUDA; errors of the file system
 */
export async function saveCheckpoint(
  target: Place,
  owner: StateOwner,
  onProgress: ProgressListener,
): Promise<void> {
  const metadata = stateMetadata(owner);
  const tensors = stateTensors(owner);
  const header = renderHeader(
    tensors.map(({ key, type, shape }) => [key, { dtype: DTYPES[type], shape }]),
    { [METADATA_KEY]: JSON.stringify(metadata) },
  );
  const total = tensors.reduce((sum, { length, bytes }) => sum + length * bytes, header.length);
  const buffer = new ArrayBuffer(CHUNK_BYTES);
  await writeAtomically(target, async (file) => {
    await writeAll(file, header);
    let bytes = header.length;
    for (const tensor of tensors) {
      for (const { first, count } of chunks(tensor.length, CHUNK_BYTES / tensor.bytes)) {
        onProgress({ bytes, total });
        const values = makeTensor(tensor.type, count, buffer);
        tensor.read(first, values);
        await writeAll(file, bytesOf(values));
        bytes += values.byteLength;
      }
    }
    await file.sync();
    onProgress({ bytes, total });
  });
}

/** A FIFO that has just taken the file's place is not waited for. */
const READ_ONLY =
  process.platform === "win32" ? constants.O_RDONLY : constants.O_RDONLY | constants.O_NONBLOCK;

/** A checkpoint that is open, its header read and found sound. */
export class CheckpointFile implements StateSource {
  readonly metadata: unknown;
  readonly #file: FileHandle;
  readonly #header: SafetensorsHeader;
  /** Where the tensors begin. */
  readonly #start: number;
  readonly #total: number;
  #bytes: number;

  private constructor(file: FileHandle, header: SafetensorsHeader, start: number, total: number) {
    this.#file = file;
    this.#header = header;
    this.#start = start;
    this.#total = total;
    this.#bytes = start;
    this.metadata = parseMetadata(header);
  }

  /**
   * @throws MTAdamError CHECKPOINT if it is not a file of the format, OPTION if it is not a regular file; errors of the
   * file system
   */
  static async open(place: Place): Promise<CheckpointFile> {
    const file = await open(place.path, READ_ONLY);
    try {
      const stats = await file.stat();
      checkRegular(stats);
      const { size } = stats;
      const prefix = new Uint8Array(PREFIX_BYTES);
      const length = parsePrefix(prefix.subarray(0, await readAll(file, prefix, 0)), size);
      const header = new Uint8Array(length);
      const start = PREFIX_BYTES + length;
      await readWhole(file, header, PREFIX_BYTES);
      return new CheckpointFile(file, parseHeader(header, size - start), start, size);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** @throws MTAdamError CHECKPOINT, as {@link checkState}; errors of the file system */
  check(owner: StateOwner, strict: boolean): Promise<Restoration> {
    return this.#run(checkState(owner, this, strict));
  }

  /**
   * Puts a state that was checked in place.
   *
   * @throws MTAdamError CHECKPOINT where the file has become shorter meanwhile, DISPOSED, CUDA; errors of the file
   * system. The state is then a mixture.
   */
  async restore(restoration: Restoration, onProgress: ProgressListener): Promise<void> {
    await this.#run(restoration.apply(), onProgress);
    // Where not all was wanted, the rest is done, too.
    onProgress({ bytes: this.#total, total: this.#total });
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
    await this.#file.close();
  }

  async #run<T>(reads: Generator<TensorRead, T, void>, onProgress?: ProgressListener): Promise<T> {
    for (;;) {
      const next = reads.next();
      if (next.done === true) return next.value;
      onProgress?.({ bytes: this.#bytes, total: this.#total });
      const { key, first, to } = next.value;
      const { begin } = this.#header.tensors.get(key)!;
      await readWhole(this.#file, bytesOf(to), this.#start + begin + first * to.BYTES_PER_ELEMENT);
      this.#bytes += to.byteLength;
    }
  }
}

/**
 * A listener whose first error is kept until `rethrow`, so that a restore is not interrupted. After an error it is not
 * called again.
 */
export function deferErrors(listener: ProgressListener | undefined): {
  report: ProgressListener;
  rethrow: () => void;
} {
  const errors: unknown[] = [];
  return {
    report(progress) {
      if (errors.length > 0) return;
      try {
        listener?.(progress);
      } catch (error) {
        errors.push(error);
      }
    },
    rethrow() {
      if (errors.length > 0) throw errors[0];
    },
  };
}

function parseMetadata({ metadata }: SafetensorsHeader): unknown {
  const text = metadata.get(METADATA_KEY);
  if (text === undefined) {
    throw new MTAdamError(
      "CHECKPOINT",
      `The file must have \`${METADATA_KEY}\` in its metadata; it has none.`,
    );
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new MTAdamError("CHECKPOINT", `The file must have JSON as \`${METADATA_KEY}\`.`, { cause });
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: StateTensor): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** Appends all of `bytes`. */
async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done);
    done += bytesWritten;
  }
}

/** Fills `bytes` from `position` on, as far as the file goes. @returns how many there were */
async function readAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** The same for bytes that the file is known to have. @throws MTAdamError CHECKPOINT if it was shortened since */
async function readWhole(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  if ((await readAll(file, bytes, position)) === bytes.length) return;
  throw new MTAdamError("CHECKPOINT", "The file must stay as it is while it is read; it has become shorter.");
}
