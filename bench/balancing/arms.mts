import { TUNED, type Arm } from "../common/experiment.mjs";
import { RIVALS, RIVALS_OF_PINNS } from "../common/rivals/arms.mjs";

const RECOMMENDED: Arm = {
  key: "recommended",
  name: "MTAdam, recommended",
  options: { preset: "recommended" },
};

const WITHOUT_DIAL: readonly Arm[] = [
  { key: "default", name: "MTAdam", options: {} },
  RECOMMENDED,
  {
    key: "one-pair",
    name: "… with one pair of moments",
    options: { ...RECOMMENDED.options, firstMoment: "summed", secondMoment: "summed" },
  },
  { key: "lagged", name: "… with lagged scales", options: { ...RECOMMENDED.options, scales: "lagged" } },
];

const DIAL: Arm = { key: "dial", name: "MTAdam, recommended, found weights", dialOf: RECOMMENDED };

const BALANCED: readonly Arm[] = [...WITHOUT_DIAL, DIAL];

const TAGGED: Arm = { ...RECOMMENDED, key: "tagged", name: "… with heads tagged", tagsHeads: true };

/** With less memory for moments per term, for networks whose tensors are large enough for it. */
const LEAN: readonly Arm[] = [
  {
    key: "bfloat16",
    name: "… with moments in bfloat16",
    options: { ...RECOMMENDED.options, stateDtype: "bfloat16" },
  },
  { key: "8bit", name: "… with moments in 8 bits", options: { ...RECOMMENDED.options, stateDtype: "8bit" } },
];

/** For networks with a head per term. */
const WITH_TAGS: readonly Arm[] = [
  ...BALANCED,
  TAGGED,
  { key: "tagged-dial", name: "… with heads tagged, found weights", dialOf: TAGGED },
];

const EQUAL: Arm = { key: "adam", name: "Adam, equal weights" };

/** The arms of problems without other methods. */
export const ADAM_AND_BALANCED: readonly Arm[] = [EQUAL, TUNED, ...BALANCED];

/** The same with a head per term. */
export const ADAM_AND_TAGGED: readonly Arm[] = [EQUAL, TUNED, ...WITH_TAGS];

/** The arms of problems with a search for the learning rate and a head per term. */
export const ARMS_WITH_HEADS: readonly Arm[] = [...ADAM_AND_TAGGED, ...RIVALS];

/** The arms of differential equations. */
export const ARMS_OF_PINNS: readonly Arm[] = [EQUAL, TUNED, ...BALANCED, ...RIVALS_OF_PINNS];

/**
 * The arms of problems whose terms have arbitrary units: Adam on the terms as given, and Adam on the terms in true
 * units.
 */
export const ARMS_IN_RANDOM_UNITS: readonly Arm[] = [
  { key: "adam", name: "Adam, as they come" },
  { key: "true", name: "Adam, true units", exponent: 0 },
  TUNED,
  ...WITHOUT_DIAL,
  ...LEAN,
  DIAL,
  ...RIVALS,
];
