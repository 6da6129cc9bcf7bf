import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/folder";

const root = path.join(__dirname, "../..");
const folder = temporaryFolder();

test("a failure with BigInts keeps its message under workers", () => {
  const rootDir = path.join(folder, "suite");
  mkdirSync(rootDir);
  // Workers are used from two files on.
  for (const name of ["a", "b"]) {
    writeFileSync(
      path.join(rootDir, `${name}-test.js`),
      `test("${name}", () => expect(BigInt64Array.of(1n)).toEqual(BigInt64Array.of(2n)));\n`,
    );
  }
  const config = {
    rootDir,
    testMatch: ["**/*-test.js"],
    testEnvironment: path.join(root, "test/support/environment.js"),
    transform: {},
  };
  const jest = path.join(root, "node_modules/jest/bin/jest.js");
  const args = [jest, "--config", JSON.stringify(config), "--maxWorkers=2", "--no-cache"];
  const { stderr } = spawnSync(process.execPath, args, { cwd: rootDir, encoding: "utf8" });
  expect(stderr).toContain('+   "0": 1n,');
  expect(stderr).not.toContain("serialize a BigInt");
}, 60_000);

test("BigInts in tests have no toJSON", () => {
  expect(() => JSON.stringify(1n)).toThrow(TypeError);
});
