#!/usr/bin/env node
"use strict";

// npm run docs: the site of the pages and the API, in build/site. It fails on every warning of typedoc, and on every link that
// leads nowhere.

const fs = require("node:fs");
const path = require("node:path");
const setup = require("./setup");

/** The pages of docs that come first in the menu. */
const FIRST = [
  ...[
    "start",
    "guide",
    "recipes",
    "choosing",
    "coming-from",
    "torch",
    "tfjs",
    "jax",
    "pointers",
    "cuda",
    "distributed",
    "monitor",
  ],
  ...["install", "troubleshooting", "reliability", "algorithm"],
].map((name) => `docs/${name}.md`);

/** @returns {string[]} the pages, in the order of the menu */
function pages() {
  const others = ["docs", "examples"].flatMap((folder) =>
    fs
      .readdirSync(path.join(setup.root, folder), { recursive: true })
      .filter((name) => name.endsWith(".md"))
      .map((name) => `${folder}/${name}`)
      .sort(),
  );
  return [...new Set([...FIRST, ...others, "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])];
}

const OPTIONS = {
  entryPoints: ["index", "torch/index", "tfjs/index", "jax/index", "distributed/index"].map(
    (name) => `lib/${name}.ts`,
  ),
  projectDocuments: pages(),
  highlightLanguages: ["javascript", "typescript", "python", "shellscript", "json"],
  sort: ["documents-first", "source-order"],
  sortEntryPoints: false,
  disableSources: true, // their links need the repository's address
  excludePrivate: true,
  excludeInternal: true,
  // Parts of declarations; users never write these names.
  intentionallyNotExported: [
    ...["ByName", "DiagnosticsNames", "FileUrl", "Given", "JaxFunction", "JaxProgram", "JaxTreeStructure"],
    ...["MTAdamErrorOptions", "MaybePromise", "NamedTensor", "Optional", "ParameterName", "ReplayOptions"],
  ],
  treatWarningsAsErrors: true,
  out: "build/site",
};

/** The names in the menu are the pages' headings. */
function nameByHeading(page) {
  const [heading] = page.content
    .map(({ text }) => text)
    .join("")
    .split("\n");
  page.name = heading.replace("# ", "").replaceAll("`", "");
}

/** @returns {string[]} a sentence for each link of a site's page that leads to no file, or to no place on its page */
function brokenLinks(site) {
  const names = fs.readdirSync(site, { recursive: true }).filter((name) => name.endsWith(".html"));
  const texts = new Map(names.map((name) => [name, fs.readFileSync(path.join(site, name), "utf8")]));
  return [...texts].flatMap(([name, text]) => {
    const links = new Set(Array.from(text.matchAll(/ (?:href|src)="([^"]+)"/g), ([, link]) => link));
    const broken = [...links].filter((link) => {
      const [place, anchor = ""] = link.split("#").map(decodeURIComponent);
      if (/^[a-z]+:/.test(place)) return false;
      const target = place === "" ? name : path.join(path.dirname(name), place);
      if (!fs.existsSync(path.join(site, target))) return true;
      return anchor !== "" && texts.has(target) && !texts.get(target).includes(` id="${anchor}"`);
    });
    return broken.map((link) => `${name} has a link to ${link}, which is not there`);
  });
}

async function main() {
  setup.packages();
  const { Application, Converter } = await import("typedoc");
  process.chdir(setup.root);
  const application = await Application.bootstrap(OPTIONS);
  application.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, page) => nameByHeading(page));
  const project = await application.convert();
  if (project === undefined) throw new Error("The sources have errors.");
  application.validate(project);
  await application.generateOutputs(project);
  const broken = brokenLinks(OPTIONS.out);
  for (const sentence of broken) console.error(sentence);
  if (broken.length > 0 || application.logger.hasErrors() || application.logger.hasWarnings())
    process.exitCode = 1;
}

if (require.main === module) void main();

module.exports = { brokenLinks };
