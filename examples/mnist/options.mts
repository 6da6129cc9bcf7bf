import { accessSync, constants, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";

/** What the command line asks for. */
export interface Options {
  rounds: number;
  epochs: number;
  /** Steps of a round; undefined: as many as the epochs have. */
  steps: number | undefined;
  seed: number;
  /** A device as `openDevice` names it. */
  device: string;
  /** Absolute path of the report. */
  report: string;
  help: boolean;
}

/** A command line that cannot be followed; the message says what is wrong with which option. */
export class UsageError extends Error {}

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
  const values = parse(args);
  const device = values.device ?? "cpu";
  if (!/^(cpu|cuda|cuda:\d+|auto)$/.test(device)) {
    throw new UsageError(`--device must be cpu, cuda, cuda:N or auto; got "${device}".`);
  }
  const help = values.help ?? false;
  const report = resolve(values.report ?? "report.html");
  if (!help) checkWritable(report);
  return {
    rounds: wholeNumber("rounds", values.rounds, 1, 1000) ?? 1,
    epochs: wholeNumber("epochs", values.epochs, 1, 1000) ?? 1,
    steps: wholeNumber("steps", values.steps, 1, 1e9),
    seed: wholeNumber("seed", values.seed, 0, 2 ** 32 - 1) ?? 1,
    device,
    report,
    help,
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        rounds: { type: "string" },
        epochs: { type: "string" },
        steps: { type: "string" },
        seed: { type: "string" },
        device: { type: "string" },
        report: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function wholeNumber(name: string, text: string | undefined, least: number, most: number) {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new UsageError(`--${name} must be a whole number from ${least} to ${most}; got "${text}".`);
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
