import { readFileSync } from "node:fs";
import path from "node:path";

// The CPU time that control groups of Linux allow, as containers set it: `docker run --cpus=2`, a limit of Kubernetes.
// os.availableParallelism() of Node 20 does not know it.

/** A mounted hierarchy of control groups that may limit CPU time. */
interface Hierarchy {
  version: 1 | 2;
  /** The group at the mount point. */
  root: string;
  mountPoint: string;
}

/** In cores, such as 1.5; Infinity where nothing limits it, and on systems that have no such files. */
export function cpuQuota(): number {
  const quotas = hierarchies().flatMap((hierarchy) =>
    groupFolders(hierarchy).map((folder) => readQuota(hierarchy.version, folder)),
  );
  return Math.min(...quotas);
}

function hierarchies(): Hierarchy[] {
  return linesOf("/proc/self/mountinfo").flatMap((line): Hierarchy[] => {
    // As proc_pid_mountinfo(5) has it: …, root, mount point, … - type, source, options.
    const [mount = "", system = ""] = line.split(" - ");
    const [, , , root = "", mountPoint = ""] = mount.split(" ");
    const [type, , options = ""] = system.split(" ");
    if (type === "cgroup2") return [{ version: 2, root, mountPoint }];
    const isForCpu = type === "cgroup" && options.split(",").includes("cpu");
    return isForCpu ? [{ version: 1, root, mountPoint }] : [];
  });
}

/** The folders of the process' group and of all groups around it: each may have a limit. */
function groupFolders({ version, root, mountPoint }: Hierarchy): string[] {
  const own = linesOf("/proc/self/cgroup")
    .map((line) => /^\d+:([^:]*):(.*)$/.exec(line))
    .find((found) => (version === 2 ? found?.[1] === "" : found?.[1]?.split(",").includes("cpu")));
  const below = path.posix.relative(root, own?.[2] ?? root);
  // Outside of what is mounted, as in a container that shares the host's names of groups: only the mount point is known.
  const names = below === "" || below.startsWith("..") ? [] : below.split("/");
  return [mountPoint, ...names.map((_, k) => path.posix.join(mountPoint, ...names.slice(0, k + 1)))];
}

function readQuota(version: 1 | 2, folder: string): number {
  const words =
    version === 2
      ? (linesOf(`${folder}/cpu.max`)[0] ?? "").split(" ")
      : ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map((name) => linesOf(`${folder}/${name}`)[0]);
  const [quota = NaN, period = NaN] = words.map(Number);
  // Without a limit, the quota is "max" in version 2 and -1 in version 1.
  return quota > 0 && period > 0 ? quota / period : Infinity;
}

/** None of a file that cannot be read. */
function linesOf(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
}
