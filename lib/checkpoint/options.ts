import { checkKeys } from "../arguments";
import { mustBe } from "../errors";
import type { ProgressListener } from "./file";

export interface SaveOptions {
  /** Called as the file grows, the last time with `bytes === total`. */
  onProgress?: ProgressListener;
}

export interface LoadOptions extends SaveOptions {
  /** False: load matching entries only and leave the rest unchanged. Default true. */
  strict?: boolean;
}

/** Options of a save or a load, checked. @throws MTAdamError OPTION */
export function checkOptions(
  options: unknown,
  keys: readonly (keyof LoadOptions)[],
): { strict: boolean; onProgress: ProgressListener | undefined } {
  const { strict = true, onProgress } = checkKeys<Record<keyof LoadOptions, unknown>>(
    "options",
    options,
    keys,
  );
  if (typeof strict !== "boolean") throw mustBe("OPTION", "strict", "be true or false", strict);
  if (onProgress !== undefined && typeof onProgress !== "function") {
    throw mustBe("OPTION", "onProgress", "be a function", onProgress);
  }
  return { strict, onProgress: onProgress as ProgressListener | undefined };
}
