import { parseArgs } from "node:util";
import { CommandError } from "./command-error";

const PIECE = /\.\d+-of-\d+$/;

/** Puts the pieces of a checkpoint together. */
export async function merge(args: string[]): Promise<number> {
  const { values, positionals: files } = parse(args);
  const [first] = files;
  if (first === undefined) throw new CommandError("`mtadam merge` must get the pieces of a checkpoint.");
  const output = values.output ?? (PIECE.test(first) ? first.replace(PIECE, "") : undefined);
  if (output === undefined) {
    throw new CommandError("--output must name the file: the first piece's name does not end as in .1-of-2.");
  }
  // Not before: the other commands must run where the addon cannot be loaded.
  const { mergePieces } = await import("../checkpoint/pieces.js");
  await mergePieces(files, output);
  process.stdout.write(`Checkpoint: ${output}\n`);
  return 0;
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { output: { type: "string", short: "o" } },
    });
  } catch (error) {
    throw new CommandError((error as Error).message);
  }
}
