import { MTAdamError } from "../errors";

/** @throws MTAdamError CHECKPOINT */
export function fail(message: string, cause?: unknown): never {
  throw new MTAdamError("CHECKPOINT", message, cause === undefined ? undefined : { cause });
}
