import { readFileSync } from "node:fs";
import path from "node:path";

// The CPU time that Linux control groups allow, such as `docker run --cpus=2` or a limit of Kubernetes sets it.
// os.availableParallelism() of Node 20 ignores it.

/** A mounted hierarchy of control groups that may limit CPU time. */
interface Hierarchy {
  version: 1 | 2;
  /** The group at the mount point. */
  root: string;
  mountPoint: string;
}

/** The quota in cores, such as 1.5; Infinity if there is no limit, and on systems without control groups. */
export function cpuQuota(): number {
  const quotas = hierarchies().flatMap((hierarchy) =>
    groupFolders(hierarchy).map((folder) => readQuota(hierarchy.version, folder)),
  );
  return Math.min(...quotas);
}

function hierarchies(): Hierarchy[] {
  return linesOf("/proc/self/mountinfo").flatMap((line): Hierarchy[] => {
    // The format of proc_pid_mountinfo(5): …, root, mount point, … - type, source, options.
    const [mount = "", system = ""] = line.split(" - ");
    const [, , , root = "", mountPoint = ""] = mount.split(" ");
    const [type, , options = ""] = system.split(" ");
    if (type === "cgroup2") return [{ version: 2, root, mountPoint }];
    const isForCpu = type === "cgroup" && options.split(",").includes("cpu");
    return isForCpu ? [{ version: 1, root, mountPoint }] : [];
  });
}

/** The folders of the process' group and of all groups that contain it: each may have a limit. */
function groupFolders({ version, root, mountPoint }: Hierarchy): string[] {
  const own = linesOf("/proc/self/cgroup")
    .map((line) => /^\d+:([^:]*):(.*)$/.exec(line))
    .find((found) => (version === 2 ? found?.[1] === "" : found?.[1]?.split(",").includes("cpu")));
  const below = path.posix.relative(root, own?.[2] ?? root);
  // If the group lies outside the mount, as in a container that sees the host's group names, only the mount point is
  // known.
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

/** The lines of a file; none if it cannot be read. */
function linesOf(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
}
