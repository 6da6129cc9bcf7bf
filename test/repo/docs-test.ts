import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import ts from "typescript";
import { temporaryFolder } from "../support/folder";

// Every block of JavaScript and TypeScript in the pages is a whole program, which runs in an empty folder, with the packages
// that the page asks for. What follows the language on the fence says why a block is only type-checked.

const root = path.join(__dirname, "../..");
const PACKAGES = ["@jax-js", "@tensorflow", "@types", "koffi"];

/** Pages whose blocks need one another's files, with the test that runs them; and records of measurements. */
const ELSEWHERE = /^(docs\/torch\.md|docs\/gpu\/.*)$/;

interface Block {
  name: string;
  language: string;
  /** Why it does not run here; empty if it does. */
  reason: string;
  text: string;
  /** The name of its file, without extension. */
  file: string;
}

function blocksOf(page: string): Block[] {
  const text = readFileSync(path.join(root, page), "utf8");
  return Array.from(
    text.matchAll(/^```(\w+)(?: (.*))?\n([^]*?)^```$/gm),
    ([, language, reason = "", body], k) => ({
      name: `${page}, line ${text.slice(0, text.indexOf(body!)).split("\n").length}`,
      language: language!,
      reason,
      text: body!,
      file: `${page.replaceAll(/[/.]/g, "-")}-${k}`,
    }),
  );
}

const pages = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((page) => page !== "" && !ELSEWHERE.test(page));
const blocks = pages.flatMap(blocksOf);
const programs = blocks.filter(({ language }) => ["js", "mjs", "ts", "mts"].includes(language));
const isTyped = ({ language }: Block): boolean => language.endsWith("ts");

const folder = temporaryFolder();

beforeAll(() => {
  const modules = path.join(folder, "node_modules");
  mkdirSync(modules);
  symlinkSync(root, path.join(modules, "mtadam"));
  for (const name of PACKAGES) symlinkSync(path.join(root, "node_modules", name), path.join(modules, name));
  for (const block of programs) {
    const { outputText } = ts.transpileModule(block.text, {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    });
    writeFileSync(path.join(folder, `${block.file}.mjs`), isTyped(block) ? outputText : block.text);
    if (isTyped(block)) writeFileSync(path.join(folder, `${block.file}.mts`), block.text);
  }
});

test("the pages have programs, in languages that are run here or need no test", () => {
  expect(programs.length).toBeGreaterThan(15);
  const languages = new Set(blocks.map(({ language }) => language));
  expect([...languages].filter((language) => !/^(js|ts|py|sh|json|text)$/.test(language))).toEqual([]);
  expect(new Set(programs.map(({ reason }) => reason))).toEqual(
    new Set(["", "type-checked, since it needs a GPU", "type-checked, since it needs MPI"]),
  );
});

test("the TypeScript of the pages has the right types", () => {
  const files = programs.filter(isTyped).map(({ file }) => path.join(folder, `${file}.mts`));
  const program = ts.createProgram(files, {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: ["node"],
    typeRoots: [path.join(folder, "node_modules", "@types")],
  });
  const problems = ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const place = file === undefined ? "" : file.text.slice(start).split("\n")[0]!;
    return `${path.basename(file?.fileName ?? "")}: ${ts.flattenDiagnosticMessageText(messageText, " ")}: ${place}`;
  });
  expect(problems).toEqual([]);
}, 60_000);

test.each(programs.filter(({ reason }) => reason === "").map((block) => [block.name, block] as const))(
  "the program of %s runs",
  async (_, { file }) => {
    const own = path.join(folder, file);
    mkdirSync(own);
    await promisify(execFile)(process.execPath, [path.join(folder, `${file}.mjs`)], { cwd: own });
  },
  60_000,
);
