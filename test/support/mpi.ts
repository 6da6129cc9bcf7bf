import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "./folder";
import { endOf, type Ended } from "./process";

const folder = temporaryFolder();

const has = (command: string): boolean => spawnSync(command, ["--version"]).status === 0;

/** The launchers of Open MPI and MPICH, as Debian names them, that are there. */
export const launchers = ["mpirun.openmpi", "mpirun.mpich"].filter(has);

/** Tests for each launcher. One that is missing is skipped, except where MTADAM_REQUIRE_MPI is set, as in CI. */
export function withMpi(what: string, body: (launcher: string) => void): void {
  for (const launcher of ["mpirun.openmpi", "mpirun.mpich"]) {
    const name = `${what}, ${launcher}`;
    if (launchers.includes(launcher)) {
      describe(name, () => {
        body(launcher);
      });
      continue;
    }
    const advice = `needs ${launcher} (Debian: apt-get install openmpi-bin libopenmpi-dev mpich libmpich-dev)`;
    if (process.env["MTADAM_REQUIRE_MPI"]) throw new Error(`${name}: ${advice}`);
    process.stderr.write(`skipped: ${name} ${advice}\n`);
    describe.skip(name, () => {
      body(launcher);
    });
  }
}

/** Runs a program, of test/support/ranks unless its path is absolute, on so many ranks, in at most 60 seconds. */
export function runRanks(
  launcher: string,
  ranks: number,
  program: string,
  ...values: string[]
): Promise<Ended> {
  return launch(launcher, ranks, [...commandOf(program), ...values]);
}

/** The same; returns the exit codes of the ranks that end by themselves. The launcher's own may be that of any rank. */
export async function exitCodesOfRanks(
  launcher: string,
  ranks: number,
  program: string,
  ...values: string[]
): Promise<number[]> {
  const file = path.join(mkdtempSync(path.join(folder, "codes-")), "codes");
  const script = 'file=$1; shift; "$@"; code=$?; echo $code >> "$file"; exit $code';
  await launch(launcher, ranks, ["sh", "-c", script, "sh", file, ...commandOf(program), ...values]);
  return readFileSync(file, "utf8").trim().split("\n").map(Number);
}

const commandOf = (program: string): string[] => [
  process.execPath,
  path.resolve(__dirname, "ranks", program),
];

/** A library that makes a rank sleep while it waits, which Open MPI's do by themselves. */
function patient(): string {
  const library = path.join(folder, "libpatient.so");
  if (!existsSync(library)) {
    execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", library, path.join(__dirname, "ranks/patient.c")]);
  }
  return library;
}

function launch(launcher: string, ranks: number, command: readonly string[]): Promise<Ended> {
  const isOpenMpi = launcher === "mpirun.openmpi";
  const own = isOpenMpi ? ["--oversubscribe"] : [];
  const limited = ["--verbose", "-k", "5", "60", launcher, ...own, "-n", String(ranks), ...command];
  const child = spawn("timeout", limited, {
    env: {
      ...process.env,
      ...(isOpenMpi ? {} : { LD_PRELOAD: patient() }),
      OMPI_ALLOW_RUN_AS_ROOT: "1",
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
      NO_COLOR: "1",
    },
  });
  return endOf(child);
}
