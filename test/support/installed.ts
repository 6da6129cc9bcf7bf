import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import path from "node:path";

const root = path.join(__dirname, "..", "..");
/** The addon of this checkout. */
export const builtAddon = path.join(root, "build", "Release", "mtadam.node");
export const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
  version: string;
};
/** Where node-gyp-build looks for a prebuilt on this machine; its name has no tags. */
export const PREBUILT = path.join("prebuilds", `${process.platform}-${process.arch}`, "mtadam.node");
export const LOCAL = path.join("build", "Release", "mtadam.node");

export interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** A folder in which the package is installed, as its compiled code and without an addon. */
export interface Installation {
  folder: string;
  /** The folder of the package. */
  package: string;
  /** Puts a file into the package. */
  plant(file: string, content: Buffer | string): string;
  /** Changes the package.json of the package. */
  edit(change: Record<string, unknown>): void;
  /** Runs Node in the folder. */
  node(args: string[], environment?: Record<string, string>): Ended;
  /** Runs the package's command there. */
  mtadam(args: string[], environment?: Record<string, string>): Ended;
}

const made: string[] = [];

/** Deleted after the file's tests. */
export function install(): Installation {
  const folder = mkdtempSync(path.join(tmpdir(), "mtadam-installed-"));
  made.push(folder);
  const modules = path.join(folder, "node_modules");
  const own = path.join(modules, "mtadam");
  mkdirSync(own, { recursive: true });
  for (const name of ["dist", "scripts", "package.json"]) {
    cpSync(path.join(root, name), path.join(own, name), { recursive: true });
  }
  const dependency = "node-gyp-build";
  symlinkSync(path.join(root, "node_modules", dependency), path.join(modules, dependency), "dir");

  const plant = (file: string, content: Buffer | string): string => {
    const place = path.join(own, file);
    mkdirSync(path.dirname(place), { recursive: true });
    writeFileSync(place, content);
    return place;
  };
  const node = (args: string[], environment: Record<string, string> = {}): Ended => {
    const env = { ...process.env, ...environment };
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      cwd: folder,
      env,
      encoding: "utf8",
    });
    return { status, stdout, stderr };
  };
  return {
    folder,
    package: own,
    plant,
    edit: (change) => {
      const file = path.join(own, "package.json");
      plant(
        "package.json",
        JSON.stringify({ ...(JSON.parse(readFileSync(file, "utf8")) as object), ...change }),
      );
    },
    node,
    mtadam: (args, environment) => node([path.join(own, "dist", "cli", "main.js"), ...args], environment),
  };
}

afterAll(() => {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true });
});

/** This checkout's addon, changed to need a version of glibc that will never exist. */
export function forFutureGlibc(): Buffer {
  const addon = readFileSync(builtAddon).toString("latin1");
  // The new name has the same length, so that nothing moves.
  return Buffer.from(addon.replaceAll(/\0GLIBC_2\.(\d\d)\0/g, "\0GLIBC_9.$1\0"), "latin1");
}

/** This checkout's addon, with a header for 64-bit Arm. */
export function forArm(): Buffer {
  const addon = readFileSync(builtAddon);
  addon.writeUInt16LE(183, 18);
  return addon;
}

/** An ELF file whose header names no table of sections. */
export function withoutSections(file: Buffer): Buffer {
  const bare = Buffer.from(file);
  bare.writeBigUInt64LE(0n, 40);
  bare.writeUInt16LE(0, 60);
  return bare;
}
