import { execFileSync } from "node:child_process";
import { readFile, rename, writeFile } from "node:fs/promises";
import { arch, cpus, platform, release, totalmem } from "node:os";
import { join } from "node:path";
import { describeDevices, type Device } from "mtadam";
import { ROOT } from "../common/root.mjs";
import { readIfThere } from "../common/text.mjs";
import type { HostCost } from "./host.mjs";
import type { PeerState } from "./peers.mjs";
import type { Ceiling } from "./roof.mjs";
import { spread, type Spread } from "./statistics.mjs";
import { bytesReadOnce, type Form, type Way } from "./traffic.mjs";

/**
 * One turn of a contender, and what the machine gave right before and after it; `traffic` is absent where a contender has
 * none of its own.
 */
export interface Round extends Ceiling {
  /** Of one step. */
  seconds: number;
}

export interface ContenderResult {
  name: string;
  way: Way;
  parameters: number;
  bytesPerParameter?: number;
  stateBytes?: number;
  /** Why there are no rounds. */
  notRun?: string;
  rounds: Round[];
}

/** "warm": the same buffers in every step; "cold": others, or more than the caches hold. */
export type Inputs = "warm" | "cold";

/** What was measured in turns. */
export interface SettingResult {
  subject: string;
  terms: number;
  form: Form;
  inputs: Inputs;
  contenders: ContenderResult[];
}

/** The GPU, where the steps were taken on one. */
export interface Gpu {
  name: string;
  computeCapability: string;
  /** The newest CUDA that the driver serves, and the CUDA of the build. */
  driver: string;
  runtime: string;
}

export interface Results {
  gpu?: Gpu;
  machine: { cpu: string; cores: number; memoryGiB: number; system: string };
  instructionSet: string;
  threads: number;
  node: string;
  commit: string;
  date: string;
  /** Options of the run that change what its figures mean. */
  rounds: number;
  quick: boolean;
  /** Settings that were asked for when the time was up. */
  left?: number;
  peers: PeerState[];
  settings: SettingResult[];
  host: HostCost[];
}

/** Results without a figure yet, of this machine. */
export async function emptyResults(
  device: Device,
  { rounds, quick, gpu }: { rounds: number; quick: boolean; gpu?: Gpu | undefined },
): Promise<Results> {
  return {
    ...(gpu === undefined ? {} : { gpu }),
    machine: {
      cpu: cpus()[0]?.model.trim() ?? arch(),
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${platform()} ${release()}, ${arch()}`,
    },
    instructionSet: describeDevices().cpu.instructionSet,
    threads: device.threads,
    node: process.versions.node,
    commit: await commit(),
    date: new Date().toISOString().slice(0, 10),
    rounds,
    quick,
    peers: [],
    settings: [],
    host: [],
  };
}

async function commit(): Promise<string> {
  const git = (...args: string[]) =>
    execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const changed = git("status", "--porcelain", "--untracked-files=no") !== "";
    return git("rev-parse", "--short", "HEAD") + (changed ? " with changes" : "");
  } catch {
    // Not a checkout: scripts/gpu-check writes down what it builds.
    return (await readIfThere(join(ROOT, "build/commit")))?.trim() ?? "unknown";
  }
}

/** As JSON; figures with as many digits as mean something. */
export function resultsText(results: Results): string {
  return JSON.stringify(results, (_, value: unknown) => {
    return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
  });
}

/** Written whole or not at all. */
export async function saveResults(path: string, results: Results): Promise<void> {
  await writeFile(`${path}.tmp`, `${resultsText(results)}\n`);
  await rename(`${path}.tmp`, path);
}

export async function readResults(path: string): Promise<Results> {
  return JSON.parse(await readFile(path, "utf8")) as Results;
}

// ---- What the rounds come to: always a ratio within each round, then the median over them ----

/** Seconds of one step. */
export function secondsPerStep({ rounds }: ContenderResult): Spread {
  return spread(rounds.map(({ seconds }) => seconds));
}

/** Of read-modify-write bandwidth: what the table's bytes would have taken ÷ what the step took. */
export function shareOfRmw(contender: ContenderResult): Spread | undefined {
  const { rounds, parameters, bytesPerParameter } = contender;
  if (bytesPerParameter === undefined || rounds.length === 0) return undefined;
  return spread(rounds.map(({ seconds, rmw }) => (bytesPerParameter * parameters) / rmw / seconds));
}

/** Of plain loops with the same traffic: what they took ÷ what the step took. */
export function shareOfTraffic({ rounds }: ContenderResult): Spread | undefined {
  const shares = rounds.flatMap(({ seconds, traffic }) => (traffic === undefined ? [] : [traffic / seconds]));
  return shares.length === 0 ? undefined : spread(shares);
}

/** Bytes per second of copying on a GPU: the better of two ways. */
export function copyBandwidth({ copy, memcpy }: Round): number | undefined {
  return copy === undefined ? undefined : Math.max(copy, memcpy ?? 0);
}

/** Of the bandwidth of copying: what the table's bytes would have taken ÷ what the step took. */
export function shareOfCopy(
  { rounds, parameters, bytesPerParameter }: ContenderResult,
  bytes = bytesPerParameter,
): Spread | undefined {
  if (bytes === undefined) return undefined;
  const shares = rounds.flatMap((round) => {
    const bandwidth = copyBandwidth(round);
    return bandwidth === undefined ? [] : [(bytes * parameters) / bandwidth / round.seconds];
  });
  return shares.length === 0 ? undefined : spread(shares);
}

/** The same, had each gradient been read once. */
export function shareReadOnce(
  contender: ContenderResult,
  { form, terms }: SettingResult,
): Spread | undefined {
  if (contender.bytesPerParameter === undefined) return undefined;
  return shareOfCopy(contender, bytesReadOnce(form, contender.way, terms));
}

/** How many times as long as another contender of the setting, in the rounds that both took part in. */
export function timesAsLong(contender: ContenderResult, other: ContenderResult): Spread | undefined {
  const ratios = contender.rounds.flatMap(({ seconds }, k) => {
    const of = other.rounds[k];
    return of === undefined ? [] : [seconds / of.seconds];
  });
  return ratios.length === 0 ? undefined : spread(ratios);
}

export function contenderOf(setting: SettingResult, name: string): ContenderResult | undefined {
  return setting.contenders.find((contender) => contender.name === name);
}
