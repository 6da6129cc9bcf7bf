import { resolve } from "node:path";
import { deviceName, parseArguments, wholeNumber } from "../common/command-line.mjs";

/** The options of the command line. */
export interface Options {
  steps: number;
  seed: number;
  device: string;
  /** Absolute path of the folder for checkpoints; undefined: none are saved. */
  checkpoints: string | undefined;
  help: boolean;
}

export const HELP = `Usage: npm run example:gan -- [options]

Trains a generator against a discriminator on a ring of eight Gaussians, each with an
optimizer of its own: MTAdam over their loss terms, and Adam over the terms' sum.

  --steps N            steps of each side (1500)
  --seed N             seed of initial values and batches (1)
  --device NAME        cpu, cuda, cuda:N or auto: where the optimizers work (cpu)
  --checkpoints FOLDER save there now and then; go on from what is there
  --help               this text

Ctrl-C stops after the current step, saves and reports; a second Ctrl-C ends at once.`;

/** The options in `args` (without node and script), checked. Throws a UsageError. */
export function parseOptions(args: string[]): Options {
  const values = parseArguments(args, {
    steps: { type: "string" },
    seed: { type: "string" },
    device: { type: "string" },
    checkpoints: { type: "string" },
    help: { type: "boolean", short: "h" },
  });
  return {
    steps: wholeNumber("steps", values.steps, 1, 1e6) ?? 1500,
    seed: wholeNumber("seed", values.seed, 0, 2 ** 32 - 1) ?? 1,
    device: deviceName(values.device),
    checkpoints: values.checkpoints === undefined ? undefined : resolve(values.checkpoints),
    help: values.help ?? false,
  };
}
