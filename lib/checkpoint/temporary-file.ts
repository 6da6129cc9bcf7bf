import { createHash, randomBytes } from "node:crypto";
import { opendir, readFile, readlink, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import type { Place } from "./path";

// The names of temporary files, and the removal of abandoned ones. A name tells the target file and the process that
// writes it: `mtadam-<file>-<machine>-<pid>-<start>-<random>.tmp`. It is short even if the target's name is long.

/** A process, as the names of its temporary files identify it. */
interface WriterProcess {
  /** Identifies the boot of the system and the numbering of processes, of which each container has its own. */
  readonly machine: string;
  readonly pid: number;
  /** Its start time in clock ticks, or {@link UNKNOWN}: process numbers are reused. */
  readonly start: string;
}

/** In place of a start time, where the system does not tell it, or not at this moment: too many files may be open. */
const UNKNOWN = "0";

/**
 * If it is unknown whether a file's process lives, the file is abandoned after this long without a write, in
 * milliseconds.
 */
const ABANDONED = 3_600_000;

const NAME = /^mtadam-([0-9a-f]{8})-([0-9a-f]{8})-(\d{1,10})-(\d{1,20})-[0-9a-f]{12}\.tmp$/;

/** A new name for a temporary file that is to become `target`. */
export async function temporaryName(target: Place): Promise<string> {
  const { machine, pid, start } = await thisProcess();
  return `mtadam-${digest(target.name)}-${machine}-${pid}-${start}-${randomBytes(6).toString("hex")}.tmp`;
}

/**
 * Removes the temporary files for `target` that dead processes have left. Never fails: files that cannot be listed or
 * removed stay.
 *
 * @param ours the temporary file of this save: its time of change tells the file system's clock
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
    // A save succeeds without the removal.
  }
}

async function isStale(
  place: Place,
  writer: WriterProcess,
  self: WriterProcess,
  now: number,
): Promise<boolean> {
  const life = writer.machine === self.machine ? await lifeOf(writer) : "unknown";
  if (life !== "unknown") return life === "dead";
  const { mtimeMs } = await stat(place.path);
  return now - mtimeMs > ABANDONED;
}

async function lifeOf({ pid, start }: WriterProcess): Promise<"alive" | "dead" | "unknown"> {
  try {
    process.kill(pid, 0); // sends nothing
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return "dead";
  }
  if (start === UNKNOWN) return "unknown";
  const found = await readProcess(pid);
  if (found === undefined) return "unknown";
  return found.start === start && !found.isZombie ? "alive" : "dead";
}

async function thisProcess(): Promise<WriterProcess> {
  const { pid } = process;
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => hostname());
  const numbers = await readlink("/proc/self/ns/pid").catch(() => "");
  return { machine: digest(`${boot} ${numbers}`), pid, start: (await readProcess(pid))?.start ?? UNKNOWN };
}

/** Facts about a process from Linux; undefined if there are none. */
async function readProcess(pid: number): Promise<{ start: string; isZombie: boolean } | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // After the command's name, which may have any characters: state is the third field, the time of the start the 22nd.
  const [state, ...fields] = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const start = fields[18];
  return start === undefined ? undefined : { start, isZombie: state === "Z" || state === "X" };
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 8);
