import type { MTAdamOptions } from "mtadam";
import type { Arm, Experiment } from "../common/experiment.mjs";
import { STATES } from "../common/states.mjs";
import { mnist } from "./mnist.mjs";

const NAMES = { "per term": "", summed: ", first moments summed", "one pair": ", one pair" };

const betas = [0.9, 0.999, 0.999] as const;

const MOMENTS: readonly Arm[] = STATES.map(({ stateDtype, form, options }) => ({
  key: `${stateDtype} ${form}`,
  name: `${stateDtype}${NAMES[form]}`,
  options: { betas, ...options },
}));

/** Parameters in bfloat16, with moments per term in float32 and with the least that moments can take. */
const PARAMETERS: readonly Arm[] = [
  { key: "stochastic", name: "parameters in bfloat16", options: {} },
  { key: "nearest", name: '… rounding: "nearest"', options: { rounding: "nearest" } },
  { key: "master", name: "… masterWeights", options: { masterWeights: true } },
  {
    key: "stochastic 8bit summed",
    name: "… 8bit, first moments summed",
    options: { stateDtype: "8bit", firstMoment: "summed" },
  },
  {
    key: "stochastic 8bit",
    name: "… 8bit, one pair",
    options: { stateDtype: "8bit", firstMoment: "summed", secondMoment: "summed" },
  },
].map(({ key, name, options }) => ({
  key: `parameters ${key}`,
  name,
  options: { betas, ...options } as Partial<MTAdamOptions>,
  narrow: true,
}));

const ARMS = [...MOMENTS, ...PARAMETERS];

/** The experiment of mnist.mts with less memory for moments and parameters. */
export const states: Experiment = { ...mnist, key: "states", arms: ARMS };

/** Arms of long trainings. */
const LONG = [
  "float32 per term",
  "bfloat16 per term",
  "bfloat16 one pair",
  "8bit per term",
  "8bit summed",
  "parameters stochastic",
  "parameters nearest",
  "parameters stochastic 8bit summed",
];

/** The same for more than five epochs. */
export const longStates: Experiment = {
  ...mnist,
  key: "states-long",
  variants: ["5,000 steps"],
  arms: ARMS.filter(({ key }) => LONG.includes(key)),
  seeds: 3,
  steps: 5000,
  show: (value) => (100 * value).toFixed(2),
  further: [
    {
      detail: "loss",
      measure: "mean cross-entropy of the training images",
      better: "lower",
      show: (value) => value.toFixed(4),
    },
  ],
};
