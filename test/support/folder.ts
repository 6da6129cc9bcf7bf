import { mkdtempSync, readdirSync, rmSync } from "node:fs";
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

/** The same, emptied before each test. */
export function emptiedFolder(): string {
  const folder = temporaryFolder();
  beforeEach(() => {
    for (const name of readdirSync(folder)) rmSync(path.join(folder, name), { recursive: true });
  });
  return folder;
}
