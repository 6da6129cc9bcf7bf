import { spawnSync } from "node:child_process";
import path from "node:path";
import { searchAddon } from "../addon/load";
import { packageRoot } from "../addon/system";

/**
 * Compiles the addon in the package's folder, as `npm run build:native` does in a checkout, and tries to load it. The
 * script checks the options.
 */
export async function build(args: string[]): Promise<number> {
  const script = path.join(packageRoot, "scripts", "build", "native.js");
  const { status, signal, error } = spawnSync(process.execPath, [script, ...args], { stdio: "inherit" });
  if (status === null) {
    // The script could not report it itself.
    const problem =
      error === undefined ? `was killed by ${String(signal)}` : `could not be started: ${error.message}`;
    process.stderr.write(`The build ${problem}.\n`);
    return 1;
  }
  if (status !== 0) return status;
  const { found, failed } = searchAddon();
  if (found?.kind === "local build") {
    process.stdout.write(`The addon was built and can be loaded: ${found.file}\n`);
    return 0;
  }
  const problem = failed.find(({ kind }) => kind === "local build")?.problem ?? "it was not found";
  process.stderr.write(`The addon was built but cannot be loaded: ${problem}.\n`);
  return 1;
}
