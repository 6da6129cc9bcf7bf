import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

const NAME = /^step-(\d+)$/;

/** The checkpoint folders of one training, named after the step. A folder with such a name is complete. */
export class Checkpoints {
  /** @param folder made when there is something to save */
  constructor(readonly folder: string) {}

  /** The newest folder, to continue from; undefined if there is none. */
  async latest(): Promise<string | undefined> {
    const last = (await this.#steps()).at(-1);
    return last === undefined ? undefined : this.#path(last);
  }

  /** Saves the files of `write` as the checkpoint of this step, all or none, and removes the earlier checkpoints. */
  async save(step: number, write: (folder: string) => Promise<void>): Promise<void> {
    const before = await this.#steps();
    // Saved at the same step already. To replace it would mean a moment without a checkpoint.
    if (before.includes(step)) return;
    const temporary = `${this.#path(step)}.tmp`;
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    await write(temporary);
    await rename(temporary, this.#path(step));
    for (const old of before) await rm(this.#path(old), { recursive: true });
  }

  #path(step: number): string {
    return join(this.folder, `step-${step}`);
  }

  async #steps(): Promise<number[]> {
    const names = await readdir(this.folder).catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
      throw error;
    });
    return names
      .flatMap((name) => Number(NAME.exec(name)?.[1] ?? NaN))
      .filter(Number.isFinite)
      .sort((a, b) => a - b);
  }
}
