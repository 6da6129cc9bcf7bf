import { MTAdamError } from "../../lib";

/** The MTAdamError that a call throws or rejects with. */
export async function caught(call: () => unknown): Promise<MTAdamError> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(MTAdamError);
    return error as MTAdamError;
  }
  throw new Error("nothing was thrown");
}

/** The code of the error that a call throws or rejects with; "none" if it succeeds. */
export async function codeOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    return error instanceof MTAdamError ? error.code : String(error);
  }
  return "none";
}
