import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/folder";
// eslint-disable-next-line @typescript-eslint/no-require-imports -- a CommonJS script
const { examine } = require("../../scripts/test/rooms.js") as {
  examine: (root: string) => { report: string; problems: string[] };
};

const parent = temporaryFolder();

/** The problems of a tree that has these files. */
function problemsOf(sources: Record<string, string>): string[] {
  const root = mkdtempSync(path.join(parent, "tree-"));
  for (const [name, text] of Object.entries({ "lib/index.ts": "", "native/math/index.h": "", ...sources })) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), text);
  }
  return examine(root).problems;
}

describe("scripts/test/rooms.js", () => {
  test("accepts imports and includes that go down", () => {
    const problems = problemsOf({
      "lib/index.ts": 'import { a } from "./room/a";\n',
      "lib/room/a.ts": 'import type { b } from "../b";\n',
      "lib/b.ts": "",
      "native/addon/a.cc": '#include "cpu/b.h"\n#include "math/c.h"\n',
      "native/cpu/b.h": '#include "engine/d.h"\n',
      "native/engine/d.h": '#include "math/c.h"\n',
      "native/math/c.h": "",
    });
    expect(problems).toEqual([]);
  });

  test("reports a circle of files, also of types alone", () => {
    const problems = problemsOf({
      "lib/a.ts": 'import type { b } from "./b";\n',
      "lib/b.ts": 'export { a } from "./a";\n',
    });
    expect(problems).toEqual(["lib: a circle of imports: a.ts, b.ts"]);
  });

  test("reports a circle of rooms whose files have none", () => {
    const problems = problemsOf({
      "lib/room/a.ts": 'import { b } from "../b";\n',
      "lib/room/c.ts": "",
      "lib/b.ts": 'import { c } from "./room/c";\n',
    });
    expect(problems).toEqual(["lib: a circle of rooms: b.ts, room/"]);
  });

  test.each([
    ["engine/a.h", "cpu/b.h"],
    ["cpu/a.h", "cuda/b.h"],
    ["math/a.h", "addon/b.h"],
  ])("reports that native/%s includes %s", (file, included) => {
    const problems = problemsOf({
      [`native/${file}`]: `#include "${included}"\n`,
      [`native/${included}`]: "",
    });
    expect(problems).toEqual([`native/${file}: includes ${included}, which is not on a lower floor`]);
  });

  test("reports a product source that includes a file of the tests", () => {
    const problems = problemsOf({
      "native/engine/a.h": '#include "test/simt/launch.h"\n',
      "native/test/simt/launch.h": "",
    });
    expect(problems).toEqual(["native/engine/a.h: includes test/simt/launch.h, a file of the tests"]);
  });

  test("reports a folder of native/ that has no floor", () => {
    const problems = problemsOf({ "native/attic/a.h": "" });
    expect(problems).toEqual(["native/attic/a.h: its folder is on no floor"]);
  });
});
