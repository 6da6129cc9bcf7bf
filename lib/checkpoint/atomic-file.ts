import { randomBytes } from "node:crypto";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import path from "node:path";

/**
 * Replaces a file as a whole: whoever opens `target` finds what was there before or all of what `write` wrote, also
 * after a crash or a power cut. The bytes go to a temporary file beside it, `<target>.<random>.tmp`, which is removed if
 * anything fails (a process that is killed leaves it). What fails is rethrown as it came: the file system's errors have
 * their `code`.
 *
 * @param write writes the contents; when its promise is fulfilled, they are to be on the disk (`file.sync()`), and the
 * rename follows at once
 */
export async function writeAtomically(
  target: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  // First of all, so that after the rename nothing is left that lacks a permission.
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
      // The first error is the one to know of.
      await rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
    // A rename is only on the disk when its directory is.
    await directory?.sync();
  } finally {
    await directory?.close();
  }
}

/** Undefined on Windows, where a directory cannot be opened; there the file system alone orders its renames. */
async function openDirectory(directory: string): Promise<FileHandle | undefined> {
  return process.platform === "win32" ? undefined : open(directory, "r");
}
