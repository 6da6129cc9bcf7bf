import { UsageError, runProgram } from "../../examples/common/command-line.mjs";
import type { Experiment } from "./experiment.mjs";
import { optionsHelp, parseOptions, type Options } from "./options.mjs";
import { report } from "./report.mjs";
import { run } from "./runner.mjs";
import { Store } from "./store.mjs";

/** A command that runs experiments and reports them. */
export interface Command {
  /** The npm script, for the help. */
  script: string;
  /** What it does, in sentences for the help. */
  purpose: string;
  experiments: readonly Experiment[];
  /** The default folder for results. */
  out: string;
  /** Makes what does not belong to one experiment, in the folder for results. */
  finish?: (out: string) => Promise<void>;
}

/** Runs a command with the arguments of the process. The exit code is 3 if time ran out. */
export async function runCommand(command: Command): Promise<void> {
  const keys = command.experiments.map(({ key }) => key);
  await runProgram(async (args) => {
    const options = parseOptions(args, { keys, out: command.out });
    if (!options.help) return bench(command, options);
    console.log(`Usage: npm run ${command.script} -- [options]\n\n${command.purpose}`);
    console.log(optionsHelp(command.out, keys));
    return 0;
  });
}

async function bench({ experiments, finish }: Command, options: Options): Promise<number> {
  const deadline = options.minutes === undefined ? Infinity : performance.now() + 60_000 * options.minutes;
  const { again, out } = options;
  const isPart = options.arms !== undefined || options.variants !== undefined;
  const chosen = experiments.filter(({ key }) => options.experiments.includes(key));
  for (const experiment of isPart ? chosen.map((one) => partOf(one, options)) : chosen) {
    const store = await Store.open(out, experiment);
    const extent = {
      seeds: Math.min(options.seeds ?? Infinity, experiment.seeds),
      steps: options.steps ?? experiment.steps,
    };
    const choices = await run(experiment, store, extent, { again, deadline, log: console.log });
    if (!choices) {
      console.log("The time is over. The same command goes on from here.");
      return 3;
    }
    if (isPart) continue;
    await report(experiment, store, choices, extent, out);
    if (store.cost !== undefined) console.log(`${experiment.key}: ${store.cost}.`);
  }
  if (isPart) {
    console.log(`Results are in ${out}. The command without --arm and --variant makes tables and plots.`);
    return 0;
  }
  await finish?.(out);
  console.log(`Results, tables and plots are in ${out}.`);
  return 0;
}

/** An experiment with the arms and variants that were asked for. Throws a UsageError if it lacks one of them. */
function partOf(experiment: Experiment, { arms, variants }: Options): Experiment {
  const { key: experimentKey } = experiment;
  const find = <T,>(all: readonly T[], nameOf: (one: T) => string, name: string, option: string): T => {
    const found = all.find((one) => nameOf(one) === name);
    if (found !== undefined) return found;
    const names = all.map(nameOf).join(", ");
    throw new UsageError(`${option} of ${experimentKey} must be one of ${names}; got "${name}".`);
  };
  return {
    ...experiment,
    arms: arms?.map((name) => find(experiment.arms, ({ key }) => key, name, "--arm")) ?? experiment.arms,
    variants:
      variants?.map((name) => find(experiment.variants, String, name, "--variant")) ?? experiment.variants,
  };
}
