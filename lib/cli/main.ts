#!/usr/bin/env node
import { packageFacts } from "../addon/system";
import { build } from "./build";
import { CommandError } from "./command-error";
import { inspect } from "./inspect";

// The command `mtadam`. Exits with 0 where all went well, 1 where the addon cannot be used or built, 2 where the command
// line is wrong.

const HELP = `Usage: npx mtadam <command> [options]

  inspect           What this machine and this installation have, and why a device cannot be used
    --json            as JSON

  build             Compiles the addon for this machine, from the sources that came with the package
    --cuda <choice>         on, off, or auto (the default): where there is a CUDA compiler
    --architecture <number> the kernels for one compute capability alone, such as 90 for 9.0
    --verbose               with the output of the tools

  --help            This text
  --version         The version of the package
`;

const COMMANDS = new Map([
  ["inspect", inspect],
  ["build", build],
]);

async function main([command, ...args]: string[]): Promise<number> {
  if (command === undefined) throw new CommandError("A command is missing; `npx mtadam --help` lists them.");
  if (command === "--help" || command === "-h" || args.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  if (command === "--version") {
    process.stdout.write(`${packageFacts()?.version ?? "unknown"}\n`);
    return 0;
  }
  const run = COMMANDS.get(command);
  if (run === undefined) {
    throw new CommandError(
      `${JSON.stringify(command)} is no command of mtadam; \`npx mtadam --help\` lists them.`,
    );
  }
  return run(args);
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const isUsers = error instanceof CommandError;
    process.stderr.write(`${isUsers ? error.message : String(error)}\n`);
    process.exitCode = isUsers ? 2 : 1;
  },
);
