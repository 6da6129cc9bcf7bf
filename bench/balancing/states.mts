import type { MTAdamOptions } from "mtadam";
import type { Arm, Experiment } from "../common/experiment.mjs";
import { mnist } from "./mnist.mjs";

const FORMS = [
  { key: "per term", name: "", options: {} },
  { key: "summed", name: ", first moments summed", options: { firstMoment: "summed" } },
  { key: "one pair", name: ", one pair", options: { firstMoment: "summed", secondMoment: "summed" } },
] as const;

/** Every type of the moments with every way of summing them. */
const ARMS: readonly Arm[] = (["float32", "bfloat16", "8bit"] as const).flatMap((stateDtype) =>
  FORMS.map(({ key, name, options }): Arm => {
    const all: Partial<MTAdamOptions> = { betas: [0.9, 0.999, 0.999], stateDtype, ...options };
    return { key: `${stateDtype} ${key}`, name: `${stateDtype}${name}`, options: all };
  }),
);

/** The experiment of mnist.mts with less memory for moments. */
export const states: Experiment = { ...mnist, key: "states", arms: ARMS };
