import type { Stats } from "node:fs";
import { open, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { MTAdamError } from "../errors";
import { checkRegular, type Place } from "./path";
import { removeStale, temporaryName } from "./temporary-file";

/** What a writer of contents needs of a file. */
export interface WritableFile {
  write(bytes: Uint8Array): Promise<{ bytesWritten: number }>;
  sync(): Promise<void>;
}

/** Has `write` write the contents of a new file at `target`. */
export type Writer = (target: Place, write: (file: WritableFile) => Promise<void>) => Promise<void>;

/** Takes the contents and keeps none of them: for ranks other than the one that writes the file. */
export const writeNowhere: Writer = (_, write) =>
  write({
    write: ({ length }) => Promise.resolve({ bytesWritten: length }),
    sync: () => Promise.resolve(),
  });

/**
 * Replaces a file atomically: a reader of `target` sees either the old contents or all of the new ones, also after a
 * crash or a power cut. The bytes go to a temporary file in the same folder, which is removed on failure; one that a
 * killed process leaves is removed by the next call for this target. The mode and the owner of the old file are kept,
 * the owner where the process may set it. Other errors are rethrown unchanged: those of the file system have their
 * `code`.
 *
 * @param target no symbolic link
 * @param write writes the contents and must put them on the disk (`file.sync()`) before its promise is fulfilled; the
 * rename follows at once
 * @throws MTAdamError OPTION where the target is not a regular file or is a mount point
 */
export async function writeAtomically(
  target: Place,
  write: (file: WritableFile) => Promise<void>,
): Promise<void> {
  const old = await stat(target.path).catch(() => undefined);
  if (old !== undefined) checkRegular(old);
  const temporary = target.folder.file(await temporaryName(target));
  // The replacement of a private file is private from the start.
  const file = await open(temporary.path, "wx", old === undefined ? 0o666 : 0o600);
  try {
    try {
      // Before the write: abandoned files may fill the disk.
      await removeStale(target, temporary);
      if (old !== undefined) await keepOwnerAndMode(file, old);
      await write(file);
    } finally {
      await file.close();
    }
    await replace(temporary, target);
  } catch (error) {
    // The first error is the one to report.
    await rm(temporary.path, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(target.folder);
}

/**
 * The owner comes first, because changing it clears bits of the mode. Not every process may set them, and not every
 * file system has them.
 */
async function keepOwnerAndMode(file: FileHandle, { uid, gid, mode }: Stats): Promise<void> {
  const own = await file.stat();
  if (own.uid !== uid || own.gid !== gid) {
    // A process that may not change the owner may still change the group.
    await file.chown(uid, gid).catch(() => file.chown(own.uid, gid).catch(() => undefined));
  }
  const now = await file.stat();
  // A setuid or setgid program must not run as another user or group than before.
  const bits = now.uid === uid && now.gid === gid ? 0o7777 : 0o777;
  await file.chmod(mode & bits).catch(() => undefined);
}

async function replace(temporary: Place, target: Place): Promise<void> {
  try {
    await rename(temporary.path, target.path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EBUSY" || process.platform === "win32") throw cause;
    throw new MTAdamError(
      "OPTION",
      "`path` must be a file that another can replace; got a mount point, as a container has for a single file " +
        "(mount its folder instead).",
      { cause },
    );
  }
}

/**
 * Puts the rename on the disk. It is not an error if the folder cannot be opened or synced, as on Windows: the file is
 * in place, and the system orders its own renames.
 */
async function syncFolder(folder: Place): Promise<void> {
  const handle = await open(folder.path, "r").catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close().catch(() => undefined);
}
