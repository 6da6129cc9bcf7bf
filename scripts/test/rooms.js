#!/usr/bin/env node
"use strict";

// Prints the rooms of lib/ and native/, their lines and their imports, top floor first. Fails on a circle of imports in
// lib/, on an include that goes up a floor of native/, and on a product source that includes a file of the tests.
// A room of lib/ is a folder or a file directly in lib/; a room of native/ is a folder.

const fs = require("node:fs");
const path = require("node:path");
const ts = require("typescript");

/** Top to bottom; rooms on one floor do not import each other. */
const NATIVE_FLOORS = [["addon"], ["cpu", "cuda", "mpi", "nccl"], ["engine"], ["math"]];

/** Every file below `folder` with one of the extensions, relative to it. */
function files(folder, extensions) {
  return fs
    .readdirSync(folder, { recursive: true })
    .map((name) => name.split(path.sep).join("/"))
    .filter((name) => extensions.test(name))
    .sort();
}

function read(...names) {
  return fs.readFileSync(path.join(...names), "utf8");
}

const countLines = (text) => text.split("\n").length - 1;

/** The files of lib/, each with its lines and the files of lib/ that it imports, types included. */
function libFiles(root) {
  const folder = path.join(root, "lib");
  const names = files(folder, /\.ts$/);
  const known = new Set(names);
  return new Map(
    names.map((name) => {
      const text = read(folder, name);
      const imports = ts.preProcessFile(text, true, true).importedFiles.flatMap(({ fileName }) => {
        if (!fileName.startsWith(".")) return [];
        const target = path.posix.join(path.posix.dirname(name), fileName).replace(/\.js$/, "");
        return [`${target}.ts`, `${target}/index.ts`].filter((file) => known.has(file));
      });
      return [name, { lines: countLines(text), imports: new Set(imports) }];
    }),
  );
}

/** The sources of native/, each with its lines and the files of native/ that it includes. */
function nativeFiles(root) {
  const folder = path.join(root, "native");
  const names = files(folder, /\.(h|cc|cpp|cu|cuh)$/);
  const known = new Set(names);
  return new Map(
    names.map((name) => {
      const text = read(folder, name);
      const imports = [...text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)].flatMap(([, included]) => {
        const beside = path.posix.join(path.posix.dirname(name), included);
        return [included, beside].filter((file) => known.has(file)).slice(0, 1);
      });
      return [name, { lines: countLines(text), imports: new Set(imports) }];
    }),
  );
}

const roomOf = (file) => (file.includes("/") ? `${file.split("/")[0]}/` : file);

/** Turns the graph of files into a graph of rooms. */
function rooms(graph) {
  const result = new Map();
  for (const [file, { lines, imports }] of graph) {
    const name = roomOf(file);
    const room = result.get(name) ?? { files: 0, lines: 0, imports: new Set() };
    room.files += 1;
    room.lines += lines;
    for (const target of imports) if (roomOf(target) !== name) room.imports.add(roomOf(target));
    result.set(name, room);
  }
  return result;
}

/** The circles of a graph: sets of nodes that all reach each other (Tarjan's strongly connected components). */
function circles(graph) {
  const found = [];
  const stack = [];
  const state = new Map();
  let count = 0;
  const visit = (node) => {
    const own = { index: count, low: count, onStack: true };
    count += 1;
    state.set(node, own);
    stack.push(node);
    for (const target of graph.get(node).imports) {
      const other = state.get(target);
      if (other === undefined) own.low = Math.min(own.low, visit(target).low);
      else if (other.onStack) own.low = Math.min(own.low, other.index);
    }
    if (own.low === own.index) {
      const members = stack.splice(stack.indexOf(node));
      for (const member of members) state.get(member).onStack = false;
      if (members.length > 1) found.push(members.sort());
    }
    return own;
  };
  for (const node of graph.keys()) if (!state.has(node)) visit(node);
  return found;
}

/** How many floors lie below each room: one more than below the highest room that it imports. */
function heights(graph) {
  const known = new Map();
  const height = (node, path) => {
    if (path.includes(node)) return 0; // a circle
    if (!known.has(node)) {
      const below = [...graph.get(node).imports].map((target) => height(target, [...path, node]) + 1);
      known.set(node, Math.max(0, ...below));
    }
    return known.get(node);
  };
  for (const node of graph.keys()) height(node, []);
  return known;
}

/** The rooms of native/ without the tests. */
function product(graph) {
  const kept = [...graph].filter(([name]) => name !== "test/");
  return new Map(
    kept.map(([name, room]) => [
      name,
      { ...room, imports: new Set([...room.imports].filter((to) => to !== "test/")) },
    ]),
  );
}

function render(graph) {
  const height = heights(graph);
  const names = [...graph.keys()].sort((a, b) => height.get(b) - height.get(a) || (a < b ? -1 : 1));
  return names.map((name) => {
    const { files, lines, imports } = graph.get(name);
    const targets = [...imports].sort().join(" ");
    return `  ${name.padEnd(24)}${String(files).padStart(3)}${String(lines).padStart(7)}  ${targets}`.trimEnd();
  });
}

function libProblems(graph) {
  const problems = [];
  for (const circle of circles(graph)) problems.push(`lib: a circle of imports: ${circle.join(", ")}`);
  if (problems.length > 0) return problems;
  for (const circle of circles(rooms(graph))) problems.push(`lib: a circle of rooms: ${circle.join(", ")}`);
  return problems;
}

function nativeProblems(graph) {
  const problems = [];
  const floorOf = (file) => NATIVE_FLOORS.findIndex((floor) => floor.includes(file.split("/")[0]));
  for (const [file, { imports }] of graph) {
    const room = roomOf(file);
    if (room === "test/") continue;
    const floor = floorOf(file);
    if (floor < 0) problems.push(`native/${file}: its folder is on no floor`);
    for (const target of imports) {
      if (roomOf(target) === "test/") {
        problems.push(`native/${file}: includes ${target}, a file of the tests`);
      } else if (roomOf(target) !== room && floorOf(target) <= floor) {
        problems.push(`native/${file}: includes ${target}, which is not on a lower floor`);
      }
    }
  }
  return problems;
}

/** The report and the problems of a checkout. */
function examine(root) {
  const [lib, native] = [libFiles(root), nativeFiles(root)];
  const title = (name) => `${name.padEnd(26)}files lines  imports`;
  const report = [
    title("lib"),
    ...render(rooms(lib)),
    title("native"),
    ...render(product(rooms(native))),
  ].join("\n");
  return { report, problems: [...libProblems(lib), ...nativeProblems(native)] };
}

function main() {
  const { report, problems } = examine(path.resolve(__dirname, "..", ".."));
  console.log(report);
  for (const problem of problems) console.error(`✗ ${problem}`);
  if (problems.length > 0) process.exitCode = 1;
}

if (require.main === module) main();

module.exports = { examine };
