import { spawn, spawnSync } from "node:child_process";
import path from "node:path";
import { endOf, type Ended } from "./process";

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
  const own = launcher === "mpirun.openmpi" ? ["--oversubscribe"] : [];
  const file = path.resolve(__dirname, "ranks", program);
  const command = [
    "--verbose",
    "-k",
    "5",
    "60",
    launcher,
    ...own,
    "-n",
    String(ranks),
    process.execPath,
    file,
    ...values,
  ];
  const child = spawn("timeout", command, {
    env: { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1", NO_COLOR: "1" },
  });
  return endOf(child);
}
