/** Errors of openDevice. */

import { openDevice } from "../../lib";
import { onDevice, refusal, refuses, write } from "../support/refusals";

describe("a device that does not exist", () => {
  refuses("ERR_MTADAM_OPTION", onDevice, [
    ...["gpu", "", "CPU", "cuda:", "cuda:x", "cuda:-1", " cpu", 0, null, {}, Symbol("cpu")].map((name) =>
      refusal(write(name), /^`device` must be .*; got /, () => openDevice(name as string)),
    ),
    ...[0, -1, 1.5, NaN, Infinity, 1025, "4", 4n, true].map((threads) =>
      refusal(
        `with threads ${write(threads)}`,
        /^`threads` must be a whole number from 1 to 1024; got /,
        () => openDevice("cpu", { threads: threads as number }),
      ),
    ),
    refusal("with an instruction set that is not a string", /^`instructionSet` must be a string; got 5/, () =>
      openDevice("cpu", { instructionSet: 5 as never }),
    ),
    refusal(
      "with an option for CUDA, which has none",
      /^`options` has no option "threads" \(it knows none\)/,
      () => (openDevice as (name: string, options: object) => unknown)("cuda", { threads: 1 }),
    ),
    {
      what: "with an unknown instruction set",
      says: /^`instructionSet` must .*; got "mmx"/,
      call: () => openDevice("cpu", { instructionSet: "mmx" }),
      fromBelow: true,
    },
  ]);
  test("on any machine", () => {
    // The code depends on the machine: no CUDA in the build, no driver or no such device.
    const error = expect.objectContaining({
      code: expect.stringMatching(/^ERR_MTADAM_(NO_DEVICE|DRIVER)$/) as string,
    }) as Error;
    expect(() => openDevice("cuda:4095")).toThrow(error);
  });
});
