import { execFileSync } from "node:child_process";
import { readFile, rename, writeFile } from "node:fs/promises";
import { arch, cpus, platform, release, totalmem } from "node:os";
import { describeDevices, type Device } from "mtadam";
import { format } from "prettier";
import type { HostCost } from "./host.mjs";
import type { PeerState } from "./peers.mjs";
import { spread, type Spread } from "./statistics.mjs";
import type { Form, Way } from "./traffic.mjs";

/** One turn of a contender, and what the machine gave right before and after it. */
export interface Round {
  /** Of one step. */
  seconds: number;
  /** Bytes per second of read-modify-write, and of reading. */
  rmw: number;
  read: number;
  /** Seconds of plain loops over the same traffic; absent where a contender has none of its own. */
  traffic?: number;
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

export interface Results {
  machine: { cpu: string; cores: number; memoryGiB: number; system: string };
  instructionSet: string;
  threads: number;
  node: string;
  commit: string;
  date: string;
  /** Options of the run that change what its figures mean. */
  rounds: number;
  quick: boolean;
  peers: PeerState[];
  settings: SettingResult[];
  host: HostCost[];
}

/** Results without a figure yet, of this machine. */
export function emptyResults(device: Device, rounds: number, quick: boolean): Results {
  return {
    machine: {
      cpu: cpus()[0]?.model.trim() ?? arch(),
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${platform()} ${release()}, ${arch()}`,
    },
    instructionSet: describeDevices().cpu.instructionSet,
    threads: device.threads,
    node: process.versions.node,
    commit: commit(),
    date: new Date().toISOString().slice(0, 10),
    rounds,
    quick,
    peers: [],
    settings: [],
    host: [],
  };
}

function commit(): string {
  const git = (...args: string[]) =>
    execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const changed = git("status", "--porcelain", "--untracked-files=no") !== "";
    return git("rev-parse", "--short", "HEAD") + (changed ? " with changes" : "");
  } catch {
    return "unknown"; // not a checkout
  }
}

/** Written whole or not at all; figures with as many digits as mean something. */
export async function saveResults(path: string, results: Results): Promise<void> {
  const text = JSON.stringify(results, (_, value: unknown) => {
    return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
  });
  await writeFile(`${path}.tmp`, await format(text, { parser: "json", printWidth: 110 }));
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
