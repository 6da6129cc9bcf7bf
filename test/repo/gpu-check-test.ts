import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";

// scripts/gpu-check as far as it can be tried without a GPU: what it says and exits with where there is none, how it
// judges what tools print (recorded, or printed by a stand-in), and its report.

interface Found {
  outcome: "passed" | "failed" | "not run";
  passed?: number;
  failed?: number;
  skipped?: number;
  remark?: string;
  log?: string;
  tables?: [title: string, rows: string[][]][];
}

interface Part {
  name: string;
  limit: number;
  run: (limit: number, report: string) => Promise<Found>;
}

type Result = Found & { name: string; seconds: number };

type Execute = (
  command: string,
  args: string[],
  limit: number,
) => Promise<{ status: number | null; timedOut: boolean; output: string; seconds: number }>;

interface Tools {
  execute: Execute;
  benchmark: (limit: number, folder: string) => Promise<Found>;
  sanitizer: string | undefined;
}

interface Modules {
  commit: { commit: (root: string) => string };
  execute: { execute: Execute };
  googletest: {
    googleTestCounts: (report: string) => unknown;
    progress: (output: string) => { passed: number; running?: string; rest: string };
    recorded: (report: string, property: string) => string | undefined;
  };
  check: { runParts: (all: Part[], file: string, run: object) => Promise<Result[]> };
  benchmark: {
    benchmark: (limit: number, folder: string, command: string[]) => Promise<Found>;
  };
  parts: {
    parts: (figures: string, tools?: Tools) => Part[];
    runPart: (part: Part) => Promise<Result>;
    sanitized: (
      tool: string,
      limit: number,
      report: string,
      tools: Pick<Tools, "execute" | "sanitizer">,
    ) => Promise<Found>;
  };
  products: { STAYS: string[] };
  report: { reportName: (date: string, device: string) => string; render: (run: object) => string };
  sanitizer: { findings: (tool: string, output: string) => string | undefined };
}

function load<Name extends keyof Modules>(name: Name): Modules[Name] {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- JavaScript without declarations
  return require(`../../scripts/gpu/${name}`) as Modules[Name];
}

