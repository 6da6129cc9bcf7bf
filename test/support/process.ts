import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";

export interface Ended {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** Runs a script, which must end by itself. */
export function runScript(script: string, ...flags: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [...flags, "-e", script], { timeout: 30_000, killSignal: "SIGKILL" });
  return endOf(child);
}

/** Resolves when the process has ended, with all that it printed. */
export function endOf(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const ended: Ended = { code: null, signal: null, stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (ended.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (ended.stderr += text));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve({ ...ended, code, signal });
    });
  });
}
