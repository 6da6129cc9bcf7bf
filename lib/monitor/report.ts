import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { packageRoot } from "../addon/system";
import { checkKeys } from "../arguments";
import type { FileUrl } from "../checkpoint/options";
import { mustBe } from "../errors";
import { isArray } from "../inspect";
import { regularFile } from "./file";
import type { PageData } from "./page-data";
import { readRun } from "./read-run";
import { STYLE } from "./style";

export interface ReportOptions {
  title?: string | undefined;
  /** Paragraphs of text below the title. */
  notes?: readonly string[] | undefined;
}

/**
 * Writes a page about the files of one or more {@link BalanceMonitor}s: one HTML file, which needs nothing else.
 *
 * @throws MTAdamError OPTION, also for a file that is not a monitor's; errors of the file system unchanged
 */
export async function writeReport(
  files: readonly (string | FileUrl)[],
  to: string | FileUrl,
  options?: ReportOptions,
): Promise<void> {
  const target = regularFile("to", to);
  await writeFile(target, await reportPage(await reportData(files, options)));
}

/** @throws MTAdamError OPTION; errors of the file system unchanged */
export async function reportData(files: unknown, options?: ReportOptions): Promise<PageData> {
  if (!isArray(files) || files.length === 0) throw mustBe("OPTION", "files", "be an array of paths", files);
  const { title, notes = [] } = checkKeys<ReportOptions>("options", options, ["title", "notes"]);
  const paths = files.map((file, k) => regularFile(`files[${k}]`, file));
  const runs = await Promise.all(
    paths.map(async (file) =>
      readRun(path.parse(file).name, await readFile(file, "utf8"), JSON.stringify(file)),
    ),
  );
  return { title: title ?? `Balance of ${runs.map(({ name }) => name).join(", ")}`, notes, runs };
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
