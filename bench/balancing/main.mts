import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { autoencoder } from "./autoencoder.mjs";
import { burgers } from "./burgers.mjs";
import { digits } from "./digits.mjs";
import { runCommand } from "../common/command.mjs";
import type { Experiment } from "../common/experiment.mjs";
import { gan } from "./gan.mjs";
import { heat } from "./heat.mjs";
import { helmholtz, helmholtzRates } from "./helmholtz.mjs";
import { mnist } from "./mnist.mjs";
import { regression, tenTasks, twoTasks } from "./regression.mjs";
import { silentAnchor } from "./silent-anchor.mjs";
import { longStates, states } from "./states.mjs";
import { summarize } from "./summary.mjs";
import { twoObjectives } from "./two-objectives.mjs";
import { vae } from "./vae.mjs";

const EXPERIMENTS: readonly Experiment[] = [
  twoObjectives,
  regression,
  helmholtz,
  mnist,
  states,
  longStates,
  twoTasks,
  tenTasks,
  helmholtzRates,
  gan,
  heat,
  burgers,
  digits,
  autoencoder,
  vae,
];

await runCommand({
  script: "bench:balancing",
  purpose:
    "How well MTAdam balances, against Adam with equal and with tuned weights, and against other methods.",
  experiments: EXPERIMENTS,
  out: "docs/balancing",
  finish: async (out) => {
    await writeFile(join(out, "silent-anchor.svg"), `${silentAnchor()}\n`);
    await summarize(EXPERIMENTS, out);
  },
});
