import { createHash, randomBytes } from "node:crypto";
import { opendir, readFile, readlink, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import type { Place } from "./path";

// The names of temporary files, and which of them nobody needs any more. A name says which file it is to become and which
// process writes it: `mtadam-<file>-<machine>-<pid>-<start>-<random>.tmp`. It is short, whatever the file's name.

/** A process, as its temporary files tell it from others. */
interface Writer {
  /** Of the system since it was started, and of the process numbers: each container has its own. */
  readonly machine: string;
  readonly pid: number;
  /** When it was started, in clock ticks, where the system says so: numbers are used again. */
  readonly start: string;
}

/** How long nobody may have written to a file of which we cannot know whether its process lives, in milliseconds. */
const ABANDONED = 3_600_000;

const NAME = /^mtadam-([0-9a-f]{8})-([0-9a-f]{8})-(\d{1,10})-(\d{1,20})-[0-9a-f]{12}\.tmp$/;

/** A new name for a temporary file that is to become `target`. */
export async function temporaryName(target: Place): Promise<string> {
  const { machine, pid, start } = await thisProcess();
  return `mtadam-${digest(target.name)}-${machine}-${pid}-${start}-${randomBytes(6).toString("hex")}.tmp`;
}

/**
 * Removes the temporary files that dead processes have left beside `target` and that were to become it. Never fails: they
 * stay where the folder cannot be read or they cannot be removed.
 *
 * @param ours the temporary file of this save: its time is that of the file system's clock
 */
export async function removeStale(target: Place, ours: Place): Promise<void> {
  try {
    const self = await thisProcess();
    const { mtimeMs: now } = await stat(ours.path);
    const folder = target.folder;
    for await (const { name } of await opendir(folder.path)) {
      const [, file, machine = "", pid, start = ""] = NAME.exec(name) ?? [];
      if (file !== digest(target.name)) continue;
      const place = folder.file(name);
      if (await isStale(place, { machine, pid: Number(pid), start }, self, now)) {
        await rm(place.path, { force: true }).catch(() => undefined);
      }
    }
  } catch {
    // A save does not need it.
  }
}

async function isStale(place: Place, writer: Writer, self: Writer, now: number): Promise<boolean> {
  const life = writer.machine === self.machine ? await lifeOf(writer) : "unknown";
  if (life !== "unknown") return life === "dead";
  const { mtimeMs } = await stat(place.path);
  return now - mtimeMs > ABANDONED;
}

async function lifeOf({ pid, start }: Writer): Promise<"alive" | "dead" | "unknown"> {
  try {
    process.kill(pid, 0); // sends nothing
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return "dead";
  }
  const found = await readProcess(pid);
  if (found === undefined) return "unknown";
  return found.start === start && !found.isZombie ? "alive" : "dead";
}

async function thisProcess(): Promise<Writer> {
  const { pid } = process;
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => hostname());
  const numbers = await readlink("/proc/self/ns/pid").catch(() => "");
  return { machine: digest(`${boot} ${numbers}`), pid, start: (await readProcess(pid))?.start ?? "0" };
}

/** What Linux tells of a process; undefined if nothing. */
async function readProcess(pid: number): Promise<{ start: string; isZombie: boolean } | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // After the command's name, which may have any characters: state is the third field, the time of the start the 22nd.
  const [state, ...fields] = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const start = fields[18];
  return start === undefined ? undefined : { start, isZombie: state === "Z" || state === "X" };
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 8);
