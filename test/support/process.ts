import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Ended {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** Whether a process runs; one that is dead and not waited for does not. Linux only. */
export function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
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
