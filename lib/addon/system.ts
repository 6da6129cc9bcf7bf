import { readFileSync } from "node:fs";
import path from "node:path";

// The package's own facts and this process' system, for messages and reports.

/** Two levels up both from lib/addon/ (tests) and from dist/addon/. */
export const packageRoot = path.join(__dirname, "..", "..");

export interface PackageFacts {
  version: string;
  /** The oldest supported Node, such as "20". */
  node: string;
}

/** Undefined if the code no longer lies in its package, because a bundler has moved it. */
export function packageFacts(): PackageFacts | undefined {
  try {
    const { name, version, engines } = JSON.parse(
      readFileSync(path.join(packageRoot, "package.json"), "utf8"),
    ) as { name: string; version: string; engines: { node: string } };
    return name === "mtadam" ? { version, node: engines.node.replace(">=", "") } : undefined;
  } catch {
    return undefined;
  }
}

/** The C library of a Linux system. */
export interface Libc {
  name: "glibc" | "musl";
  /** Unknown for musl. */
  version?: string;
}

let libc: Libc | undefined;

/** Undefined anywhere but on Linux. */
export function systemLibc(): Libc | undefined {
  if (process.platform !== "linux") return undefined;
  return (libc ??= detectLibc());
}

function detectLibc(): Libc {
  const { report } = process as { report?: NodeJS.ProcessReport & { excludeNetwork?: boolean } };
  // A report looks up the names of open connections, which may take long; newer Node can leave that out.
  const before = report?.excludeNetwork;
  if (report !== undefined) report.excludeNetwork = true;
  const { header } = (report?.getReport() ?? {}) as { header?: { glibcVersionRuntime?: string } };
  if (report !== undefined && before !== undefined) report.excludeNetwork = before;
  const version = header?.glibcVersionRuntime;
  return version === undefined ? { name: "musl" } : { name: "glibc", version };
}

/** For example "linux-x64 (glibc 2.36), Node 20.20.2". */
export function systemName(): string {
  const found = systemLibc();
  const library =
    found === undefined
      ? ""
      : ` (${[found.name, found.version].filter((word) => word !== undefined).join(" ")})`;
  const { electron } = process.versions;
  return `${process.platform}-${process.arch}${library}, ${
    electron === undefined ? "" : `Electron ${electron}, `
  }Node ${process.versions.node}`;
}
