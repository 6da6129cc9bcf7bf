"use strict";

// Reads a shared object's requirements and exports with readelf, which reads files of every architecture.

const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { root } = require("../build/setup");
const { compareVersions } = require(path.join(root, "dist", "addon", "elf.js"));

function readelf(...args) {
  const { status, stdout, stderr, error } = spawnSync("readelf", ["--wide", ...args], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    env: { ...process.env, LC_ALL: "C" },
  });
  if (status !== 0) throw new Error(`readelf ${args.join(" ")} failed: ${error?.message ?? stderr}`);
  return stdout;
}

/**
 * The dynamic symbols, from the output of `readelf --wide --dyn-syms`.
 *
 * @returns {{ name: string, undefined: boolean, library?: string, version?: string }[]} `library`: of the version, such
 *     as GLIBC
 */
function parseSymbols(text) {
  const line =
    /^ *\d+: [0-9a-f]+ +\S+ +\S+ +(?:GLOBAL|WEAK|UNIQUE) +\S+ +(?:\[[^\]]*\] +)?(UND|ABS|\d+) +(\S+)/gm;
  return Array.from(text.matchAll(line), ([, section, symbol]) => {
    const [name, tag = ""] = symbol.split(/@+/);
    const [, library, version] = /^(\w+?)_(\d+(?:\.\d+)*)$/.exec(tag) ?? [];
    return { name, undefined: section === "UND", library, version };
  });
}

/** The symbols that need newer libraries than `floors` allows, such as { GLIBC: "2.28" }: one text each. */
function aboveFloors(symbols, floors) {
  return symbols.flatMap(({ name, undefined: asked, library, version }) => {
    const floor = asked ? floors[library] : undefined;
    return floor !== undefined && compareVersions(version, floor) > 0
      ? [`${name} needs ${library}_${version}, newer than ${floor}`]
      : [];
  });
}

/** From the output of `readelf --wide --dynamic`. */
function parseDynamic(text) {
  return {
    needed: Array.from(text.matchAll(/\(NEEDED\) +Shared library: \[(.*)\]/g), ([, name]) => name),
    searched: Array.from(text.matchAll(/\((RPATH|RUNPATH)\).*\[(.*)\]/g), ([, , folders]) => folders),
    nodelete: /\(FLAGS_1\).*\bNODELETE\b/.test(text),
  };
}

function readElf(file) {
  return {
    symbols: parseSymbols(readelf("--dyn-syms", file)),
    ...parseDynamic(readelf("--dynamic", file)),
    sections: Array.from(readelf("--sections", file).matchAll(/^ *\[ *\d+\] +(\.\S+)/gm), ([, name]) => name),
  };
}

module.exports = { aboveFloors, parseDynamic, parseSymbols, readElf };
