#!/usr/bin/env node
import { packageFacts } from "../addon/system";
import { MTAdamError } from "../errors";
import { build } from "./build";
import { CommandError } from "./command-error";
import { inspect } from "./inspect";
import { merge } from "./merge";
import { report } from "./report";

// The command `mtadam`. Exit codes: 0 for success, 1 if the command fails, 2 for an invalid command line.

const HELP = `Usage: npx mtadam <command> [options]

  inspect           Shows the addon and the devices, and why a device cannot be used
    --json            Print JSON

  build             Compiles the addon for this machine from the sources in the package
    --cuda <choice>         on, off, or auto (default): on if a CUDA compiler is found
    --architecture <number> Compile the kernels for one compute capability, for example 90 for 9.0
    --verbose               Show the output of the tools

  merge <piece>…    Makes one checkpoint of the pieces that the ranks have saved
    -o, --output <file>     The checkpoint; default: the name of the first piece, without .1-of-4

  report <file>…    Makes a page of the files that BalanceMonitors have written
    -o, --output <file>     The page; default: the name of the first file, with .html
    --title <text>          The title of the page
    --watch                 Serve the page on this machine while the training goes on
    --port <number>         The port of --watch; default: any free one

  --help            Shows this text
  --version         Shows the version of the package
`;

const COMMANDS = new Map([
  ["inspect", inspect],
  ["build", build],
  ["merge", merge],
  ["report", report],
]);

async function main([command, ...args]: string[]): Promise<number> {
  if (command === undefined)
    throw new CommandError("No command was given; `npx mtadam --help` lists the commands.");
  if (command === "--help" || command === "-h" || args.includes("--help") || args.includes("-h")) {
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
      `${JSON.stringify(command)} is not a command of mtadam; \`npx mtadam --help\` lists the commands.`,
    );
  }
  return run(args);
}

for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    // The reader has closed the pipe, as in `mtadam inspect | head -1`.
    if (error.code !== "EPIPE") throw error;
  });
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const isKnown = error instanceof CommandError || error instanceof MTAdamError;
    process.stderr.write(`${isKnown ? error.message : String(error)}\n`);
    process.exitCode = error instanceof CommandError ? 2 : 1;
  },
);