const root = path.join(__dirname, "../..");
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "mtadam-gpu-check-"));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function write(name: string, text: string): string {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

/** A Node program. */
function program(name: string, source: string): string {
  const file = write(name, `#!${process.execPath}\n${source}`);
  chmodSync(file, 0o755);
  return file;
}

// Recorded: GoogleTest 1.12.
const googleTestReport = (...tests: object[]): string =>
  JSON.stringify({ tests: tests.length, testsuites: [{ name: "Suite", testsuite: tests }] });
const PASSED = { name: "A", status: "RUN", result: "COMPLETED", digest: "0123456789abcdef" };
const FAILED = {
  name: "B",
  status: "RUN",
  result: "COMPLETED",
  failures: [{ failure: "x.cpp:1\nExpected" }],
};

// What jest writes, as far as it is read.
const JEST_PASSED = JSON.stringify({
  numPassedTests: 1,
  numFailedTests: 0,
  numRuntimeErrorTestSuites: 0,
  numPendingTests: 0,
  numTodoTests: 0,
  testResults: [],
});

const machine = {
  date: "2030-01-31",
  device: "NVIDIA H200",
  computeCapability: "9.0",
  driver: "580.159.04, serves CUDA 13.0",
  runtime: "CUDA 13.0",
  architectures: ["9.0"],
  commit: "0123456789abcdef",
};

describe("gpu-check", () => {
  // CUDA_VISIBLE_DEVICES hides the devices of this machine.
  const gpuCheck = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(process.execPath, [path.join(root, "scripts", "gpu-check"), ...args], {
      encoding: "utf8",
      env: { ...process.env, CUDA_VISIBLE_DEVICES: "" },
    });

  test.each([[[]], [["--built"]], [["--architecture", "90"]]])(
    "without a GPU says so and exits with 2: %j",
    (args) => {
      const report = path.join(folder, "report.md");
      const { status, stdout, stderr } = gpuCheck(...args, "--report", report);
      expect({ status, stdout, stderr }).toEqual({
        status: 2,
        stdout: "",
        stderr: "There is no NVIDIA GPU on this machine, so nothing was checked.\n",
      });
      expect(existsSync(report)).toBe(false);
    },
  );

  test.each([
    [["--fast"], /^gpu-check: Unknown option '--fast'/],
    [["--built", "--prepare"], /^gpu-check: `--built` and `--prepare` exclude each other\.\n$/],
    [
      ["--architecture", "hopper"],
      /^gpu-check: `--architecture` must be a number such as 90; got "hopper"\.\n$/,
    ],
  ])("refuses %j", (args, says) => {
    const { status, stderr } = gpuCheck(...args);
    expect(status).toBe(1);
    expect(stderr).toMatch(says);
  });

  test("ends within ten minutes, its report included", () => {
    const limits = load("parts")
      .parts(folder)
      .map(({ limit }) => limit);
    expect(limits.reduce((sum, limit) => sum + limit)).toBeLessThanOrEqual(570);
  });

  test("runs all native tests but the digests, the digests, jest's, and the native ones under each sanitizer", async () => {
    const calls: string[] = [];
    const value = (args: string[], option: string): string | undefined =>
      args.find((argument) => argument.startsWith(option))?.slice(option.length);
    const execute: Execute = (_, args) => {
      const filter = value(args, "--gtest_filter=");
      calls.push(filter ?? "jest");
      if (filter === undefined) writeFileSync(value(args, "--outputFile=")!, JEST_PASSED);
      else writeFileSync(value(args, "--gtest_output=json:")!, googleTestReport(PASSED));
      return Promise.resolve({ status: 0, timedOut: false, output: "", seconds: 1 });
    };
    const benchmark: Tools["benchmark"] = () => {
      calls.push("bench");
      return Promise.resolve({ outcome: "passed" });
    };
    const { parts, runPart } = load("parts");
    const all = parts(folder, { execute, benchmark, sanitizer: "sanitizer" });
    for (const part of all) await runPart(part);
    expect(Object.fromEntries(all.map(({ name }, k) => [name, calls[k]]))).toEqual({
      "native tests": "-Digest*",
      "the bits of the host executor": "Digest*",
      "TypeScript suite": "jest",
      "compute-sanitizer memcheck": "-Digest*",
      "compute-sanitizer racecheck": "-Digest*",
      "compute-sanitizer initcheck": "-Digest*",
      "compute-sanitizer synccheck": "-Digest*",
      benchmark: "bench",
    });
  });

  test("always has a report, which lists the missing parts", async () => {
    const file = path.join(folder, "reports", "report.md");
    const seen: string[] = [];
    const part = (name: string, run: () => Found): Part => ({
      name,
      limit: 1,
      run: () => {
        seen.push(readFileSync(file, "utf8"));
        return Promise.resolve(run());
      },
    });
    const all = [
      part("first", () => ({ outcome: "passed", passed: 3, failed: 0, skipped: 0 })),
      part("second", () => {
        throw new Error("Out of luck.");
      }),
      part("third", () => ({ outcome: "passed" })),
    ];
    const log = jest.spyOn(console, "log").mockImplementation();
    const results = await load("check").runParts(all, file, machine);
    log.mockRestore();
    expect(results.map(({ outcome }) => outcome)).toEqual(["passed", "failed", "passed"]);
    const missing = (name: string): string => `- ${name}: the check was cut off before it had an outcome`;
    expect(seen[0]).toContain(["first", "second", "third"].map(missing).join("\n"));
    expect(seen[1]).toMatch(/^\| first +\| passed +\| 3 /m);
    expect(seen[2]).toMatch(/^## The end of second\n\n```text\nError: Out of luck\.$/m);
    expect(seen[2]).toContain(`## What did not run\n\n${missing("third")}\n\n`);
    expect(readFileSync(file, "utf8")).not.toMatch(/cut off/);
  });
});

test("what may stay behind is nothing that runs the tests there", () => {
  interface Locked {
    dependencies?: Record<string, string>;
    optionalDependencies?: Record<string, string>;
  }
  const lock = JSON.parse(readFileSync(path.join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, Locked>;
  };
  // Each name once: what lies nested in another package travels with it.
  const needed = new Set(["fast-check", "jest", "node-gyp-build", "ts-jest", "typescript"]);
  for (const name of needed) {
    const { dependencies, optionalDependencies } = lock.packages[`node_modules/${name}`] ?? {};
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) needed.add(next);
  }
  expect(needed.size).toBeGreaterThan(100);
  const { STAYS } = load("products");
  const isIn = (name: string, folder: string): boolean => name === folder || name.startsWith(`${folder}/`);
  expect([...needed].filter((name) => STAYS.some((folder) => isIn(name, folder)))).toEqual([]);
  const all = Object.keys(lock.packages).map((place) => place.replace(/^node_modules\//, ""));
  expect(STAYS.filter((folder) => !all.some((name) => isIn(name, folder)))).toEqual([]);
});

describe("the benchmark", () => {
  const compiled = path.join(root, "build/test/speed-gpu-check");

  beforeAll(() => {
    // Apart from what other tests compile at the same time.
    const compiler = require.resolve("typescript/bin/tsc");
    execFileSync(process.execPath, [compiler, "-p", path.join(root, "bench"), "--outDir", compiled]);
  }, 60_000);

  /** In its place: prints its arguments, writes results with so many settings and exits, or does not. Its tables are real. */
  const played = (settings: number, end: string): string[] => [
    process.execPath,
    program(
      "bench",
      `const args = process.argv.slice(2);
      if (args.includes("--tables")) {
        const main = ${JSON.stringify(path.join(compiled, "bench/speed/main.mjs"))};
        require("node:child_process").execFileSync(process.execPath, [main, ...args], { stdio: "inherit" });
        process.exit();
      }
      const folder = args[args.indexOf("--out") + 1];
      const round = { seconds: 0.001, copy: 2e12, memcpy: 1e12, rmw: 1e12, read: 1e12 };
      const step = { name: "step", way: "resident", parameters: 25e6, bytesPerParameter: 80, stateBytes: 1 };
      const setting = { subject: "large", terms: 3, form: "perTerm", inputs: "cold" };
      const settings = Array(${settings}).fill({ ...setting, contenders: [{ ...step, rounds: [round] }] });
      require("node:fs").mkdirSync(folder, { recursive: true });
      require("node:fs").writeFileSync(
        folder + "/results.json",
        JSON.stringify({ gpu: { name: "G" }, settings, host: [], peers: [], left: 3 }),
      );
      console.log(args.join(" "));
      ${end}`,
    ),
  ];
  const run = (limit: number, settings: number, end: string): Promise<Found> =>
    load("benchmark").benchmark(limit, path.join(folder, "speed"), played(settings, end));

  test("is called for the GPU, for so long, and gives its figures", async () => {
    const { log, tables, ...found } = await run(120, 2, "");
    expect(found).toEqual({ outcome: "passed", remark: "2 settings measured, 3 left" });
    expect(log).toMatch(/^--device cuda .*--python python3 .*--figures --seconds 105 --out /);
    const [head, step] = new Map(tables).get("Steps")!;
    expect(step![head!.indexOf("of copy")]).toBe("100 %");
    expect(new Map(tables).get("Goals")![1]!.slice(1, 3)).toEqual(["at least 92 %", "100 %"]);
  });

  test("has passed where it is cut off with figures, and failed without any or where it breaks off", async () => {
    const cut = await run(3, 1, "setInterval(() => {}, 1000);");
    expect(cut).toMatchObject({ outcome: "passed", remark: "1 settings measured, ended after 3 s" });
    expect(await run(20, 0, "")).toMatchObject({ outcome: "failed", remark: "0 settings measured, 3 left" });
    const broken = await run(20, 1, "process.exitCode = 4;");
    expect(broken).toMatchObject({ outcome: "failed", remark: "1 settings measured, exit code 4" });
    expect(broken.tables).not.toHaveLength(0);
    const nothing = [process.execPath, "-e", "", "--"];
    const silent = await load("benchmark").benchmark(20, path.join(folder, "speed"), nothing);
    expect(silent).toMatchObject({ outcome: "failed", tables: [] }); // what an earlier run left counts for nothing
  });
});

describe("a command", () => {
  test("gives its output and exit code", async () => {
    const { execute } = load("execute");
    const source = 'console.log("out"); console.error("err"); process.exitCode = 3;';
    expect(await execute(process.execPath, ["-e", source], 20)).toMatchObject({
      status: 3,
      timedOut: false,
      output: "out\nerr\n",
    });
  });

  test("that cannot be started says so", async () => {
    const { execute } = load("execute");
    const { status, output } = await execute(path.join(folder, "absent"), [], 20);
    expect(status).toBeNull();
    expect(output).toMatch(/ENOENT/);
  });

  test("that takes too long is ended with all that it started", async () => {
    const { execute } = load("execute");
    const signs = path.join(folder, "signs-of-life");
    const child = `setInterval(() => require("node:fs").appendFileSync(${JSON.stringify(signs)}, "."), 20)`;
    const parent = `
      require("node:child_process").spawn(process.execPath, ["-e", ${JSON.stringify(child)}]);
      setInterval(() => {}, 1000);`;
    expect(await execute(process.execPath, ["-e", parent], 4)).toMatchObject({ timedOut: true });
    const signsGiven = statSync(signs).size;
    expect(signsGiven).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(statSync(signs).size).toBe(signsGiven);
  });

  // As one does that the driver holds: to be in another group has the same effect.
  test("that does not end when it is ended is not waited for", async () => {
    const { execute } = load("execute");
    const parent = `
      const options = { detached: true, stdio: "inherit" };
      const { pid } = require("node:child_process").spawn("sleep", ["60"], options);
      console.log(pid);
      setInterval(() => {}, 1000);`;
    const { timedOut, status, output } = await execute(process.execPath, ["-e", parent], 4);
    expect(output).toMatch(/^\d+\n$/);
    process.kill(Number(output), "SIGKILL");
    expect({ timedOut, status }).toEqual({ timedOut: true, status: null });
  }, 30_000);
});

test("how far GoogleTest came shows in what it prints", () => {
  const { progress } = load("googletest");
  const begun = "[ RUN      ] A.A\n[       OK ] A.A (0 ms)\n[ RUN      ] A.B\nx.cpp:1: Failure\n";
  expect(progress(`${begun}[  FAILED  ] A.B (2 ms)\n`)).toEqual({
    passed: 1,
    running: undefined,
    rest: "[ RUN      ] A.B\nx.cpp:1: Failure\n[  FAILED  ] A.B (2 ms)\n",
  });
  expect(progress(`${begun}[  FAILED  ] A.B (2 ms)\n[ RUN      ] A/C.D/0\n`).running).toBe("A/C.D/0");
  expect(progress("")).toEqual({ passed: 0, running: undefined, rest: "" });
});

test("GoogleTest's report is counted", () => {
  const { googleTestCounts, recorded } = load("googletest");
  const report = write(
    "report.json",
    googleTestReport(
      FAILED,
      PASSED,
      { name: "C", status: "RUN", result: "SKIPPED" },
      { name: "D", status: "NOTRUN", result: "SUPPRESSED" },
      { name: "E", status: "RUN", result: "INTERRUPTED" },
    ),
  );
  expect(googleTestCounts(report)).toEqual({ passed: 1, failed: 2, skipped: 2 });
  expect(recorded(report, "digest")).toBe("0123456789abcdef");
  expect(recorded(report, "absent")).toBeUndefined();
});

// As compute-sanitizer 2025.3 prints them.
const NO_ERRORS = "========= ERROR SUMMARY: 0 errors";
const NO_LEAKS = "========= LEAK SUMMARY: 0 bytes leaked in 0 allocations";
const NO_RACES = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)";

describe("what compute-sanitizer prints", () => {
  test.each([
    ["memcheck", `========= COMPUTE-SANITIZER\n${NO_LEAKS}\n${NO_ERRORS}\n`, undefined],
    [
      "memcheck",
      `========= LEAK SUMMARY: 64 bytes leaked in 1 allocations\n========= ERROR SUMMARY: 1 error\n`,
      "LEAK SUMMARY: 64 bytes leaked in 1 allocations; ERROR SUMMARY: 1 error",
    ],
    // Without the end of the context no leak is looked for.
    ["memcheck", `${NO_ERRORS}\n`, "ERROR SUMMARY: 0 errors"],
    ["memcheck", `${NO_LEAKS}\n========= ERROR SUMMARY: 20 errors\n`, /ERROR SUMMARY: 20 errors$/],
    ["racecheck", `${NO_RACES}\n`, undefined],
    [
      "racecheck",
      "========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)\n",
      "RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)",
    ],
    ["racecheck", `${NO_ERRORS}\n`, "ERROR SUMMARY: 0 errors"],
    ["initcheck", `${NO_ERRORS}\n`, undefined],
    ["synccheck", `${NO_ERRORS}\n`, undefined],
    ["synccheck", "========= ERROR SUMMARY: 3 errors\n", "ERROR SUMMARY: 3 errors"],
    ["initcheck", "[  PASSED  ] 20 tests.\n", "initcheck did not say what it found"],
  ])("under %s is judged by its summary: %j", (tool, output, found) => {
    const { findings } = load("sanitizer");
    if (found instanceof RegExp) expect(findings(tool, output)).toMatch(found);
    else expect(findings(tool, output)).toBe(found);
  });

  /** In the place of compute-sanitizer: prints, writes the program's report and exits. */
  function sanitizer(prints: string, report: string | undefined, status = 0): string {
    return program(
      "sanitizer",
      `const option = process.argv.find((argument) => argument.startsWith("--gtest_output=json:"));
      const report = ${JSON.stringify(report ?? null)};
      if (report !== null) require("node:fs").writeFileSync(option.slice("--gtest_output=json:".length), report);
      console.log(process.argv.slice(2).join(" "));
      console.log(${JSON.stringify(prints)});
      process.exitCode = ${String(status)};`,
    );
  }

  const run = (as: string | undefined): Promise<Found> =>
    load("parts").sanitized("initcheck", 20, path.join(folder, "report.json"), {
      execute: load("execute").execute,
      sanitizer: as,
    });

  test("decides, beside the tests and the exit code, whether the part passed", async () => {
    const passed = googleTestReport(PASSED);
    const failed = googleTestReport(PASSED, FAILED);
    expect(await run(sanitizer(NO_ERRORS, passed))).toMatchObject({
      outcome: "passed",
      passed: 1,
      failed: 0,
    });
    rmSync(path.join(folder, "report.json"));
    expect(await run(sanitizer("========= ERROR SUMMARY: 3 errors", passed))).toMatchObject({
      outcome: "failed",
      remark: "ERROR SUMMARY: 3 errors",
    });
    expect(await run(sanitizer(NO_ERRORS, failed, 1))).toMatchObject({ outcome: "failed", failed: 1 });
    expect(await run(sanitizer(NO_ERRORS, passed, 86))).toMatchObject({ outcome: "failed" });
    expect(await run(sanitizer(NO_ERRORS, googleTestReport()))).toMatchObject({
      outcome: "failed",
      passed: 0,
    });
    rmSync(path.join(folder, "report.json"));
    expect(await run(sanitizer(NO_ERRORS, undefined))).toMatchObject({
      outcome: "failed",
      remark: "no report, exit code 0",
    });
  });

  test("calls the tool with the tests, fewer of each", async () => {
    const { log } = await run(sanitizer(NO_ERRORS, googleTestReport(PASSED)));
    expect(log).toMatch(
      /^--tool initcheck --error-exitcode \d+ \S+gpu_tests --gtest_filter=-Digest\* .*--divide-rounds=\d+\n/,
    );
  });

  test("is no failure where it does not know the device or is not there", async () => {
    const refusal = '========= Error: Device not supported. Please refer to the "Supported Devices" section';
    expect(await run(sanitizer(refusal, undefined, 1))).toEqual({
      outcome: "not run",
      remark: "Device not supported",
    });
    expect(await run(undefined)).toEqual({
      outcome: "not run",
      remark: "there is no compute-sanitizer here",
    });
  });
});

describe("the commit", () => {
  const { commit } = load("commit");
  const git = (...args: string[]): string =>
    execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@t", ...args], {
      cwd: folder,
      encoding: "utf8",
    }).trim();

  test("is git's", () => {
    git("init", "--quiet");
    write(".gitignore", "build/\n");
    git("add", ".");
    git("commit", "--quiet", "--message", "first");
    const hash = git("rev-parse", "HEAD");
    expect(commit(folder)).toBe(hash);
    write("build/commit", `${hash}\n`);
    expect(commit(folder)).toBe(hash);
    write("build/commit", "0123\n");
    expect(commit(folder)).toBe(`${hash}; built from 0123`);
    write("docs/gpu/report.md", "");
    expect(commit(folder)).toBe(`${hash}; built from 0123`);
    write("new", "");
    expect(commit(folder)).toBe(`${hash} and changes that are not committed; built from 0123`);
  });

  test("is that of the build without git", () => {
    expect(commit(folder)).toBe("unknown: there is no git and no build/commit");
    write("build/commit", "0123\n");
    expect(commit(folder)).toBe("0123");
  });
});

describe("the report", () => {
  const { render, reportName } = load("report");

  const parts: Result[] = [
    {
      name: "native tests",
      outcome: "passed",
      passed: 17,
      failed: 0,
      skipped: 0,
      seconds: 12.34,
      log: "all well",
    },
    {
      name: "TypeScript suite",
      outcome: "failed",
      passed: 500,
      failed: 1,
      skipped: 2,
      seconds: 90.04,
      log: "● a step\n\n```\nExpected | received\n```\n",
    },
    {
      name: "compute-sanitizer memcheck",
      outcome: "not run",
      seconds: 0.001,
      remark: "there is no compute-sanitizer here",
    },
  ];

  test("names the device, the software, the commit and each part", () => {
    expect(render({ ...machine, parts })).toBe(`# NVIDIA H200, 2030-01-31

What \`scripts/gpu-check\` found. Failed: TypeScript suite. 1 of 3 parts did not run. Times are what the checks took, and decide nothing.

| what     | value                               |
| -------- | ----------------------------------- |
| device   | NVIDIA H200, compute capability 9.0 |
| driver   | 580.159.04, serves CUDA 13.0        |
| runtime  | CUDA 13.0                           |
| code for | 9.0                                 |
| commit   | 0123456789abcdef                    |

| part                       | outcome | passed | failed | skipped | seconds | remark |
| -------------------------- | ------- | ------ | ------ | ------- | ------- | ------ |
| native tests               | passed  | 17     | 0      | 0       | 12.3    |        |
| TypeScript suite           | failed  | 500    | 1      | 2       | 90.0    |        |
| compute-sanitizer memcheck | not run |        |        |         |         |        |

## What did not run

- compute-sanitizer memcheck: there is no compute-sanitizer here

## The end of TypeScript suite

\`\`\`\`text
● a step

\`\`\`
Expected | received
\`\`\`
\`\`\`\`
`);
  });

  const TABLES: Result["tables"] = [
    [
      "Steps",
      [
        ["of", "µs"],
        ["`a = s·a + b` ≥ 1", "1.0 (0.9–1.1)"],
        ["", "2 %"],
      ],
    ],
  ];

  test("has the figures of a part", () => {
    const report = render({ ...machine, parts: [{ ...parts[0]!, name: "benchmark", tables: TABLES }] });
    expect(report).toContain(`## Figures of the benchmark

### Steps

| of                | µs            |
| ----------------- | ------------- |
| \`a = s·a + b\` ≥ 1 | 1.0 (0.9–1.1) |
|                   | 2 %           |
`);
  });

  test("where all passed says no more than that", () => {
    const report = render({ ...machine, parts: parts.slice(0, 1) });
    expect(report).toMatch(/found\. All that ran passed\. Times/);
    expect(report).not.toMatch(/^##|all well/m);
  });

  test("is as prettier would have it", () => {
    const report = render({
      ...machine,
      parts: [...parts, { ...parts[0]!, name: "a | b", remark: "digest 01", tables: TABLES }],
    });
    const prettier = path.join(root, "node_modules", "prettier", "bin", "prettier.cjs");
    const args = [prettier, "--stdin-filepath", path.join(root, "docs", "gpu", "report.md")];
    expect(execFileSync(process.execPath, args, { input: report, encoding: "utf8" })).toBe(report);
  });

  test("shows the end of a long log", () => {
    const log = Array.from({ length: 500 }, (_, k) => `line ${String(k)}`).join("\n");
    const report = render({ ...machine, parts: [{ ...parts[1]!, log }] });
    expect(report).toMatch(/^line 499$/m);
    expect(report).not.toMatch(/^line 399$/m);
  });

  test("is called for the day and the device", () => {
    expect(reportName("2030-01-31", "NVIDIA GeForce RTX™ 4090 (Laptop)")).toBe(
      "2030-01-31-nvidia-geforce-rtx-4090-laptop.md",
    );
  });
});

test("the script is executable", () => {
  const file = path.join(root, "scripts", "gpu-check");
  expect(readFileSync(file, "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
  expect(statSync(file).mode & 0o111).toBe(0o111);
});
