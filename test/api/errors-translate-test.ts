/** The translation of the addon's errors for the user. */

import { MTAdamError } from "../../lib";
import { fromNative } from "../../lib/errors";

const thrownFor = (error: unknown): unknown => {
  try {
    fromNative(() => {
      throw error;
    });
  } catch (translated) {
    return translated;
  }
  return undefined;
};

test.each(["std::bad_alloc", "bad allocation"])("%s is OUT_OF_MEMORY", (message) => {
  const cause = new Error(message);
  const error = thrownFor(cause);
  expect(error).toBeInstanceOf(MTAdamError);
  expect(error).toMatchObject({ code: "ERR_MTADAM_OUT_OF_MEMORY", cause });
});

test("an error without a code stays as it is", () => {
  const error = new RangeError("mine");
  expect(thrownFor(error)).toBe(error);
});
