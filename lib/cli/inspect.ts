import { readFileSync } from "node:fs";
import { readElf } from "../addon/elf";
import { advice, searchAddon, type AddonKind, type AddonSearch, type FailedAttempt } from "../addon/load";
import { packageFacts, packageRoot, systemLibc, systemName, type Libc } from "../addon/system";
import type { DevicesDescription } from "../memory/open-device";
import { CommandError } from "./command-error";

/** The output of `mtadam inspect --json`. Keys may be added but are never renamed. Null: none or unknown. */
export interface Inspection {
  /** Of the package. */
  version: string | null;
  /** The folder of the package. */
  package: string;
  node: string;
  platform: string;
  arch: string;
  /** On Linux. */
  libc: Libc | null;
  addon: {
    loaded: boolean;
    kind: AddonKind | null;
    file: string | null;
    /** On Linux: the newest version needed of each family of symbols, for example `{ GLIBC: "2.34" }`. */
    needs: Record<string, string>;
    /** The attempts that failed before one succeeded, or all. */
    failed: FailedAttempt[];
    /** Advice if no addon was loaded. */
    advice: string | null;
  };
  /** Null without an addon. */
  cpu: (DevicesDescription["cpu"] & Usability) | null;
  /** Null without an addon. */
  cuda: DevicesDescription["cuda"] | null;
  /** On Linux: the version of NVIDIA's kernel module, for example "580.65.06". In a container, the host's. */
  kernelModule: string | null;
  /** The environment variables that are set and affect the search. */
  environment: Record<string, string>;
}

interface Usability {
  usable: boolean;
  /** Why it is not usable. */
  reason?: string;
}

/** Prints the inspection. Returns 0 if the CPU device works. */
export async function inspect(args: string[]): Promise<number> {
  for (const argument of args) {
    if (argument !== "--json") {
      throw new CommandError(`${JSON.stringify(argument)} is not an option of \`mtadam inspect\`.`);
    }
  }
  const inspection = await examine();
  process.stdout.write(args.length > 0 ? `${JSON.stringify(inspection, null, 2)}\n` : render(inspection));
  return inspection.cpu?.usable === true ? 0 : 1;
}

const ENVIRONMENT = ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "MTADAM_PREBUILD", "PREBUILDS_ONLY"];

async function examine(): Promise<Inspection> {
  const search = searchAddon();
  return {
    version: packageFacts()?.version ?? null,
    package: packageRoot,
    node: process.versions.node,
    platform: process.platform,
    arch: process.arch,
    libc: systemLibc() ?? null,
    addon: examineAddon(search),
    ...(search.found === undefined ? { cpu: null, cuda: null } : await examineDevices()),
    kernelModule: kernelModule(),
    environment: Object.fromEntries(
      ENVIRONMENT.flatMap((name) => {
        const value = process.env[name];
        return value === undefined ? [] : [[name, value]];
      }),
    ),
  };
}

function examineAddon({ found, failed }: AddonSearch): Inspection["addon"] {
  const file = found?.file ?? failed.find((attempt) => attempt.file !== undefined)?.file ?? null;
  return {
    loaded: found !== undefined,
    kind: found?.kind ?? null,
    file,
    needs: file === null ? {} : needsOf(file),
    failed,
    advice: found === undefined ? advice() : null,
  };
}

function needsOf(file: string): Record<string, string> {
  try {
    return Object.fromEntries(readElf(readFileSync(file))?.needs ?? []);
  } catch {
    return {}; // the failed load has reported it
  }
}

async function examineDevices(): Promise<Pick<Inspection, "cpu" | "cuda">> {
  // Imported only if the addon loads, since the package cannot be imported without it.
  const { describeDevices, MTAdam, openDevice } = await import("../index.js");
  const { cpu, cuda } = describeDevices();
  try {
    const parameter = new Float32Array(1);
    const optimizer = new MTAdam([parameter], { terms: 1, device: openDevice("cpu") });
    optimizer.step([[Float32Array.of(1)]]);
    return { cpu: { ...cpu, usable: true }, cuda };
  } catch (error) {
    return { cpu: { ...cpu, usable: false, reason: String(error) }, cuda };
  }
}

