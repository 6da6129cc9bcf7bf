import { isUtf8 } from "node:buffer";
import { readlinkSync, statSync, type BigIntStats, type Stats } from "node:fs";
import nodePath from "node:path";
import { fileURLToPath } from "node:url";
import { MTAdamError, mustBe } from "../errors";
import { typedArrayLength, typedArrayName, typedArrayPlace } from "../inspect";

/** The limit of Linux. */
const MAX_LINKS = 40;

const isWindows = process.platform === "win32";

/**
 * Where a file is: an absolute path, which a later `chdir` does not change. `..` is left to the system, since `link/..`
 * is above the link's target.
 */
export class Place {
  /** On POSIX, where a name is a string of bytes, one character per byte. */
  readonly #text: string;

  private constructor(text: string) {
    this.#text = text;
  }

  /** @throws MTAdamError OPTION where it is no path; ENOENT where it is relative and the working directory is gone */
  static of(path: unknown, subject = "path"): Place {
    const text = textOf(path);
    if (text === undefined || text === "" || text.includes("\0")) {
      throw mustBe("OPTION", subject, "be the path of a file: a string, a file URL or a Buffer", path);
    }
    if (isWindows) return new Place(nodePath.resolve(text));
    return new Place(text.startsWith("/") ? text : `${toText(process.cwd())}/${text}`);
  }

  /** For Node's functions: a Buffer only where the bytes are not UTF-8. */
  get path(): string | Buffer {
    if (isWindows) return this.#text;
    const bytes = Buffer.from(this.#text, "latin1");
    return isUtf8(bytes) ? bytes.toString("utf8") : bytes;
  }

  /** For code that takes no Buffer. @throws MTAdamError OPTION where the bytes are not UTF-8 */
  string(subject: string): string {
    const { path } = this;
    if (typeof path === "string") return path;
    throw mustBe("OPTION", subject, "be a path in UTF-8", path);
  }

  get folder(): Place {
    return new Place(nodePath.dirname(this.#text));
  }

  /** The last part of the path. Not for messages, since each character may stand for a byte. */
  get name(): string {
    return nodePath.basename(this.#text);
  }

  /** A file in this folder. */
  file(name: string): Place {
    const { sep } = nodePath;
    return new Place(this.#text.endsWith(sep) ? this.#text + name : this.#text + sep + name);
  }

  /** The target of the symbolic links at this place, which need not exist; without a link this place. */
  target(): Place {
    let text = this.#text;
    for (let links = 0; links < MAX_LINKS; ++links) {
      const place = new Place(text);
      const target = readLink(place.path);
      if (target === undefined) return place;
      text = nodePath.isAbsolute(target) ? target : place.folder.file(target).#text;
    }
    statSync(this.path); // throws ELOOP
    return this;
  }

  /** @throws MTAdamError OPTION where there is something other than a regular file */
  checkRegular(subject = "path"): void {
    // If this check fails, the later system call reports the reason.
    const stats = attempt(() => statSync(this.path, { throwIfNoEntry: false }));
    if (stats !== undefined) checkRegular(stats, subject);
    else if (this.#text.endsWith(nodePath.sep)) failRegular("a folder", subject);
  }
}

/** @throws MTAdamError OPTION */
export function checkRegular(stats: Stats | BigIntStats, subject = "path"): void {
  if (stats.isFile()) return;
  const kinds = [
    [stats.isDirectory(), "a folder"],
    [stats.isFIFO(), "a FIFO"],
    [stats.isSocket(), "a socket"],
    [true, "a device"],
  ] as const;
  failRegular(kinds.find(([is]) => is)![1], subject);
}

function failRegular(kind: string, subject: string): never {
  throw new MTAdamError("OPTION", `\`${subject}\` must be the path of a regular file; got that of ${kind}.`);
}

/** Undefined if the value is not a path. */
function textOf(path: unknown): string | undefined {
  if (typeof path === "string") return isWindows ? path : toText(path);
  if (typedArrayName(path) === "Uint8Array") {
    const { buffer, byteOffset } = typedArrayPlace(path as Uint8Array);
    const bytes = Buffer.from(buffer as ArrayBuffer, byteOffset, typedArrayLength(path as Uint8Array));
    if (isWindows) return isUtf8(bytes) ? bytes.toString("utf8") : undefined;
    return bytes.toString("latin1");
  }
  if (typeof path !== "object" || path === null) return undefined;
  const url = attempt(() => fileURLToPath(path as URL));
  return url === undefined || isWindows ? url : toText(url);
}

const toText = (path: string): string => Buffer.from(path, "utf8").toString("latin1");

/** The target of a symbolic link; undefined for anything else. */
function readLink(path: string | Buffer): string | undefined {
  return attempt(() => readlinkSync(path, isWindows ? "utf8" : "latin1"));
}

function attempt<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch {
    return undefined;
  }
}
