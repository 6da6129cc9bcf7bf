import { Buffer } from "node:buffer";
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { compileFunction } from "node:vm";
import type nodeGypBuild from "node-gyp-build/node-gyp-build.js";
import { MTAdamError } from "../errors";
import { compareVersions, isCutShort, readElf } from "./elf";
import { finderFile, flagAdvice, mayRead } from "./permissions";
import { packageFacts, packageRoot, systemLibc, systemName } from "./system";

// Finds and loads the addon, and reports why that failed. A local build comes first, since the user asked for it; then
// the prebuilt of the package. node-gyp-build knows their paths.

export type AddonKind = "local build" | "prebuilt";

/** A place without an addon, or a file that cannot be used as the addon. */
export interface FailedAttempt {
  kind: AddonKind;
  /** Absent where there is no file. */
  file?: string;
  problem: string;
}

export interface AddonSearch {
  found?: { kind: AddonKind; file: string; addon: unknown };
  /** The attempts that failed before. */
  failed: FailedAttempt[];
}

/** Loads the first file that can be loaded. Throws nothing. */
export function searchAddon(): AddonSearch {
  const failed: FailedAttempt[] = [];
  for (const { kind, file } of candidates()) {
    if (file === undefined) {
      failed.push({ kind, problem: absence(kind) });
      continue;
    }
    const outcome = open(file);
    if ("addon" in outcome) return { found: { kind, file, addon: outcome.addon }, failed };
    failed.push({ kind, file, problem: outcome.problem });
  }
  return { failed };
}

/**
 * The addon of this package.
 *
 * @throws MTAdamError LOAD: what was tried, what each attempt said, and what to do
 */
export function loadAddon(): unknown {
  const { found, failed } = searchAddon();
  if (found === undefined) throw new MTAdamError("LOAD", loadMessage(failed));
  for (const { kind, file, problem } of failed) {
    if (file === undefined) continue;
    // The user asked for this addon and gets another one.
    const warning = `mtadam uses its ${found.kind}, as the ${kind} ${file} cannot be loaded: ${problem}`;
    process.emitWarning(warning, { code: "MTADAM_FALLBACK" });
  }
  return found.addon;
}

interface Candidate {
  kind: AddonKind;
  /** Undefined where there is none. */
  file: string | undefined;
}

function* candidates(): Generator<Candidate> {
  const first = resolve(finder);
  const isLocal = first !== undefined && path.basename(path.dirname(path.dirname(first))) === "build";
  yield { kind: "local build", file: isLocal ? first : undefined };
  yield { kind: "prebuilt", file: isLocal ? resolve(prebuildsFinder) : first };
}

type Finder = typeof nodeGypBuild;

function resolve(load: () => Finder): string | undefined {
  try {
    return load().path(packageRoot);
  } catch {
    return undefined;
  }
}

/**
 * Not imported at the top: Node's permission model may forbid reading the module, or a file that the module reads while
 * it is loaded.
 */
function finder(): Finder {
  return createRequire(__filename)(finderFile()) as Finder;
}

/**
 * A second copy of node-gyp-build that finds only prebuilds: it reads PREBUILDS_ONLY when it is loaded. The copy has an
 * environment of its own, so that neither `process.env` nor the module cache changes for other code (Jest's cache cannot
 * be changed).
 */
function prebuildsFinder(): Finder {
  const load = createRequire(__filename);
  const filename = finderFile();
  const evaluate = compileFunction(readFileSync(filename, "utf8"), ["module", "require", "process"], {
    filename,
  }) as (module: { exports: unknown }, require: NodeJS.Require, own: NodeJS.Process) => void;
  const module: { exports: unknown } = { exports: undefined };
  const env = { ...process.env, PREBUILDS_ONLY: "1" };
  evaluate(module, load, Object.create(process, { env: { value: env } }) as NodeJS.Process);
  return module.exports as Finder;
}

/** The message for a missing file. */
function absence(kind: AddonKind): string {
  if (kind === "prebuilt") return prebuildsAbsence();
  if (process.env["PREBUILDS_ONLY"]) return "not tried, as PREBUILDS_ONLY is set";
  const folder = path.join(searchedFolder(), "build", "Release");
  return mayRead(folder) ? `there is none in ${folder}` : denial(folder);
}

/** The folder that node-gyp-build searches; its environment variable can replace the package's folder. */
function searchedFolder(): string {
  return process.env["MTADAM_PREBUILD"] ?? packageRoot;
}

