import { checkBoolean, checkKeys } from "../arguments";
import { mustBe } from "../errors";

// The public types of saving and loading. They need no types of Node.

/** A path, a `file:` URL, or the bytes of a path (a Buffer). */
export type PathLike = string | Uint8Array | FileUrl;

/** The shape of a `URL`, declared here so that the types need neither Node's nor a browser's. */
export interface FileUrl {
  readonly href: string;
  readonly protocol: string;
}

/** The progress of a file, in bytes. A load reads the file twice, so that each read of a byte counts half. */
export interface CheckpointProgress {
  bytes: number;
  total: number;
}

/** Called with the progress of a file. If it returns a promise, the save or load waits for it. */
export type ProgressListener = (progress: CheckpointProgress) => unknown;

export interface SaveOptions {
  /** Called as the file grows, the last time with `bytes === total`. */
  onProgress?: ProgressListener | undefined;
  /**
   * With `shard: "state"`: each rank writes what it has to a file of its own, `path` with ".1-of-4" for rank 0 of 4, and
   * no state is exchanged, so that ranks need no common file system. All ranks must call `save`. `npx mtadam merge` makes one
   * file of them.
   */
  pieces?: boolean | undefined;
}

export interface LoadOptions extends Pick<SaveOptions, "onProgress"> {
  /** False: load matching entries only and leave the rest unchanged. Default true. */
  strict?: boolean | undefined;
}

/** Options of a save or a load, checked. @throws MTAdamError OPTION */
export function checkOptions(
  options: unknown,
  keys: readonly (keyof LoadOptions | keyof SaveOptions)[],
): { strict: boolean; pieces: boolean; onProgress: ProgressListener | undefined } {
  const {
    strict = true,
    pieces = false,
    onProgress,
  } = checkKeys<Record<keyof LoadOptions | keyof SaveOptions, unknown>>("options", options, keys);
  const checked = { strict: checkBoolean("strict", strict), pieces: checkBoolean("pieces", pieces) };
  if (onProgress !== undefined && typeof onProgress !== "function") {
    throw mustBe("OPTION", "onProgress", "be a function", onProgress);
  }
  return { ...checked, onProgress: onProgress as ProgressListener | undefined };
}
