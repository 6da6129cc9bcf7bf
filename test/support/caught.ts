import { MTAdamError } from "../../lib";

/** What a call throws, or what its promise rejects with: an MTAdamError. */
export async function caught(call: () => unknown): Promise<MTAdamError> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(MTAdamError);
    return error as MTAdamError;
  }
  throw new Error("nothing was thrown");
}
