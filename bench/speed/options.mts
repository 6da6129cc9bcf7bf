import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { parseArguments, UsageError, wholeNumber } from "../../examples/common/command-line.mjs";
import { SUBJECTS } from "./shapes.mjs";

/** What the command line asks for. */
export interface Options {
  /** Keys of shapes; empty: host costs alone. */
  shapes: string[];
  terms: number[];
  rounds: number;
  threads: number;
  /** The interpreter for the peers; undefined: they do not run. */
  python: string | undefined;
  /** Terms that the peers run with. */
  peerTerms: number[];
  /** Absolute path of the folder for results. */
  out: string;
  /** Keeps the settings in `out` that this run does not measure. */
  add: boolean;
  /** A file of earlier results. */
  compare: string | undefined;
  quick: boolean;
  help: boolean;
}

export const HELP = `Usage: npm run bench -- [options]

How long a step takes, against what this machine's memory gives at the same moment and
against PyTorch. Writes a table, a plot and every round's figures.

  --shapes KEYS        ${SUBJECTS.map(({ key }) => key).join(",")} (all), or none
  --terms NUMBERS      numbers of loss terms (1,2,3,10)
  --rounds N           turns of each contender (9)
  --threads N          threads that compute, of everyone (as many as there are cores)
  --python PATH        an interpreter with PyTorch, for the peers (none: not run)
  --peer-terms NUMBERS those of --terms that the peers run with (3)
  --out FOLDER         where results go (docs/speed)
  --add                keep in that folder what this run does not measure
  --compare FILE       earlier results.json: prints what has moved beyond the noise
  --device cpu         the only one so far
  --quick              a few seconds that show that all of it works; needs --out
  --help               this text
`;

const TERMS = [1, 2, 3, 10];
const ROUNDS = 9;
const QUICK = { shapes: "mnist", terms: "3", rounds: "3" };

/** The options in `args` (without node and script), checked. Throws a UsageError. */
export function parseOptions(args: string[]): Options {
  const given = parseArguments(args, {
    shapes: { type: "string" },
    terms: { type: "string" },
    rounds: { type: "string" },
    threads: { type: "string" },
    python: { type: "string" },
    "peer-terms": { type: "string" },
    out: { type: "string" },
    add: { type: "boolean" },
    compare: { type: "string" },
    device: { type: "string" },
    quick: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  const quick = given.quick ?? false;
  const values = quick ? { ...QUICK, ...given } : given;
  if (quick && values.out === undefined) {
    throw new UsageError("--quick must come with --out: a quick look is no result to keep.");
  }
  if (values.device !== undefined && values.device !== "cpu") {
    throw new UsageError(
      `--device must be "cpu"; got "${values.device}". For a GPU there is no roof yet: nothing here measures its memory.`,
    );
  }
  return {
    shapes: keys(values.shapes),
    terms: numbers("terms", values.terms) ?? TERMS,
    rounds: wholeNumber("rounds", values.rounds) ?? ROUNDS,
    threads: wholeNumber("threads", values.threads) ?? availableParallelism(),
    python: values.python,
    peerTerms: numbers("peer-terms", values["peer-terms"]) ?? [3],
    out: resolve(values.out ?? "docs/speed"),
    add: values.add ?? false,
    compare: values.compare === undefined ? undefined : resolve(values.compare),
    quick,
    help: values.help ?? false,
  };
}

function keys(text: string | undefined): string[] {
  const all = SUBJECTS.map(({ key }) => key);
  if (text === undefined) return all;
  if (text === "none") return [];
  const chosen = text.split(",");
  const unknown = chosen.find((key) => !all.includes(key));
  if (unknown === undefined) return all.filter((key) => chosen.includes(key));
  throw new UsageError(`--shapes must be some of ${all.join(",")}, or none; got "${unknown}".`);
}

function numbers(name: string, text: string | undefined): number[] | undefined {
  if (text === undefined) return undefined;
  return [...new Set(text.split(",").map((number) => wholeNumber(name, number)!))].sort((a, b) => a - b);
}
