/** What `mtadam build` says is missing. That it builds is scripts/test/packed-build.js' to show. */

import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { install, type Installation } from "../../support/installed";

const root = path.join(__dirname, "..", "..", "..");
const { devDependencies } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
  devDependencies: Record<string, string>;
};

function addPackage({ folder }: Installation, name: string): void {
  symlinkSync(path.join(root, "node_modules", name), path.join(folder, "node_modules", name), "dir");
}

/** A folder for PATH of programs that print these lines; where a line is null, the program fails. */
function programs(
  { folder }: Installation,
  lines: Record<string, string | null>,
): { PATH: string; CXX: string } {
  const bin = path.join(folder, "bin");
  mkdirSync(bin);
  for (const [name, line] of Object.entries(lines)) {
    const file = path.join(bin, name);
    writeFileSync(file, `#!/bin/sh\n${line === null ? "exit 1" : `echo "${line}"`}\n`);
    chmodSync(file, 0o755);
  }
  return { PATH: bin, CXX: "" };
}

function missing(installed: Installation, args: string[], environment: Record<string, string>): string[] {
  const { status, stderr } = installed.mtadam(["build", ...args], environment);
  expect(status).toBe(1);
  return stderr.trimEnd().split("\n");
}

const GOOD = { cmake: "cmake version 3.25.1", "c++": "c++ 12" };

test("missing npm packages: names them with the tested versions", () => {
  const installed = install();
  const environment = programs(installed, GOOD);
  const of = (name: string): string => `${name}@${devDependencies[name] ?? ""}`;
  expect(missing(installed, [], environment)).toEqual([
    `The npm packages cmake-js and node-addon-api are missing: \`npm install --no-save ${of("cmake-js")} ${of("node-addon-api")}\`.`,
  ]);
  addPackage(installed, "cmake-js");
  expect(missing(installed, [], environment)).toEqual([
    `The npm package node-addon-api is missing: \`npm install --no-save ${of("node-addon-api")}\`.`,
  ]);
});

test("the documentation names the same versions", () => {
  const guide = readFileSync(path.join(root, "docs", "troubleshooting.md"), "utf8");
  expect(guide).toContain(
    `npm install --no-save ${["cmake-js", "node-addon-api"].map((name) => `${name}@${devDependencies[name] ?? ""}`).join(" ")} `,
  );
});

test("reports the system's message if Node cannot be started", () => {
  const installed = install();
  const preload = path.join(installed.folder, "moved.js");
  writeFileSync(preload, `process.execPath = "/nowhere/node";`);
  expect(missing(installed, [], { NODE_OPTIONS: `--require ${preload}` })).toEqual([
    "The build could not be started: spawnSync /nowhere/node ENOENT.",
  ]);
});

describe("with the npm packages", () => {
  let installed: Installation;

  beforeEach(() => {
    installed = install();
    for (const name of ["cmake-js", "node-addon-api"]) addPackage(installed, name);
  });

  test("names CMake and a compiler, one sentence each", () => {
    const sentences = missing(installed, [], programs(installed, {}));
    expect(sentences).toEqual([
      expect.stringMatching(/^CMake is missing: .*\.$/),
      expect.stringMatching(/^A C\+\+ compiler is missing \(c\+\+, g\+\+, clang\+\+\): .*\.$/),
    ]);
  });

  test("rejects a CMake that is too old", () => {
    const environment = programs(installed, { ...GOOD, cmake: "cmake version 3.18.4" });
    expect(missing(installed, [], environment)).toEqual([
      expect.stringMatching(/^CMake 3\.22 or newer is needed, and this is 3\.18: .*\.$/),
    ]);
  });

  test("rejects a compiler without C++20", () => {
    const environment = programs(installed, GOOD);
    const old = path.join(environment.PATH, "c++");
    writeFileSync(old, `#!/bin/sh\n[ "$1" = --version ]\n`);
    expect(missing(installed, [], environment)).toEqual([
      expect.stringMatching(/^The C\+\+ compiler c\+\+ does not know C\+\+20 .*\.$/),
    ]);
  });

  test("uses the compiler in CXX, also with arguments", () => {
    const environment = programs(installed, { ...GOOD, cmake: null, mine: "mine 1" });
    const cmake: unknown[] = [expect.stringMatching(/^CMake is missing/)];
    expect(missing(installed, [], { ...environment, CXX: "mine -m64" })).toEqual(cmake);
    expect(missing(installed, [], { ...environment, CXX: "other" })).toEqual([
      ...cmake,
      expect.stringMatching(/^A C\+\+ compiler is missing \(other\)/),
    ]);
  });

  test.each([[["--cuda", "on"]], [["--architecture", "90"]]])("nvcc, with %j", (args) => {
    const environment = { ...programs(installed, GOOD), CUDACXX: "", CUDA_PATH: "" };
    expect(missing(installed, args, environment)).toEqual([
      expect.stringMatching(/^The CUDA compiler nvcc is missing: .*CUDACXX\.$/),
    ]);
  });

  test("names the signal that killed the build", () => {
    const environment = programs(installed, GOOD);
    writeFileSync(path.join(environment.PATH, "cmake"), `#!/bin/sh\nkill -KILL $PPID\n`);
    expect(missing(installed, [], environment)).toEqual(["The build was killed by SIGKILL."]);
  });

  test("says where the sources are not whole", () => {
    const sentences = missing(installed, ["--cuda", "off"], programs(installed, GOOD));
    expect(sentences.at(-1)).toMatch(/CMakeLists\.txt must set MTADAM_CUDA_ARCHITECTURES\.$/);
  });

  test("shows the output of cmake-js if it fails", () => {
    const environment = programs(installed, GOOD);
    installed.plant("CMakeLists.txt", readFileSync(path.join(root, "CMakeLists.txt")));
    const sentences = missing(installed, ["--cuda", "off"], environment);
    expect(sentences.at(-1)).toMatch(/^`cmake-js configure .*--CDMTADAM_CUDA=OFF.* failed\.$/);
  });
});
