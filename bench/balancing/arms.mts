import { MTAdam, MTAdamError, type MTAdamOptions } from "mtadam";
import { TUNED, type Arm } from "./experiment.mjs";
import { RIVALS, RIVALS_OF_PINNS } from "./rivals/arms.mjs";

/** What can be had today of `unit: "network"`: one layer of all tensors that several terms reach. */
const SHARED: Arm = {
  key: "shared",
  name: "MTAdam, shared layer",
  options: { anchor: "max", betas: [0.9, 0.999, 0.999] },
  sharedLayer: true,
};

/** Options that the optimizer may not have yet: their arms take part as soon as it has. */
type Coming = Partial<MTAdamOptions> & {
  unit?: "network";
  silence?: "rest";
  scales?: "lagged";
  secondMoment?: "summed";
  preset?: "recommended";
};

const NETWORK: Coming = { unit: "network", anchor: "max", betas: [0.9, 0.999, 0.999] };

/** Arms of options that are being built. */
const COMING: readonly (Arm & { options: Coming })[] = [
  { key: "network", name: "MTAdam, network", options: NETWORK },
  { key: "network-rest", name: "MTAdam, network, rest", options: { ...NETWORK, silence: "rest" } },
  { key: "network-lagged", name: "MTAdam, network, lagged", options: { ...NETWORK, scales: "lagged" } },
  {
    key: "network-summed",
    name: "MTAdam, network, summed",
    options: { ...NETWORK, firstMoment: "summed", secondMoment: "summed" },
  },
  { key: "recommended", name: "MTAdam, recommended", options: { preset: "recommended" } },
];

/** Whether the optimizer has the options of an arm. */
export function isThere({ options }: Arm): boolean {
  try {
    new MTAdam([new Float32Array(1)], { ...options, terms: 2 }).dispose();
    return true;
  } catch (error) {
    if (error instanceof MTAdamError && error.message.includes("has no option")) return false;
    throw error;
  }
}

const BALANCED: readonly Arm[] = [
  { key: "default", name: "MTAdam", options: {} },
  SHARED,
  { key: "dial", name: "MTAdam, shared layer, found weights", dialOf: SHARED },
  ...COMING.filter(isThere),
];

const EQUAL: Arm = { key: "adam", name: "Adam, equal weights" };

/** What problems compare whose learning rates are searched. */
export const ARMS: readonly Arm[] = [EQUAL, TUNED, ...BALANCED, ...RIVALS];

/** For differential equations. */
export const ARMS_OF_PINNS: readonly Arm[] = [EQUAL, TUNED, ...BALANCED, ...RIVALS_OF_PINNS];

/** Where the terms' units are arbitrary, Adam takes the terms as they come; or, for one who knows, in true units. */
export const ARMS_IN_RANDOM_UNITS: readonly Arm[] = [
  { key: "adam", name: "Adam, as they come" },
  { key: "true", name: "Adam, true units", exponent: 0 },
  TUNED,
  ...BALANCED,
  ...RIVALS,
];
