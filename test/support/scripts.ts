import path from "node:path";

// Which of the repository's scripts calls which, read from their code: a mention in a comment is no call.

/** The text of files by their path from the root of the repository. */
export type Sources = ReadonlyMap<string, string>;

const isJavaScript = (name: string): boolean => /\.[jt]s$/.test(name);

function withoutComments(name: string, text: string): string {
  if (isJavaScript(name)) return text.replace(/\/\*[^]*?\*\/|(?<=^|\s)\/\/.*$/gm, "");
  return text.replace(/"""[^]*?"""|^\s*#.*$/gm, "");
}

/** `require("./x")`, and `path.join(root, "scripts", "x.js")` from the root or the file's own folder. */
function* namedInJavaScript(name: string, code: string): Generator<string> {
  const folder = path.posix.dirname(name);
  for (const [, target] of code.matchAll(/\brequire\("(\.[^"]*)"\)/g)) {
    yield `${path.posix.join(folder, target!)}.js`;
  }
  for (const [, from, list] of code.matchAll(/\bpath\.join\(([\w.]+), ((?:"[^"]*"(?:, )?)+)\)/g)) {
    const parts = Array.from(list!.matchAll(/"([^"]*)"/g), ([, part]) => part!);
    yield path.posix.join(...(from === "__dirname" ? [folder] : []), ...parts);
  }
}

/** Modules of the package scripts/gpu. */
function* namedInPython(code: string): Generator<string> {
  for (const [, module] of code.matchAll(/^from (?:gpu)?\.(\w+) import /gm))
    yield `scripts/gpu/${module!}.py`;
  for (const [, modules] of code.matchAll(/^from \. import (.*)$/gm)) {
    for (const module of modules!.split(", ")) yield `scripts/gpu/${module}.py`;
  }
}

/** The scripts that a file calls or requires. */
function named(name: string, text: string, scripts: readonly string[]): Set<string> {
  const code = withoutComments(name, text);
  // The call is a command, or JavaScript in a command's argument.
  const paths = Array.from(code.matchAll(/\bscripts\/[\w./-]*\w/g), ([found]) => found);
  const all = new Set([...paths, ...paths.map((found) => `${found}.js`)]);
  for (const found of isJavaScript(name) ? namedInJavaScript(name, code) : namedInPython(code))
    all.add(found);
  // The folder that a dry run puts on its PATH.
  const isOnPath = (script: string): boolean =>
    script.includes("/stand-ins/") && all.has(path.posix.dirname(script));
  return new Set(scripts.filter((script) => script !== name && (all.has(script) || isOnPath(script))));
}

/** The direct callers of each script: scripts and other files of `sources`. */
export function callers(sources: Sources): Map<string, string[]> {
  const scripts = [...sources.keys()].filter((name) => name.startsWith("scripts/"));
  const calls = Array.from(sources, ([name, text]) => [name, named(name, text, scripts)] as const);
  return new Map(
    scripts.map((script) => [script, calls.filter(([, of]) => of.has(script)).map(([name]) => name)]),
  );
}

/** The scripts that nothing outside of scripts/ reaches. */
export function unreached(sources: Sources): string[] {
  const by = callers(sources);
  const reached = new Set<string>([...sources.keys()].filter((name) => !by.has(name)));
  for (let before = -1; before !== reached.size;) {
    before = reached.size;
    for (const [script, names] of by) if (names.some((name) => reached.has(name))) reached.add(script);
  }
  return [...by.keys()].filter((script) => !reached.has(script)).sort();
}