function kernelModule(): string | null {
  try {
    const text = readFileSync("/proc/driver/nvidia/version", "latin1");
    return /Module\D.*?\s(\d+(?:\.\d+)+)\s/.exec(text)?.[1] ?? null;
  } catch {
    return null;
  }
}

/** @internal As text: a subject per line, followed by its details. */
export function render(inspection: Inspection): string {
  const { version, addon, cpu, cuda, kernelModule: kernel, environment } = inspection;
  const sections: [string, ...string[]][] = [
    ["mtadam", `${version ?? "unknown"}, ${inspection.package}`, systemName()],
    ["addon", ...addonLines(inspection)],
  ];
  if (cpu !== null) sections.push(["cpu", ...cpuLines(cpu)]);
  if (cuda !== null) {
    sections.push(["cuda", ...cudaLines(cuda, kernel)]);
    for (const { index, name, computeCapability, reason } of cuda.devices) {
      sections.push([
        `cuda:${index}`,
        `${name}, compute capability ${computeCapability}`,
        reason ?? "usable",
      ]);
    }
  } else if (kernel !== null) {
    sections.push(["cuda", kernelLine(kernel)]);
  }
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  if (variables.length > 0) sections.push(["environment", ...variables] as [string, ...string[]]);
  if (addon.advice !== null) sections.push(["to do", addon.advice]);
  return sections
    .flatMap(([subject, ...lines]) =>
      lines.map((line, k) => `${(k === 0 ? subject : "").padEnd(12)} ${line}\n`),
    )
    .join("");
}

function addonLines({ addon, libc }: Inspection): string[] {
  const { GLIBC: glibc, GLIBCXX: glibcxx } = addon.needs;
  const needs = [
    ...(glibc === undefined ? [] : [`glibc ${glibc} (this system has ${libcName(libc)})`]),
    ...(glibcxx === undefined ? [] : [`GLIBCXX ${glibcxx}`]),
  ];
  return [
    ...(addon.loaded ? [`${addon.kind}, ${addon.file}`] : ["cannot be loaded"]),
    // A missing local build is no failure if a prebuilt loads.
    ...addon.failed
      .filter(({ file }) => file !== undefined || !addon.loaded)
      .map(({ kind, file, problem }) => `${kind}: ${file === undefined ? "" : `${file}: `}${problem}`),
    ...(needs.length === 0 ? [] : [`${addon.loaded ? "" : `${addon.file} `}needs ${needs.join(", ")}`]),
  ];
}

function libcName(libc: Libc | null): string {
  if (libc === null) return "none";
  return libc.name === "musl" ? "musl" : (libc.version ?? "an unknown version");
}

function cpuLines(cpu: NonNullable<Inspection["cpu"]>): string[] {
  return [
    `${cpu.name}, ${cpu.threads} ${cpu.threads === 1 ? "thread" : "threads"}`,
    `instruction set ${cpu.instructionSet} (available: ${cpu.instructionSets.join(", ")})`,
    cpu.reason ?? "usable",
  ];
}

function cudaLines(cuda: DevicesDescription["cuda"], kernel: string | null): string[] {
  const { driver, runtime, architectures, reason } = cuda;
  // A build without CUDA has no way to ask for the driver.
  const versions =
    runtime === undefined
      ? []
      : [
          `runtime ${runtime} in the addon, with code for ${architectures.join(", ")}`,
          driver === undefined ? "no driver" : `driver for CUDA ${driver} and older`,
        ];
  return [
    ...versions,
    ...(kernel === null ? [] : [kernelLine(kernel)]),
    ...(reason === undefined ? [] : [reason]),
  ];
}

function kernelLine(version: string): string {
  return `kernel module ${version}`;
}
