import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { packageRoot } from "../addon/system";
import { checkKeys } from "../arguments";
import type { FileUrl } from "../checkpoint/options";
import { mustBe } from "../errors";
import { isArray } from "../inspect";
import { regularFile } from "./file";
import type { PageData, Run } from "./page-data";
import { RunReader } from "./read-run";
import { STYLE } from "./style";

export interface ReportOptions {
  title?: string | undefined;
  /** Paragraphs of text below the title. */
  notes?: readonly string[] | undefined;
}

/**
 * Writes a page about the files of one or more {@link BalanceMonitor}s: one HTML file, which needs nothing else.
 *
 * @throws MTAdamError OPTION, also for a file that is not a monitor's, and if the page would replace one; errors of the file
 * system unchanged
 */
export async function writeReport(
  files: readonly (string | FileUrl)[],
  to: string | FileUrl,
  options?: ReportOptions,
): Promise<void> {
  const target = regularFile("to", to);
  const paths = pathsOf(files);
  if (paths.some((file) => isSameFile(file, target))) {
    throw mustBe("OPTION", "to", "be another file than those that are read", target);
  }
  await writeFile(target, await reportPage(await reportData(paths, options)));
}

/** @throws MTAdamError OPTION; errors of the file system unchanged */
export async function reportData(files: unknown, options?: ReportOptions): Promise<PageData> {
  const paths = pathsOf(files);
  const { title, notes = [] } = checkKeys<ReportOptions>("options", options, ["title", "notes"]);
  if (title !== undefined && typeof title !== "string") throw mustBe("OPTION", "title", "be a string", title);
  if (!isArray(notes) || !notes.every((note) => typeof note === "string")) {
    throw mustBe("OPTION", "notes", "be an array of strings", notes);
  }
  const runs = await Promise.all(paths.map(runOf));
  return { title: title ?? `Balance of ${runs.map(({ name }) => name).join(", ")}`, notes, runs };
}

function pathsOf(files: unknown): string[] {
  if (!isArray(files) || files.length === 0) throw mustBe("OPTION", "files", "be an array of paths", files);
  // Array.from: holes, too, are refused.
  return Array.from(files, (file, k) => regularFile(`files[${k}]`, file));
}

/** In pieces, since a file may be longer than a string can be. */
async function runOf(file: string): Promise<Run> {
  const reader = new RunReader(path.parse(file).name, JSON.stringify(file));
  // The pieces of a line that has not ended: joined once, since a line may have many megabytes.
  let rest: string[] = [];
  for await (const piece of createReadStream(file, "utf8")) {
    const lines = (piece as string).split("\n");
    rest.push(lines[0]!);
    if (lines.length === 1) continue;
    reader.add(rest.join(""));
    for (const line of lines.slice(1, -1)) reader.add(line);
    rest = [lines.at(-1)!];
  }
  reader.add(rest.join(""));
  return reader.run();
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((file) => statSync(file, { throwIfNoEntry: false }));
  return a !== undefined && a.dev === b?.dev && a.ino === b.ino;
}

/** The scripts of page/, in the order in which they need each other. */
const SCRIPTS = ["state", "dom", "lines", "heat-map", "sections", "main"];

/** @param watch whether the page asks its server for new data */
export async function reportPage(data: PageData, watch = false): Promise<string> {
  const scripts = SCRIPTS.map((name) =>
    readFile(path.join(packageRoot, "dist", "monitor", "page", `${name}.js`), "utf8"),
  );
  const script = `"use strict";(() => {\n${(await Promise.all(scripts)).join("")}})();`;
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(STYLE)}'`,
    ...(watch ? ["connect-src 'self'"] : []),
  ].join("; ");
  return `<!doctype html>
<html lang="en"${watch ? " data-watch" : ""}>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(data.title)}</title>
<style>${STYLE}</style>
</head>
<body>
<noscript>This page needs JavaScript.</noscript>
<main></main>
<script type="application/json" id="data">${JSON.stringify(data).replace(/</g, "\\u003c")}</script>
<script>${script}</script>
</body>
</html>
`;
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
