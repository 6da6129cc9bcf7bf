import { readFileSync } from "node:fs";
import path from "node:path";

const read = (name: string): string => readFileSync(path.join(__dirname, "../..", name), "utf8");

test("the guide's table of codes has every code, once", () => {
  const type = /type MTAdamErrorCode =([^;]*);/.exec(read("lib/errors.ts"))![1]!;
  const codes = Array.from(type.matchAll(/"(ERR_MTADAM_\w+)"/g), ([, code]) => code!);
  const rows = Array.from(read("docs/guide.md").matchAll(/^\| `(ERR_MTADAM_\w+)` /gm), ([, code]) => code!);
  expect(codes.length).toBeGreaterThan(10);
  expect(rows.sort()).toEqual(codes.sort());
});
