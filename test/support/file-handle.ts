import { open, type FileHandle } from "node:fs/promises";

/** The prototype of every open file, for spies. */
export async function fileHandlePrototype(): Promise<FileHandle> {
  const handle = await open(__filename, "r");
  await handle.close();
  return Object.getPrototypeOf(handle) as FileHandle;
}
