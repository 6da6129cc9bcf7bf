import { parseArgs, type ParseArgsConfig } from "node:util";

/** A command line that cannot be followed; the message says what is wrong with which option. */
export class UsageError extends Error {}

/** The values of the options, as text. Throws a UsageError. */
export function parseArguments<T extends NonNullable<ParseArgsConfig["options"]>>(
  args: string[],
  options: T,
) {
  try {
    return parseArgs({ args, options }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** The number that an option names, checked; undefined where it is not given. */
export function wholeNumber(
  name: string,
  text: string | undefined,
  least = 1,
  most = Infinity,
): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  const range = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new UsageError(`--${name} must be a whole number ${range}; got "${text}".`);
}

/** A device name for `openDevice`; without the option, the CPU. */
export function deviceName(text = "cpu"): string {
  if (/^(cpu|cuda|cuda:\d+|auto)$/.test(text)) return text;
  throw new UsageError(`--device must be cpu, cuda, cuda:N or auto; got "${text}".`);
}

/** Runs a program with the arguments of the process. Its result becomes the exit code. */
export async function runProgram(program: (args: string[]) => Promise<number>): Promise<void> {
  try {
    process.exitCode = await program(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    // Our own error codes explain themselves; any other error is a bug, which needs its stack.
    const expected =
      error instanceof UsageError || ("code" in error && String(error.code).startsWith("ERR_MTADAM"));
    console.error(expected ? error.message : error);
    if (error instanceof UsageError) console.error("--help lists the options.");
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}
