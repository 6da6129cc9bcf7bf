"use strict";

// What a shared object asks of the system that loads it, and what it shows to others: read with readelf, which knows
// every architecture's files.

const { spawnSync } = require("node:child_process");

function readelf(...args) {
  const { status, stdout, stderr, error } = spawnSync("readelf", ["--wide", ...args], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    env: { ...process.env, LC_ALL: "C" },
  });
  if (status !== 0) throw new Error(`readelf ${args.join(" ")} failed: ${error?.message ?? stderr}`);
  return stdout;
}

/** Negative where version a is older than b: 2.4 is older than 2.28. */
function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number));
  for (let k = 0; k < Math.max(left.length, right.length); k += 1) {
    const difference = (left[k] ?? 0) - (right[k] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/**
 * The dynamic symbols, from what `readelf --wide --dyn-syms` prints.
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

/** The symbols that ask for more than `floors`, such as { GLIBC: "2.28" }, allow: one text each. */
function aboveFloors(symbols, floors) {
  return symbols.flatMap(({ name, undefined: asked, library, version }) => {
    const floor = asked ? floors[library] : undefined;
    return floor !== undefined && compareVersions(version, floor) > 0
      ? [`${name} needs ${library}_${version}, newer than ${floor}`]
      : [];
  });
}

/** The newest version of each library that the symbols ask for, such as { GLIBC: "2.17" }. */
function newestVersions(symbols) {
  const newest = {};
  for (const { undefined: asked, library, version } of symbols) {
    if (!asked || version === undefined) continue;
    if (newest[library] === undefined || compareVersions(version, newest[library]) > 0) {
      newest[library] = version;
    }
  }
  return newest;
}

/** From what `readelf --wide --dynamic` prints. */
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

module.exports = { aboveFloors, compareVersions, newestVersions, parseDynamic, parseSymbols, readElf };
