import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** A folder for one file's tests, deleted after them. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "mtadam-"));
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}
