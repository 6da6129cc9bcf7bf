/** Errors of loadStateDict for a state of another optimizer. */

import type { StateDict } from "../../lib";
import { array, onDevice, refusal, refuses, type Subject, write } from "../support/refusals";

describe("a state that does not match", () => {
  const changed =
    (change: (state: StateDict) => unknown) =>
    async ({ optimizer }: Subject): Promise<void> => {
      const state = await optimizer.stateDict();
      change(state);
      await optimizer.loadStateDict(state);
    };
  refuses("ERR_MTADAM_CHECKPOINT", onDevice, [
    ...[undefined, null, 5, "state", [], {}, { metadata: null }, { metadata: {} }].map((value) =>
      refusal(write(value), /^The state must /, ({ optimizer }) => optimizer.loadStateDict(value as never)),
    ),
    refusal(
      "another version",
      /version 1; got 2/,
      changed(({ metadata }) => Object.assign(metadata, { version: 2 })),
    ),
    refusal(
      "another term",
      /term "style"/,
      changed(({ metadata }) => (metadata.terms[1] = "other")),
    ),
    refusal(
      "a last tensor too short",
      /`v\.1\.1`, a Float32Array of 2; got a Float32Array of 1/,
      changed((state) => (state["v.1.1"] = array(1))),
    ),
    refusal(
      "a moment that is no number",
      /finite moments unless .*; got NaN in `m\.1\.1`/,
      changed((state) => ((state["m.1.1"] as Float32Array)[1] = NaN)),
    ),
    refusal(
      "a second moment below 0",
      /second moments of at least 0; got -1 in `v\.1\.1`/,
      changed((state) => ((state["v.1.1"] as Float32Array)[1] = -1)),
    ),
    refusal(
      "a norm of a pair that never occurred",
      /the norm 0 where a pair never occurred; got 1/,
      changed((state) => ((state["n"] as Float64Array)[3] = 1)),
    ),
    refusal(
      "no last tensor",
      /`v\.1\.1`/,
      changed((state) => Reflect.deleteProperty(state, "v.1.1")),
    ),
    refusal(
      "a tensor of another type",
      /`m\.0\.0`, a Float32Array of 3; got an array of 3/,
      changed((state) => Object.assign(state, { "m.0.0": [1, 2, 3] })),
    ),
  ]);
});
