import type { Arm, Experiment } from "../common/experiment.mjs";
import { STATES } from "../common/states.mjs";
import { mnist } from "./mnist.mjs";

const NAMES = { "per term": "", summed: ", first moments summed", "one pair": ", one pair" };

const ARMS: readonly Arm[] = STATES.map(({ stateDtype, form, options }) => ({
  key: `${stateDtype} ${form}`,
  name: `${stateDtype}${NAMES[form]}`,
  options: { betas: [0.9, 0.999, 0.999], ...options },
}));

/** The experiment of mnist.mts with less memory for moments. */
export const states: Experiment = { ...mnist, key: "states", arms: ARMS };
