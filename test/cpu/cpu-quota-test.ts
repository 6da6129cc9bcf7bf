/** The default number of threads if control groups limit the CPU time, tested with simulated files. */

import fs from "node:fs";
import os from "node:os";
import { describeDevices, openDevice } from "../../lib";

const CORES = 8;

/** The default number of threads on 8 cores with only these files in /proc and /sys. */
function threadsWith(files: Record<string, string>): number {
  const read = fs.readFileSync;
  const cores = jest.spyOn(os, "availableParallelism").mockReturnValue(CORES);
  const reading = jest.spyOn(fs, "readFileSync").mockImplementation((file, options) => {
    if (typeof file !== "string" || !/^\/(proc|sys)\//.test(file)) return read(file, options);
    const content = files[file];
    if (content === undefined) throw new Error(`ENOENT: ${file}`);
    return content;
  });
  try {
    const { threads } = openDevice("cpu");
    expect(describeDevices().cpu.threads).toBe(threads);
    return threads;
  } finally {
    reading.mockRestore();
    cores.mockRestore();
  }
}

const V2 = {
  "/proc/self/mountinfo":
    "24 30 0:22 / /proc rw,nosuid - proc proc rw\n30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
  "/proc/self/cgroup": "0::/\n",
};

const V1 = {
  "/proc/self/mountinfo":
    "31 30 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n" +
    "32 30 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n",
  "/proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
};

const ofV1 = (quota: number, folder = "/sys/fs/cgroup/cpu,cpuacct"): Record<string, string> => ({
  [`${folder}/cpu.cfs_quota_us`]: `${quota}\n`,
  [`${folder}/cpu.cfs_period_us`]: "100000\n",
});

test.each<[string, number, Record<string, string>]>([
  ["no control groups", CORES, {}],
  ["version 2, no limit", CORES, { ...V2, "/sys/fs/cgroup/cpu.max": "max 100000\n" }],
  ["version 2, no controller of the CPU", CORES, V2],
  ["version 2, three cores", 3, { ...V2, "/sys/fs/cgroup/cpu.max": "300000 100000\n" }],
  ["version 2, half a core", 1, { ...V2, "/sys/fs/cgroup/cpu.max": "50000 100000\n" }],
  ["version 2, two and a half, rounded down", 2, { ...V2, "/sys/fs/cgroup/cpu.max": "25000 10000\n" }],
  ["version 2, more than there are", CORES, { ...V2, "/sys/fs/cgroup/cpu.max": "6400000 100000\n" }],
  [
    "version 2, a group whose parent has the least",
    2,
    {
      ...V2,
      "/proc/self/cgroup": "0::/slice/service/part\n",
      "/sys/fs/cgroup/slice/cpu.max": "400000 100000\n",
      "/sys/fs/cgroup/slice/service/cpu.max": "200000 100000\n",
      "/sys/fs/cgroup/slice/service/part/cpu.max": "max 100000\n",
    },
  ],
  [
    "version 2, a group outside of what is mounted",
    4,
    { ...V2, "/proc/self/cgroup": "0::/../other\n", "/sys/fs/cgroup/cpu.max": "400000 100000\n" },
  ],
  ["version 1, no limit", CORES, { ...V1, ...ofV1(-1) }],
  ["version 1, one core, the container's group mounted", 1, { ...V1, ...ofV1(100000) }],
  [
    "version 1, a group inside",
    2,
    {
      ...V1,
      ...ofV1(500000),
      ...ofV1(200000, "/sys/fs/cgroup/cpu,cpuacct/inner"),
      "/proc/self/cgroup": "4:cpu,cpuacct:/docker/abc/inner\n0::/\n",
    },
  ],
  [
    "files that hold anything",
    CORES,
    { ...V2, "/proc/self/cgroup": "::\n0\n", "/sys/fs/cgroup/cpu.max": "?" },
  ],
])("%s: %d threads", (_, threads, files) => {
  expect(threadsWith(files)).toBe(threads);
});

test("an explicit number of threads is not limited", () => {
  expect(openDevice("cpu", { threads: CORES }).threads).toBe(CORES);
});
