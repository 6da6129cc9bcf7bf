import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { parseArguments, UsageError, wholeNumber } from "../../examples/common/command-line.mjs";
import { DEFAULTS, SUBJECTS, type Subject } from "./shapes.mjs";

/** What the command line asks for. */
export interface Options {
  /** As `openDevice` names it. */
  device: string;
  /** In the order in which they are measured, terms outside; no subject: host costs alone. */
  subjects: readonly Subject[];
  terms: number[];
  rounds: number;
  threads: number;
  /** The interpreter for the peers; undefined: they do not run. */
  python: string | undefined;
  /** Terms that the peers run with. */
  peerTerms: number[];
  /** Seconds that an answer of a peer may take. */
  patience: number;
  /** Seconds after which nothing else is begun. */
  seconds: number;
  /** Absolute path of the folder for results; undefined: the device's own. */
  out: string | undefined;
  /** Only results.json, which asks for no package. */
  figures: boolean;
  /** Only table and plot, of the results that are there. */
  draw: boolean;
  /** Only the tables as JSON, of the results that are there. */
  tables: boolean;
  /** Keeps the settings in `out` that this run does not measure. */
  add: boolean;
  /** A file of earlier results. */
  compare: string | undefined;
  /** Only the comparison of steps with subnormal and other gradients. */
  subnormal: boolean;
  /** Only the comparison of steps with moments of every type and form. */
  states: boolean;
  quick: boolean;
  help: boolean;
}

export const HELP = `Usage: npm run bench -- [options]

How long a step takes, against what the device's memory gives at the same moment and
against PyTorch. Writes a table, a plot and every round's figures.

  --device NAME        cpu, cuda or cuda:N (cpu)
  --shapes KEYS        of ${SUBJECTS.map(({ key }) => key).join(",")}, or none
                       (all; on the CPU without the last)
  --terms NUMBERS      numbers of loss terms (1,2,3,10); with shapes, in this order
  --rounds N           turns of each contender (9)
  --threads N          threads of the CPU that compute, of everyone (as many as there are cores)
  --python PATH        an interpreter with PyTorch, for the peers (none: not run)
  --peer-terms NUMBERS those of --terms that the peers run with (3)
  --patience SECONDS   that an answer of a peer may take (60)
  --seconds N          begin nothing else after so many seconds (no limit)
  --out FOLDER         where results go (docs/speed; of a GPU: docs/speed/<its name>)
  --add                keep in that folder what this run does not measure
  --compare FILE       earlier results.json: prints what has moved beyond the noise
  --figures            results.json alone, which asks for no package
  --draw               table and plot of the results that are in --out; measures nothing
  --tables             prints the tables of these as JSON; measures nothing
  --subnormal          prints how much longer steps take on the CPU if all gradients are
                       subnormal; measures nothing else
  --states             prints how long steps take on the CPU with each \`stateDtype\` and
                       way of summing moments, with current and with lagged scales, and
                       their share of the memory's speed; measures nothing else
  --quick              a few seconds that show that all of it works; needs --out
  --help               this text
`;

const TERMS = [1, 2, 3, 10];
const ROUNDS = 9;
const PATIENCE = 60;
const QUICK = { shapes: "mnist", terms: "3", rounds: "3" };

/** The options in `args` (without node and script), checked. Throws a UsageError. */
export function parseOptions(args: string[]): Options {
  const given = parseArguments(args, {
    device: { type: "string" },
    shapes: { type: "string" },
    terms: { type: "string" },
    rounds: { type: "string" },
    threads: { type: "string" },
    python: { type: "string" },
    "peer-terms": { type: "string" },
    patience: { type: "string" },
    seconds: { type: "string" },
    out: { type: "string" },
    add: { type: "boolean" },
    compare: { type: "string" },
    figures: { type: "boolean" },
    draw: { type: "boolean" },
    tables: { type: "boolean" },
    subnormal: { type: "boolean" },
    states: { type: "boolean" },
    quick: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  const quick = given.quick ?? false;
  const values = quick ? { ...QUICK, ...given } : given;
  if (quick && values.out === undefined) {
    throw new UsageError("--quick must come with --out: a quick look is no result to keep.");
  }
  const device = values.device ?? "cpu";
  if (!/^(cpu|cuda|cuda:\d+)$/.test(device)) {
    throw new UsageError(`--device must be cpu, cuda or cuda:N; got "${device}".`);
  }
  for (const reading of ["draw", "tables"] as const) {
    if (values[reading] && values.out === undefined) {
      throw new UsageError(`--${reading} must come with --out.`);
    }
  }
  return {
    device,
    subjects: subjectsOf(values.shapes) ?? DEFAULTS[device === "cpu" ? "cpu" : "cuda"],
    terms: numbers("terms", values.terms) ?? TERMS,
    rounds: wholeNumber("rounds", values.rounds) ?? ROUNDS,
    threads: wholeNumber("threads", values.threads) ?? availableParallelism(),
    python: values.python,
    peerTerms: numbers("peer-terms", values["peer-terms"]) ?? [3],
    patience: wholeNumber("patience", values.patience) ?? PATIENCE,
    seconds: wholeNumber("seconds", values.seconds) ?? Infinity,
    out: values.out === undefined ? undefined : resolve(values.out),
    figures: values.figures ?? false,
    draw: values.draw ?? false,
    tables: values.tables ?? false,
    add: values.add ?? false,
    compare: values.compare === undefined ? undefined : resolve(values.compare),
    subnormal: values.subnormal ?? false,
    states: values.states ?? false,
    quick,
    help: values.help ?? false,
  };
}

function subjectsOf(text: string | undefined): Subject[] | undefined {
  if (text === undefined) return undefined;
  if (text === "none") return [];
  const all = SUBJECTS.map(({ key }) => key);
  return [...new Set(text.split(","))].map((key) => {
    const subject = SUBJECTS.find((each) => each.key === key);
    if (subject) return subject;
    throw new UsageError(`--shapes must be some of ${all.join(",")}, or none; got "${key}".`);
  });
}

function numbers(name: string, text: string | undefined): number[] | undefined {
  if (text === undefined) return undefined;
  return [...new Set(text.split(",").map((number) => wholeNumber(name, number)!))];
}
