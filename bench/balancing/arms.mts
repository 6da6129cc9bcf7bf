import type { Arm } from "./experiment.mjs";
import { TUNED } from "./experiment.mjs";

const SHARED: Arm = {
  key: "shared",
  name: "MTAdam, shared layer",
  options: { anchor: "max", betas: [0.9, 0.999, 0.999] },
  sharedLayer: true,
};

/** What every problem with rates of its own compares. */
export const ARMS: readonly Arm[] = [
  { key: "adam", name: "Adam, equal weights" },
  TUNED,
  { key: "default", name: "MTAdam", options: {} },
  SHARED,
  { key: "dial", name: "MTAdam, shared layer, found weights", dialOf: SHARED },
];

export const ARMS_OF_PINNS: readonly Arm[] = ARMS;
