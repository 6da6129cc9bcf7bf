import { resolve } from "node:path";
import { parseArguments, UsageError, wholeNumber } from "../../examples/common/command-line.mjs";

/** The options of the command line. */
export interface Options {
  /** Keys of the experiments to run. */
  experiments: string[];
  /** Keys of the arms to train; undefined: all. */
  arms: string[] | undefined;
  /** The variants to train; undefined: all. */
  variants: string[] | undefined;
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

/** The part of a command's help that lists its options. `out`: the folder for results, as the help shows it. */
export function optionsHelp(out: string, keys: readonly string[]): string {
  return `Results are kept, and what is there is not trained again; tables and plots are then made anew.

  --experiment KEY  one experiment; may be repeated (all)
  --arm KEY         train only this arm, and make no tables; may be repeated
  --variant NAME    train only this variant, and make no tables; may be repeated
  --seeds N         at most N seeds, for a quick look; needs --out
  --steps N         stop every training after N steps, for a quick look; needs --out
  --minutes N       start no training after N minutes; the same command goes on
  --out FOLDER      where results, tables and plots go (${out})
  --again           train also what is there
  --help            this text

Experiments: ${keys.join(", ")}.`;
}

/**
 * The options in `args` (without node and script), checked. Throws a UsageError.
 *
 * @param command the keys of the experiments, and the default folder for results
 */
export function parseOptions(
  args: string[],
  { keys, out }: { keys: readonly string[]; out: string },
): Options {
  const values = parseArguments(args, {
    experiment: { type: "string", multiple: true },
    arm: { type: "string", multiple: true },
    variant: { type: "string", multiple: true },
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
  for (const option of ["steps", "seeds"] as const) {
    if (values[option] !== undefined && values.out === undefined) {
      throw new UsageError(`--${option} must come with --out: a quick look is no result to keep.`);
    }
  }
  if (values.again && values.minutes !== undefined) {
    throw new UsageError("--again cannot come with --minutes: it would begin anew each time.");
  }
  return {
    experiments,
    arms: values.arm,
    variants: values.variant,
    seeds: wholeNumber("seeds", values.seeds),
    steps,
    minutes: wholeNumber("minutes", values.minutes),
    out: resolve(values.out ?? out),
    again: values.again ?? false,
    help: values.help ?? false,
  };
}
