import { openDevice, type MTAdamOptions } from "mtadam";
import { BETAS, Gan, type Arm as GanArm } from "../../examples/gan/gan.mjs";
import { qualityOf } from "../../examples/gan/ring.mjs";
import { ADAM_AND_BALANCED } from "./arms.mjs";
import { ratesAround, type Arm, type Experiment, type Finished, type Task } from "../common/experiment.mjs";
import { USUAL } from "./problem.mjs";
import { alsoWithWrongWeights, WRONG, wrongWeights } from "./wrong-weights.mjs";

const POINTS = 4000;
/** The weight of feature matching and of the penalty in all of MTAdam's arms. */
const WEIGHT = 0.1;
const TERMS = ["real", "made", "penalty", "adversarial", "matching"];

const device = openDevice("cpu");

/** The form of an arm that the example trains. */
function armOf(arm: Arm, { variant, seed }: Task): GanArm {
  const { options = {} } = arm;
  const [beta1, beta2, ownBeta3] = BETAS;
  const beta3 = options.preset === "recommended" ? 0.999 : ownBeta3;
  const own: Partial<MTAdamOptions> = { ...options, lr: arm.rate!, betas: [beta1, beta2, beta3] };
  const factors = wrongWeights(TERMS.length, seed);
  return {
    key: arm.key,
    name: arm.name,
    balanced: arm.options !== undefined,
    options: own,
    weight: arm.options === undefined ? 10 ** (arm.exponent ?? 0) : WEIGHT,
    ...(variant === WRONG && { units: Object.fromEntries(TERMS.map((term, i) => [term, factors[i]!])) }),
  };
}

/** Trains the example's generator and discriminator: how many of its points lie near a mode. */
async function run(arm: Arm, task: Task): Promise<Finished> {
  const gan = new Gan({ device, arm: armOf(arm, task), seed: task.seed });
  while (gan.steps < task.steps) await gan.step();
  const { modes, near, distance } = qualityOf(await gan.sample(POINTS));
  gan.dispose();
  return { value: near, details: { modes, distance: Number(distance.toFixed(4)) } };
}

/** The GAN of examples/gan with a search for the learning rates. */
export const gan: Experiment = alsoWithWrongWeights({
  key: "gan",
  measure: "points near a mode in %",
  better: "higher",
  variants: ["constant rate"],
  arms: ADAM_AND_BALANCED.filter(({ dialOf }) => !dialOf),
  grid: {
    exponents: [0, -1, -2, -3, -4, -5],
    describe: (exponent) => `${Number(`1e${exponent}`)} for matching and penalty, 1 for the other terms`,
  },
  rates: ratesAround(4e-3),
  furtherRates: 3,
  tuningSeeds: USUAL.tuningSeeds,
  seeds: 5,
  steps: 1500,
  show: (value) => (100 * value).toFixed(1),
  further: [
    { detail: "modes", measure: "modes covered, of 8", better: "higher", show: (value) => value.toFixed(1) },
  ],
  run,
});
