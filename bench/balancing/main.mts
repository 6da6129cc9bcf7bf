import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runProgram } from "../../examples/common/command-line.mjs";
import { autoencoder } from "./autoencoder.mjs";
import { burgers } from "./burgers.mjs";
import { digits } from "./digits.mjs";
import type { Experiment } from "./experiment.mjs";
import { heat } from "./heat.mjs";
import { helmholtz } from "./helmholtz.mjs";
import { mnist } from "./mnist.mjs";
import { HELP, parseOptions, type Options } from "./options.mjs";
import { regression, twoTasks } from "./regression.mjs";
import { report } from "./report.mjs";
import { run } from "./runner.mjs";
import { silentAnchor } from "./silent-anchor.mjs";
import { Store } from "./store.mjs";
import { twoObjectives } from "./two-objectives.mjs";
import { vae } from "./vae.mjs";

const EXPERIMENTS: readonly Experiment[] = [
  twoObjectives,
  regression,
  helmholtz,
  mnist,
  twoTasks,
  heat,
  burgers,
  digits,
  autoencoder,
  vae,
];

/** Returns the exit code: 3 if time ran out. */
async function bench(options: Options): Promise<number> {
  const deadline = options.minutes === undefined ? Infinity : performance.now() + 60_000 * options.minutes;
  const { again, out } = options;
  for (const experiment of EXPERIMENTS.filter(({ key }) => options.experiments.includes(key))) {
    const store = await Store.open(out, experiment.key);
    const extent = {
      seeds: Math.min(options.seeds ?? Infinity, experiment.seeds),
      steps: options.steps ?? experiment.steps,
    };
    const choices = await run(experiment, store, extent, { again, deadline, log: console.log });
    if (!choices) {
      console.log("The time is over. The same command goes on from here.");
      return 3;
    }
    await report(experiment, store, choices, extent, out);
  }
  await writeFile(join(out, "silent-anchor.svg"), `${silentAnchor()}\n`);
  console.log(`Results, tables and plots are in ${out}.`);
  return 0;
}

await runProgram(async (args) => {
  const keys = EXPERIMENTS.map(({ key }) => key);
  const options = parseOptions(args, keys);
  if (!options.help) return bench(options);
  console.log(`${HELP}${keys.join(", ")}.`);
  return 0;
});
