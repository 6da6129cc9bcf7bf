import { execFileSync } from "node:child_process";
import path from "node:path";

const root = path.join(__dirname, "../..");

/** Compiles the examples into one folder per worker, since several tests do so at the same time. */
export function compileExamples(): string {
  const folder = path.join(root, "build", `examples-${process.env["JEST_WORKER_ID"] ?? "0"}`);
  const compiler = require.resolve("typescript/bin/tsc");
  const args = ["-p", path.join(root, "examples"), "--outDir", folder];
  execFileSync(process.execPath, [compiler, "--noCheck", ...args]); // `npm run lint` checks types
  return folder;
}

/** The JSON that a script of this folder prints about the compiled examples. */
export function runOnExamples(script: string, folder: string, ...args: string[]): unknown {
  const all = [path.join(__dirname, script), folder, ...args];
  return JSON.parse(execFileSync(process.execPath, all, { encoding: "utf8" }));
}