function denial(folder: string): string {
  return `this process may not read ${folder}`;
}

function prebuildsAbsence(): string {
  const folder = path.join(searchedFolder(), "prebuilds");
  if (!mayRead(folder)) return denial(folder);
  let platforms: string[] = [];
  try {
    platforms = readdirSync(folder);
  } catch {
    // There are no prebuilts for any platform.
  }
  const libc = systemLibc();
  const platform = `${process.platform}-${process.arch}${libc === undefined ? "" : ` with ${libc.name}`}`;
  const others = platforms.length === 0 ? "" : `, only for ${platforms.sort().join(", ")}`;
  return `there is none for ${platform} in ${folder}${others}`;
}

/** Loads a file as the addon of this version of the package. */
function open(file: string): { addon: unknown } | { problem: string } {
  let addon: unknown;
  try {
    if (process.platform === "linux" && isTruncated(file)) return { problem: "the file is cut short" };
    addon = createRequire(__filename)(file);
  } catch (error) {
    return { problem: describeFailure(file, error) };
  }
  const { version } = (addon ?? {}) as { version?: unknown };
  const wanted = packageFacts()?.version;
  if (version === wanted && wanted !== undefined) return { addon };
  return {
    problem:
      typeof version === "string"
        ? `it is of version ${version}, and the package of version ${wanted ?? "unknown"}`
        : "it is no addon of mtadam, or one of a version before 0.1.0",
  };
}

function isTruncated(file: string): boolean {
  const descriptor = openSync(file, "r");
  try {
    return isCutShort(fstatSync(descriptor).size, (start, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(descriptor, bytes, 0, length, start));
    });
  } finally {
    closeSync(descriptor);
  }
}

/** The system's error in one line, and the cause as far as the file shows it. */
function describeFailure(file: string, error: unknown): string {
  // Not `instanceof Error`: the error may come from another realm.
  const [line = ""] = String((error as Partial<Error> | null)?.message ?? error).split("\n");
  const said = line.startsWith(`${file}: `) ? line.slice(file.length + 2) : line;
  const remark = obstacle(file);
  return remark === undefined ? said : `${said} (${remark})`;
}

/** The reason in the file itself why it cannot be loaded. */
function obstacle(file: string): string | undefined {
  if (process.platform !== "linux") return undefined;
  let elf;
  try {
    elf = readElf(readFileSync(file));
  } catch {
    return undefined; // the system has said that it cannot be read
  }
  if (elf === undefined) return "it is no whole ELF file of 64 bits";
  if (elf.arch !== process.arch) return `it is for ${elf.arch}, and this process is ${process.arch}`;
  const libc = systemLibc();
  const needed = elf.needs.get("GLIBC");
  if (libc === undefined || needed === undefined) return undefined;
  if (libc.name === "musl") return `it needs glibc ${needed}, and this system has musl`;
  return libc.version !== undefined && compareVersions(needed, libc.version) > 0
    ? `it needs glibc ${needed}, and this system has ${libc.version}`
    : undefined;
}

function loadMessage(failed: readonly FailedAttempt[]): string {
  const facts = packageFacts();
  const attempts = failed.map(
    ({ kind, file, problem }) => `  ${kind}: ${file === undefined ? "" : `${file}: `}${problem}`,
  );
  const name = facts === undefined ? "mtadam" : `mtadam ${facts.version}`;
  return [
    `The native addon of ${name} cannot be loaded on ${systemName()}.`,
    ...attempts,
    advice(),
    "`npx mtadam inspect` says what else there is to know.",
  ].join("\n");
}

/** Advice for the user when no addon can be loaded. */
export function advice(): string {
  const flags = flagAdvice();
  // First, since without the right to read, nothing else is known.
  if (flags !== undefined) return flags;
  const facts = packageFacts();
  if (facts === undefined) {
    return (
      `A bundler has moved mtadam's code out of its package, to ${__dirname}: declare mtadam as external to the bundler, ` +
      "and have it in node_modules where the program runs."
    );
  }
  if (compareVersions(process.versions.node, facts.node) < 0) return `Node ${facts.node} or newer is needed.`;
  return (
    "`npx mtadam build` compiles it for this machine, with CMake 3.22 or newer, a C++20 compiler and the npm packages " +
    "cmake-js and node-addon-api."
  );
}
