import { accessSync, constants, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { UsageError, deviceName, parseArguments, wholeNumber } from "../common/command-line.mjs";

/** The options of the command line. */
export interface Options {
  rounds: number;
  epochs: number;
  /** Steps of a round; undefined: as many as the epochs have. */
  steps: number | undefined;
  seed: number;
  /** A device name for `openDevice`. */
  device: string;
  /** Absolute path of the report. */
  report: string;
  help: boolean;
}

export const HELP = `Usage: npm run demo -- [options]

Trains one network on MNIST with ten loss terms, one per digit, scaled by arbitrary
factors: by MTAdam (two settings) and by Adam (wrong and equal weights).

  --rounds N     repeat with other seeds and weights; the table gives mean and s.d. (1)
  --epochs N     passes over the 60,000 training images in a round (1)
  --steps N      stop every round after N steps, for a quick look
  --seed N       seed of the first round: weights, initial values, order of the images (1)
  --device NAME  cpu, cuda, cuda:N or auto: where the optimizer works (cpu)
  --report PATH  where the report goes (report.html)
  --help         this text

Ctrl-C stops after the current step and reports what was trained so far; a second
Ctrl-C ends at once.`;

/** The options in `args` (without node and script), checked. Throws a UsageError. */
export function parseOptions(args: string[]): Options {
  const values = parseArguments(args, {
    rounds: { type: "string" },
    epochs: { type: "string" },
    steps: { type: "string" },
    seed: { type: "string" },
    device: { type: "string" },
    report: { type: "string" },
    help: { type: "boolean", short: "h" },
  });
  const help = values.help ?? false;
  const report = resolve(values.report ?? "report.html");
  if (!help) checkWritable(report);
  return {
    rounds: wholeNumber("rounds", values.rounds, 1, 1000) ?? 1,
    epochs: wholeNumber("epochs", values.epochs, 1, 1000) ?? 1,
    steps: wholeNumber("steps", values.steps, 1, 1e9),
    seed: wholeNumber("seed", values.seed, 0, 2 ** 32 - 1) ?? 1,
    device: deviceName(values.device),
    report,
    help,
  };
}

/** A report that cannot be written should be known before the training, not after it. */
function checkWritable(path: string) {
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new Error("it is a folder");
    accessSync(dirname(path), constants.W_OK);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`--report must be a file that can be written; got "${path}" (${why}).`);
  }
}
