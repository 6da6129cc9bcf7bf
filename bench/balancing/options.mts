import { resolve } from "node:path";
import { parseArguments, UsageError, wholeNumber } from "../../examples/common/command-line.mjs";

/** The options of the command line. */
export interface Options {
  /** Keys of the experiments to run. */
  experiments: string[];
  /** The largest number of seeds; undefined: the experiment's number. */
  seeds: number | undefined;
  steps: number | undefined;
  /** No training starts after this time. */
  minutes: number | undefined;
  /** Absolute path of the folder for results. */
  out: string;
  again: boolean;
  help: boolean;
}

export const HELP = `Usage: npm run bench:balancing -- [options]

How well MTAdam balances, against Adam with equal and with tuned weights, and against
other methods. Results are kept, and what is there is not trained again; tables and plots are then made anew.

  --experiment KEY  one experiment; may be repeated (all)
  --seeds N         at most N seeds (as many as the experiment says)
  --steps N         stop every training after N steps, for a quick look; needs --out
  --minutes N       start no training after N minutes; the same command goes on
  --out FOLDER      where results, tables and plots go (docs/balancing)
  --again           train also what is there
  --help            this text

Experiments: `;

/** The options in `args` (without node and script), checked. Throws a UsageError. */
export function parseOptions(args: string[], keys: readonly string[]): Options {
  const values = parseArguments(args, {
    experiment: { type: "string", multiple: true },
    seeds: { type: "string" },
    steps: { type: "string" },
    minutes: { type: "string" },
    out: { type: "string" },
    again: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  const experiments = values.experiment ?? [...keys];
  for (const key of experiments) {
    if (!keys.includes(key)) {
      throw new UsageError(`--experiment must be one of ${keys.join(", ")}; got "${key}".`);
    }
  }
  const steps = wholeNumber("steps", values.steps);
  if (steps !== undefined && values.out === undefined) {
    throw new UsageError("--steps must come with --out: a quick look is no result to keep.");
  }
  return {
    experiments,
    seeds: wholeNumber("seeds", values.seeds),
    steps,
    minutes: wholeNumber("minutes", values.minutes),
    out: resolve(values.out ?? "docs/balancing"),
    again: values.again ?? false,
    help: values.help ?? false,
  };
}
