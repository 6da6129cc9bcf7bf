import { randomBytes } from "node:crypto";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import path from "node:path";

/**
 * Replaces a file atomically: a reader of `target` sees either the old contents or all of the new ones, also after a
 * crash or a power cut. The bytes go to a temporary file in the same folder, `<target>.<random>.tmp`, which is removed on
 * failure (a killed process leaves it). Errors are rethrown unchanged: those of the file system have their `code`.
 *
 * @param write writes the contents and must put them on the disk (`file.sync()`) before its promise is fulfilled; the
 * rename follows at once
 */
export async function writeAtomically(
  target: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  // Opened first: a missing permission must not be found after the rename.
  const directory = await openDirectory(path.dirname(target));
  try {
    const temporary = `${target}.${randomBytes(6).toString("hex")}.tmp`;
    const file = await open(temporary, "wx");
    try {
      try {
        await write(file);
      } finally {
        await file.close();
      }
      await rename(temporary, target);
    } catch (error) {
      // The first error is the one to report.
      await rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
    // The rename is on the disk only after its directory is.
    await directory?.sync();
  } finally {
    await directory?.close();
  }
}

/** Undefined on Windows, where a directory cannot be opened; there the file system alone orders its renames. */
async function openDirectory(directory: string): Promise<FileHandle | undefined> {
  return process.platform === "win32" ? undefined : open(directory, "r");
}
