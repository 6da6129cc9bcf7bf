import { statSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { mustBe } from "../errors";

/**
 * The absolute path of a regular file, which need not exist.
 *
 * @throws MTAdamError OPTION
 */
export function regularFile(subject: string, file: unknown): string {
  const path = pathOf(file);
  if (path === undefined) throw mustBe("OPTION", subject, "be the path of a file or a file URL", file);
  // Opening a FIFO would wait for its reader.
  if (statSync(path, { throwIfNoEntry: false })?.isFile() === false) {
    throw mustBe("OPTION", subject, "be the path of a regular file", file);
  }
  return path;
}

function pathOf(file: unknown): string | undefined {
  if (typeof file === "string") return file === "" || file.includes("\0") ? undefined : resolve(file);
  try {
    return fileURLToPath(file as URL);
  } catch {
    return undefined;
  }
}
