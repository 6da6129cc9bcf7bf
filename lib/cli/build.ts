import { spawnSync } from "node:child_process";
import path from "node:path";
import { searchAddon } from "../addon";
import { packageRoot } from "../system";

/**
 * Compiles the addon where this package lies, as `npm run build:native` does in a checkout, and tries to load it. The
 * script knows the options and says what is wrong with them.
 */
export async function build(args: string[]): Promise<number> {
  const script = path.join(packageRoot, "scripts", "build-native.js");
  const { status } = spawnSync(process.execPath, [script, ...args], { stdio: "inherit" });
  if (status !== 0) return status ?? 1;
  const { found, failed } = searchAddon();
  const local = failed.find(({ kind }) => kind === "local build");
  if (found?.kind === "local build") {
    process.stdout.write(`Built, and loads: ${found.file}\n`);
    return 0;
  }
  process.stderr.write(
    `Built, but cannot be loaded: ${local?.file ?? packageRoot}: ${local?.problem ?? ""}\n`,
  );
  return 1;
}
