import { createRequire } from "node:module";
import path from "node:path";
import { packageRoot } from "./system";

// What Node forbids this process by its flags, as far as loading the addon needs it.

/** The file of the module that finds addons. @throws where there is none, or where a link to it may not be followed */
export function finderFile(): string {
  return createRequire(__filename).resolve("node-gyp-build/node-gyp-build.js");
}

/** The flags of Node that keep the addon from being loaded, as advice for the user; undefined where none does. */
export function flagAdvice(): string | undefined {
  const isForbidden = areAddonsForbidden();
  // Not there without the permission model, whatever its type says.
  if ((process.permission as unknown) === undefined) {
    return isForbidden
      ? "Node runs with the flag `--no-addons`, perhaps from NODE_OPTIONS: leave it out."
      : undefined;
  }
  const missing = [
    ...(isForbidden ? ["--allow-addons"] : []),
    ...unreadable().map((place) => `--allow-fs-read=${place}`),
  ];
  return missing.length === 0
    ? undefined
    : `Node runs with its permission model, which forbids it: add ${missing.map((flag) => `\`${flag}\``).join(" ")}.`;
}

/** Whether Node's permission model, if it is on, lets this process read a file or a folder. */
export function mayRead(place: string): boolean {
  return (process.permission as NodeJS.Process["permission"] | undefined)?.has("fs.read", place) ?? true;
}

function areAddonsForbidden(): boolean {
  try {
    // A folder can never be loaded: only the reason is of interest.
    process.dlopen({ exports: {} }, packageRoot);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ERR_DLOPEN_DISABLED";
  }
}

/** What must be readable and is not, as `--allow-fs-read` takes it. */
function unreadable(): string[] {
  return [
    ...(["package.json", "build", "prebuilds"].every((name) => mayRead(path.join(packageRoot, name)))
      ? []
      : [path.join(packageRoot, "*")]),
    ...unreadableFinder(),
    // From which node-gyp-build tells musl from glibc.
    ...(process.platform !== "linux" || mayRead("/etc/alpine-release") ? [] : ["/etc/alpine-release"]),
  ];
}

function unreadableFinder(): string[] {
  try {
    const file = finderFile();
    return mayRead(file) ? [] : [path.join(path.dirname(file), "*")];
  } catch (error) {
    // The link to it, as pnpm makes one: where that leads is seen once it may be followed.
    const { resource } = error as { resource?: unknown };
    return typeof resource === "string" ? [resource] : [];
  }
}
