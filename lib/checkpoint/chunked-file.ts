import type { FileHandle } from "node:fs/promises";
import { MTAdamError } from "../errors";
import type { WritableFile } from "./atomic-file";
import { CHUNK_BYTES } from "./state";

// A file in chunks of megabytes: thousands of small tensors take a few reads or writes.

/** Collects bytes and writes them a chunk at a time. */
export class ChunkWriter {
  readonly #file: WritableFile;
  readonly #beforeWrite: (bytes: number) => Promise<void>;
  readonly #chunk = new ArrayBuffer(CHUNK_BYTES);
  #used = 0;
  #written = 0;

  /** @param beforeWrite gets the bytes written so far */
  constructor(file: WritableFile, beforeWrite: (bytes: number) => Promise<void>) {
    this.#file = file;
    this.#beforeWrite = beforeWrite;
  }

  /** The bytes that still fit into the chunk; at 0, the chunk must be written first. */
  get room(): number {
    return CHUNK_BYTES - this.#used;
  }

  /** The next bytes of the chunk, for the caller to fill. */
  take(bytes: number): { buffer: ArrayBuffer; byteOffset: number } {
    const byteOffset = this.#used;
    this.#used += bytes;
    return { buffer: this.#chunk, byteOffset };
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + this.room);
      const { buffer, byteOffset } = this.take(part.length);
      new Uint8Array(buffer, byteOffset).set(part);
      done += part.length;
      if (this.room === 0) await this.flush();
    }
  }

  async flush(): Promise<void> {
    if (this.#used === 0) return;
    await this.#beforeWrite(this.#written);
    for (let done = 0; done < this.#used;) {
      const { bytesWritten } = await this.#file.write(new Uint8Array(this.#chunk, done, this.#used - done));
      done += bytesWritten;
    }
    this.#written += this.#used;
    this.#used = 0;
  }
}

/** Reads a chunk ahead. */
export class ChunkReader {
  readonly #file: FileHandle;
  readonly #fileBytes: number;
  readonly #beforeRead: () => Promise<void>;
  readonly #chunk: Uint8Array;
  /** The range of the file that the chunk holds. */
  #read = { position: 0, length: 0 };

  constructor(file: FileHandle, fileBytes: number, beforeRead: () => Promise<void>) {
    this.#file = file;
    this.#fileBytes = fileBytes;
    this.#chunk = new Uint8Array(Math.min(CHUNK_BYTES, fileBytes));
    this.#beforeRead = beforeRead;
  }

  /**
   * Fills `to` with the file's bytes from `position` on; undefined if the call has already filled it.
   *
   * @throws MTAdamError CHECKPOINT if the file has become shorter; errors of the file system
   */
  read(to: Uint8Array, position: number): Promise<void> | undefined {
    const done = this.#copy(to, position);
    return done === to.length ? undefined : this.#readRest(to, position, done);
  }

  async #readRest(to: Uint8Array, position: number, done: number): Promise<void> {
    while (done < to.length) {
      await this.#beforeRead();
      const rest = to.subarray(done);
      if (rest.length >= CHUNK_BYTES) {
        await readWhole(this.#file, rest, position + done);
        return;
      }
      await this.#readChunk(position + done);
      done += this.#copy(rest, position + done);
    }
  }

  async #readChunk(position: number): Promise<void> {
    const length = Math.min(this.#chunk.length, this.#fileBytes - position);
    this.#read = { position, length: 0 };
    await readWhole(this.#file, this.#chunk.subarray(0, length), position);
    this.#read = { position, length };
  }

  /** @returns how many of the bytes the chunk had */
  #copy(to: Uint8Array, position: number): number {
    const first = position - this.#read.position;
    if (first < 0 || first >= this.#read.length) return 0;
    const bytes = this.#chunk.subarray(first, Math.min(first + to.length, this.#read.length));
    to.set(bytes);
    return bytes.length;
  }
}

/** Node ends the process if one read is of 2 GiB or more. */
const MOST_AT_ONCE = 2 ** 30;

/** Fills `bytes` from `position` on, as far as the file goes. @returns how many there were */
export async function readUpTo(file: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < bytes.length) {
    const length = Math.min(bytes.length - done, MOST_AT_ONCE);
    const { bytesRead } = await file.read(bytes, done, length, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** The same for bytes that the file is known to have. @throws MTAdamError CHECKPOINT if it was shortened since */
export async function readWhole(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  if ((await readUpTo(file, bytes, position)) === bytes.length) return;
  throw new MTAdamError("CHECKPOINT", "The file must stay as it is while it is read; it has become shorter.");
}
