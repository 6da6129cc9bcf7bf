import { createRequire } from "node:module";
import path from "node:path";
import { packageRoot } from "./system";

// Finds the flags of Node that keep this process from loading the addon.

/** The file of the module that finds addons. @throws where there is none, or where a link to it may not be followed */
export function finderFile(): string {
  return createRequire(__filename).resolve("node-gyp-build/node-gyp-build.js");
}

/** The flags of Node that keep the addon from being loaded, as advice for the user; undefined where none does. */
export function flagAdvice(): string | undefined {
  const isForbidden = areAddonsForbidden();
  // Undefined without the permission model, although its type says otherwise.
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
    // Loading a folder always fails; the error tells whether a flag is the reason.
    process.dlopen({ exports: {} }, packageRoot);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ERR_DLOPEN_DISABLED";
  }
}

/** The paths that must be readable and are not, as arguments of `--allow-fs-read`. */
function unreadable(): string[] {
  return [
    ...(["package.json", "build", "prebuilds"].every((name) => mayRead(path.join(packageRoot, name)))
      ? []
      : [path.join(packageRoot, "*")]),
    ...unreadableFinder(),
    // node-gyp-build reads this file to tell musl from glibc.
    ...(process.platform !== "linux" || mayRead("/etc/alpine-release") ? [] : ["/etc/alpine-release"]),
  ];
}

function unreadableFinder(): string[] {
  try {
    const file = finderFile();
    return mayRead(file) ? [] : [path.join(path.dirname(file), "*")];
  } catch (error) {
    // The path of a link, such as pnpm makes, or from Node 22 on its package.json, through the link. The target is known
    // only once the link may be followed.
    const { resource } = error as { resource?: unknown };
    if (typeof resource !== "string") return [];
    return [path.basename(resource) === "package.json" ? path.dirname(resource) : resource];
  }
}
