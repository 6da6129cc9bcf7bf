import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
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
import { cellsOf } from "../support/markdown";

// scripts/gpu-check as far as it can be tested without a GPU: its output and exit code, its judgement of the output of
// tools (recorded, or from stand-ins), and its report. scripts/gpu/dry-run runs it with the native programs.

const root = path.join(__dirname, "..", "..");
const python = execFileSync("python3", ["-c", "import sys; print(sys.executable)"], {
  encoding: "utf8",
}).trim();
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

function program(name: string, body: string): void {
  chmodSync(write(name, `#!/usr/bin/env bash\n${body}\n`), 0o755);
}

interface Done {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** The PATH with the stand-ins before all other programs. */
function environment(): NodeJS.ProcessEnv {
  return {
    ...process.env,
    PATH: `${path.join(folder, "scripts/gpu/stand-ins")}:${process.env["PATH"] ?? ""}`,
  };
}

/** Evaluates Python expressions; `gpu` is the package of scripts/gpu in the tree. */
function evaluate(expression: string, modules: string, within = folder): unknown {
  const source = `import json\nfrom gpu import ${modules}\nprint(json.dumps(${expression}))`;
  const scripts = path.join(within, "scripts");
  return JSON.parse(
    execFileSync(python, ["-B", "-c", source], { cwd: scripts, encoding: "utf8", env: environment() }),
  );
}

const json = JSON.stringify;

// Recorded: GoogleTest 1.12.
const googleTestReport = (...tests: object[]): string =>
  json({ tests: tests.length, testsuites: [{ name: "Suite", testsuite: tests }] });
const PASSED = { name: "A", status: "RUN", result: "COMPLETED", digest: "0123456789abcdef" };
const FAILED = {
  name: "B",
  status: "RUN",
  result: "COMPLETED",
  failures: [{ failure: "x.cpp:1\nExpected" }],
};

/** A stand-in for the native tests: writes the report and prints its arguments. */
function nativeTests(report: string | undefined, ending = ""): void {
  program(
    "build/gpu/bin/mtadam_gpu_tests",
    `for argument; do
      case $argument in --gtest_output=json:*) report=\${argument#*json:} ;; esac
    done
    ${report === undefined ? "" : `echo '${report}' >"$report"`}
    echo "arguments: $*"
    ${ending}`,
  );
}

/** A stand-in for gpu_steps: prints a table of one shape, with the given microseconds for the norms. */
function steps(name: string, norms: number, ending = ""): void {
  program(
    `build/gpu/bin/${name}`,
    `case $1 in
      --describe)
        printf 'device\\tNVIDIA H200\\ncompute capability\\t9.0\\ndriver\\tserves CUDA 13.0\\n'
        printf 'runtime\\tCUDA 13.0\\ncode for\\t9.0\\n'
        exit ;;
      --shapes)
        printf 'one tensor of 50M\\t50000000\\nResNet-50\\t${Array(161).fill("64").join(",")}\\nMNIST CNN\\t288,32\\n'
        exit ;;
    esac
    echo "NVIDIA H200: a copy has 4000 GB/s, read and written."
    printf 'shape\\tI\\tmoments\\tnorms µs\\t%%\\tupdate µs\\t%%\\tstep µs\\t%%\\tgraph µs\\tstreamed µs\\t%%\\thost µs\\tlagged µs\\t%%\\n'
    printf 'one tensor of 50M\\t3\\tper-term\\t${norms}\\t90.0\\t400.0\\t90.0\\t500.0\\t90.0\\t490.0\\t600.0\\t90.0\\t5.0\\t420.0\\t91.0\\n'
    for form in 'summed' 'one pair, bfloat16' 'one pair and gradients, bfloat16'; do
      printf "one tensor of 50M\\t3\\t$form\\t90\\t90\\t400\\t90\\t400.0\\t90\\t490\\t600\\t90\\t5\\t250.0\\t91\\n"
    done
    ${ending}`,
  );
}

/** A tree as it is copied to a GPU machine, with stand-ins for all programs. */
function travelledTree(): void {
  cpSync(path.join(root, "scripts/gpu-check"), path.join(folder, "scripts/gpu-check"));
  cpSync(path.join(root, "scripts/gpu"), path.join(folder, "scripts/gpu"), { recursive: true });
  cpSync(path.join(root, "bench/peers"), path.join(folder, "bench/peers"), { recursive: true });
  nativeTests(googleTestReport(PASSED));
  steps("gpu_steps", 100);
  steps("gpu_steps_quick", 50);
  const products = evaluate("products.NODE", "products") as string[];
  for (const file of products) write(file, "");
  write("build/commit", "0123456789abcdef\n");
}

function gpuCheck(...args: string[]): Done & { report: string } {
  const file = path.join(folder, "report.md");
  const script = path.join(folder, "scripts/gpu-check");
  const done = spawnSync(python, [script, ...args, "--report", file], {
    encoding: "utf8",
    env: environment(),
  });
  return { ...done, report: existsSync(file) ? readFileSync(file, "utf8") : "" };
}

/** Name, outcome and remark of each part. */
function outcomes(report: string): string[][] {
  const rows = report.matchAll(/^\| ([^|]*?) +\| (passed|failed|not run) .*\| (.*?) *\|$/gm);
  return Array.from(rows, ([, name, outcome, remark]) => [name!, outcome!, remark!]);
}

function outcomeOf(name: string, report: string): string[] {
  return outcomes(report)
    .find(([part]) => part === name)!
    .slice(1);
}

describe("gpu-check", () => {
  // No device is visible to CUDA, even if this machine has one.
  const here = (...args: string[]): Done =>
    spawnSync(python, [path.join(root, "scripts/gpu-check"), ...args], {
      encoding: "utf8",
      env: { ...process.env, CUDA_VISIBLE_DEVICES: "" },
    });

  test.each([[[]], [["--built"]], [["--architecture", "90"]]])(
    "without a GPU says so and exits with 2: %j",
    (args) => {
      const report = path.join(folder, "report.md");
      expect(here(...args, "--report", report)).toMatchObject({
        status: 2,
        stdout: "",
        stderr: "There is no NVIDIA GPU on this machine, so nothing was checked.\n",
      });
      expect(existsSync(report)).toBe(false);
    },
  );

  test.each([
    [["--fast"], /^gpu-check: unrecognized arguments: --fast\n$/],
    [["--built", "--prepare"], /^gpu-check: `--built` and `--prepare` exclude each other\.\n$/],
    [
      ["--architecture", "hopper"],
      /^gpu-check: `--architecture` must be a number such as 90; got "hopper"\.\n$/,
    ],
  ])("refuses %j", (args, says) => {
    const { status, stderr } = here(...args);
    expect(status).toBe(1);
    expect(stderr).toMatch(says);
  });

  test("runs each part in its order and passes", () => {
    travelledTree();
    const { status, stdout, stderr, report } = gpuCheck("--built");
    expect(stderr).toBe("");
    expect(outcomes(report)).toEqual([
      ["device tests", "passed", "digest 0123456789abcdef"],
      ["semantics of the runtime", "passed", "digest 0123456789abcdef"],
      ["timings", "passed", "4 settings measured"],
      ["PyTorch's peers", "passed", ""],
      ["ncu", "passed", ""],
      ["A/B builds", "passed", "5 turns"],
      ["compute-sanitizer memcheck", "passed", "digest 0123456789abcdef"],
      ["compute-sanitizer initcheck", "passed", "digest 0123456789abcdef"],
      ["compute-sanitizer synccheck", "passed", "digest 0123456789abcdef"],
      ["compute-sanitizer racecheck", "passed", "digest 0123456789abcdef"],
      ["TypeScript suite", "passed", ""],
      ["benchmark", "passed", "1 settings measured, 3 left"],
    ]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^device tests: passed, 1 passed, 0 failed/m);
    expect(report).toMatch(/^# NVIDIA H200, \d{4}-\d\d-\d\d$/m);
    expect(report).toMatch(/^\| commit +\| 0123456789abcdef +\|$/m);
    expect(report).toMatch(/^\| driver +\| 580\.0, serves CUDA 13\.0 +\|$/m);
    expect(report).toContain("### NVIDIA H200: a copy has 4000 GB/s, read and written\n");
    expect(report).toMatch(/^\| `quick` \| one tensor of 50M \| 3 .*\| 0\.500 +\| 1\.000 +\| 1\.000 +\|$/m);
    expect(report).toMatch(
      /^\| one tensor of 50M .*`norms_kernel` +\| 1234\.5 \| 91\.2 % .*\| 12\.5 long scoreboard, 3\.2 barrier, 1\.0 wait/m,
    );
    expect(report).toMatch(/^\| one tensor of 50M .*`update_kernel` \| 2469\.0 \| 88\.5 % /m);
    // A step of one millisecond, compared with 500 µs; the other shapes have no earlier figures.
    expect(report).toMatch(
      /^\| PyTorch op by op +\| one tensor of 50M \| 3 +\| 1000 +\| per-term +\| 2\.00 +\|$/m,
    );
    const fused = report.split("\n").filter((line) => /^\| fused Adam.*one tensor of 50M/.test(line));
    expect(fused.map((line) => cellsOf(line).slice(4))).toEqual([
      ["summed", "2.50"],
      ["one pair, bfloat16, lagged", "4.00"],
      ["one pair and gradients, bfloat16, lagged", "4.00"],
    ]);
    expect(report).not.toMatch(/^\| `torch\.compile` +\| ResNet-50/m);
    expect(report).not.toMatch(/NaN|None|undefined/);
    const prettier = path.join(root, "node_modules/prettier/bin/prettier.cjs");
    const args = [prettier, "--stdin-filepath", path.join(root, "docs/gpu/report.md")];
    expect(execFileSync(process.execPath, args, { input: report, encoding: "utf8" })).toBe(report);
  });

  test("goes on after a part that fails, shows the end of what it printed, and exits with 1", () => {
    travelledTree();
    const long = "for k in {1..500}; do echo line $k; done; echo '```'; exit 1";
    nativeTests(googleTestReport(PASSED, FAILED), long);
    steps("gpu_steps_broken", 50, "echo no luck; exit 3");
    const { status, report } = gpuCheck("--built");
    expect(status).toBe(1);
    expect(outcomeOf("device tests", report)).toEqual(["failed", ""]);
    expect(outcomeOf("timings", report)[0]).toBe("passed");
    expect(outcomeOf("A/B builds", report)).toEqual(["failed", "5 turns; failed: broken"]);
    expect(report).toMatch(/^\| `quick` \| .*\| 0\.500 /m);
    expect(report).toMatch(
      /gpu-check`\. Failed: device tests, semantics of the runtime, A\/B builds, compute-/,
    );
    expect(report).toMatch(/^## The end of device tests\n\n````text\n(line \d+\n)+```\n````$/m);
    expect(report).toMatch(/^line 500$/m);
    expect(report).not.toMatch(/^line 399$/m);
    expect(report).toMatch(/^no luck$/m);
  });

  test("runs the selected parts", () => {
    travelledTree();
    const { status, report } = gpuCheck("--built", "--part", "timings", "--part", "compute-sanitizer mem");
    expect(status).toBe(0);
    const ran = outcomes(report).filter(([, outcome]) => outcome !== "not run");
    expect(ran.map(([name]) => name)).toEqual(["timings", "compute-sanitizer memcheck"]);
    expect(report).toMatch(/^- device tests: it was left out$/m);
    expect(gpuCheck("--built", "--part", "tests").stderr).toMatch(
      /^gpu-check: `--part` must be the beginning of one of device tests, .*; got "tests"\.\n$/,
    );
  });

  test("has a report at any time, which says what is missing", () => {
    travelledTree();
    const seen = path.join(folder, "seen.md");
    steps("gpu_steps", 100, `cp '${path.join(folder, "report.md")}' '${seen}'`);
    gpuCheck("--built", "--part", "device", "--part", "timings");
    const early = readFileSync(seen, "utf8");
    expect(outcomeOf("device tests", early)[0]).toBe("passed");
    expect(early).toMatch(/^- timings: the check was cut off before it had an outcome$/m);
    expect(readFileSync(path.join(folder, "report.md"), "utf8")).not.toMatch(/cut off/);
  });

  test("names what was not built, and the reason why CUDA cannot use the device", () => {
    travelledTree();
    rmSync(path.join(folder, "build/gpu/bin/mtadam_gpu_tests"));
    const missing = gpuCheck("--built");
    expect(missing.status).toBe(1);
    expect(missing.stderr).toBe(
      "gpu-check: `scripts/gpu-check --prepare` must build mtadam_gpu_tests first.\n",
    );
    nativeTests(googleTestReport(PASSED));
    program("build/gpu/bin/gpu_steps", "echo 'The driver is too old.' >&2; exit 2");
    const unusable = gpuCheck("--built");
    expect(unusable).toMatchObject({ status: 1, stderr: "gpu-check: The driver is too old.\n", report: "" });
  });

  test("says why what has no tool did not run", () => {
    travelledTree();
    const standIn = (name: string): string => `scripts/gpu/stand-ins/${name}`;
    rmSync(path.join(folder, "dist/index.js"));
    rmSync(path.join(folder, "build/gpu/bin/gpu_steps_quick"));
    program(standIn("python3"), "echo \"ModuleNotFoundError: No module named 'torch'\"; exit 1");
    program(standIn("ncu"), "echo '==ERROR== ERR_NVGPUCTRPERM - The user does not have permission'; exit 1");
    const refusal = '========= Error: Device not supported. Please refer to the "Supported Devices" section';
    program(standIn("compute-sanitizer"), `echo '${refusal}'; exit 1`);
    const { status, report } = gpuCheck("--built");
    expect(status).toBe(0);
    const sections = report.split("## What did not run\n\n")[1]!.split("\n\n")[0];
    const absent = "`scripts/gpu-check --prepare --node` has not built dist/index.js";
    const none = "ModuleNotFoundError: No module named 'torch'";
    expect(sections).toBe(
      [
        `- PyTorch's peers: PyTorch op by op: ${none}; \`torch._foreach\`: ${none}; ` +
          `fused Adam, one term, on the sum: ${none}; \`torch.compile\`: ${none}`,
        "- ncu: this user may not read the GPU's counters (ERR_NVGPUCTRPERM)",
        "- A/B builds: no variant was built",
        ...["memcheck", "initcheck", "synccheck", "racecheck"].map(
          (tool) => `- compute-sanitizer ${tool}: Device not supported`,
        ),
        `- TypeScript suite: ${absent}`,
        `- benchmark: ${absent}`,
      ].join("\n"),
    );
  });

  test("calls the native tests with what each part is about, and fewer of each under a checker", () => {
    travelledTree();
    nativeTests(undefined);
    const { report } = gpuCheck("--built");
    expect(outcomeOf("device tests", report)).toEqual(["failed", "no report, exit code 0"]);
    const said = Array.from(
      report.matchAll(/^arguments: (--gtest_filter=\S+) \S+ ?(.*)$/gm),
      ([, ...all]) => all,
    );
    const checked = ["--gtest_filter=-RuntimeSemantics.*:Digest*", "--divide-rounds=48"];
    expect(said).toEqual([
      ["--gtest_filter=-RuntimeSemantics.*", ""],
      ["--gtest_filter=RuntimeSemantics.*", ""],
      ...Array<string[]>(4).fill(checked),
    ]);
  });

  test("has a limit of time", () => {
    const limits = evaluate(
      "[part.limit for part in parts.all_parts('report.md')]",
      "parts",
      root,
    ) as number[];
    const all = limits.reduce((sum, limit) => sum + limit);
    const native = limits.slice(0, -2).reduce((sum, limit) => sum + limit);
    expect(native).toBeLessThanOrEqual(600);
    expect(all).toBeLessThanOrEqual(900);
  });
});

// This test needs neither CMake nor nvcc, which check the same during a build.
test("each text that a variant of the kernels replaces occurs once", () => {
  const list = readFileSync(path.join(root, "bench/speed/variants.cmake"), "utf8");
  const replaced = Array.from(list.matchAll(/(cuda\/(?:kernels\/)?\w+\.cuh?) "([^"]*)" "([^"]*)"/g));
  expect(replaced.length).toBeGreaterThan(5);
  for (const [, file, pattern, replacement] of replaced) {
    const source = readFileSync(path.join(root, "native", file!), "utf8");
    expect([file, pattern, source.split(pattern!).length - 1]).toEqual([file, pattern, 1]);
    expect(replacement).not.toBe(pattern);
  }
});

test("files that are not copied are not needed for the tests there", () => {
  interface Locked {
    dependencies?: Record<string, string>;
    optionalDependencies?: Record<string, string>;
  }
  const lock = JSON.parse(readFileSync(path.join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, Locked>;
  };
  // Each name once: a nested package is copied with the package around it.
  const needed = new Set(["fast-check", "jest", "node-gyp-build", "ts-jest", "typescript"]);
  for (const name of needed) {
    const { dependencies, optionalDependencies } = lock.packages[`node_modules/${name}`] ?? {};
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) needed.add(next);
  }
  expect(needed.size).toBeGreaterThan(100);
  const stays = evaluate("products.STAYS", "products", root) as string[];
  const isIn = (name: string, of: string): boolean => name === of || name.startsWith(`${of}/`);
  expect([...needed].filter((name) => stays.some((each) => isIn(name, each)))).toEqual([]);
  const all = Object.keys(lock.packages).map((place) => place.replace(/^node_modules\//, ""));
  expect(stays.filter((each) => !all.some((name) => isIn(name, each)))).toEqual([]);
});

describe("the benchmark", () => {
  const STAND_IN = "scripts/gpu/stand-ins/node";

  /** Runs it for this long and returns the result. */
  const run = (limit: number): unknown[] => {
    const found = `parts.Check('${path.join(folder, "report.md")}').benchmark(${String(limit)})`;
    return evaluate(
      `[(f.outcome, f.remark, len(f.tables), f.log) for f in [${found}]][0]`,
      "parts",
    ) as unknown[];
  };

  /** A stand-in: prints its arguments, writes results with this many settings, and exits. */
  const played = (settings: number, ending: string): void =>
    program(
      STAND_IN,
      `case "$*" in *--tables*) echo '[["Steps", [["of"], ["1"]]]]'; exit ;; esac
      words="$*"; folder=\${words##*--out }; mkdir -p "$folder"
      echo '${json({ settings: Array(settings).fill({}), left: 3 })}' >"$folder/results.json"
      echo "$words"
      ${ending}`,
    );

  test("is called for the GPU, for so long, and gives its figures", () => {
    travelledTree();
    played(2, "");
    expect(run(120)).toEqual([
      "passed",
      "2 settings measured, 3 left",
      1,
      expect.stringMatching(
        / --device cuda .*--python python3 .*--figures --seconds 105 --out \S+report-speed\n$/,
      ),
    ]);
  });

  test("has passed where it is cut off with figures, and failed without any or where it breaks off", () => {
    travelledTree();
    played(1, "sleep 60");
    expect(run(2).slice(0, 3)).toEqual(["passed", "1 settings measured, ended after 2 s", 1]);
    played(0, "");
    expect(run(20).slice(0, 2)).toEqual(["failed", "0 settings measured, 3 left"]);
    played(1, "exit 4");
    expect(run(20).slice(0, 3)).toEqual(["failed", "1 settings measured, exit code 4", 1]);
    program(STAND_IN, "");
    expect(run(20)).toEqual(["failed", "0 settings measured, 0 left", 0, ""]); // results of an earlier run do not count
  });
});

describe("a command", () => {
  const execute = (command: string[], limit: number): unknown =>
    evaluate(`vars(execute.execute(${json(command)}, ${String(limit)}))`, "execute", root);

  test("gives its output and exit code", () => {
    expect(execute(["bash", "-c", "echo out; echo err >&2; exit 3"], 20)).toEqual({
      status: 3,
      timed_out: false,
      output: "out\nerr\n",
    });
  });

  test("that cannot be started says so", () => {
    expect(execute([path.join(folder, "absent")], 20)).toMatchObject({
      status: null,
      output: expect.stringMatching(/No such file/) as string,
    });
  });

  test("that takes too long is ended with all that it started", async () => {
    const signs = path.join(folder, "signs-of-life");
    const child = `while sleep 0.02; do echo -n . >>'${signs}'; done`;
    const parent = `(${child}) & wait`;
    expect(execute(["bash", "-c", parent], 2)).toMatchObject({ status: null, timed_out: true });
    const signsGiven = statSync(signs).size;
    expect(signsGiven).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(statSync(signs).size).toBe(signsGiven);
  });

  // Like a process that the driver blocks: one in another session has the same effect.
  test("that does not end when it is ended is not waited for", () => {
    const begin = performance.now();
    const parent = "setsid sleep 60 & echo $!; wait";
    const { timed_out: timedOut, output } = execute(["bash", "-c", parent], 2) as {
      timed_out: boolean;
      output: string;
    };
    expect(timedOut).toBe(true);
    expect(output).toMatch(/^\d+\n$/);
    process.kill(Number(output), "SIGKILL");
    expect(performance.now() - begin).toBeLessThan(30_000);
  }, 40_000);
});

test("a native test that takes too long is named", () => {
  travelledTree();
  nativeTests(
    undefined,
    "printf '[ RUN      ] A.A\\n[       OK ] A.A (0 ms)\\n[ RUN      ] A.B\\n'; sleep 60",
  );
  const found = "parts.Check('report.md').tests('*', 2)";
  expect(evaluate(`[(f.outcome, f.passed, f.failed, f.remark) for f in [${found}]][0]`, "parts")).toEqual([
    "failed",
    1,
    1,
    "ended after 2 s in A.B",
  ]);
});

describe("what GoogleTest says", () => {
  test("how far it came shows in what it prints", () => {
    const progress = (output: string): unknown =>
      evaluate(`googletest.progress(${json(output)})`, "googletest", root);
    const begun = "[ RUN      ] A.A\n[       OK ] A.A (0 ms)\n[ RUN      ] A.B\nx.cpp:1: Failure\n";
    expect(progress(`${begun}[  FAILED  ] A.B (2 ms)\n`)).toEqual([
      1,
      null,
      "[ RUN      ] A.B\nx.cpp:1: Failure\n[  FAILED  ] A.B (2 ms)\n",
    ]);
    expect(progress(begun)).toEqual([1, "A.B", "[ RUN      ] A.B\nx.cpp:1: Failure\n"]);
    expect(progress("")).toEqual([0, null, ""]);
  });

  test("a test that neither passed nor was skipped has failed", () => {
    const report = write(
      "report.json",
      googleTestReport(
        PASSED,
        FAILED,
        { name: "C", status: "RUN", result: "SKIPPED" },
        { name: "D", status: "NOTRUN", result: "SUPPRESSED" },
        { name: "E", status: "RUN", result: "INTERRUPTED" },
      ),
    );
    const of = (call: string): unknown => evaluate(`googletest.${call}`, "googletest", root);
    expect(of(`counts('${report}')`)).toEqual([1, 2, 2]);
    expect(of(`recorded('${report}', 'digest')`)).toBe("0123456789abcdef");
    expect(of(`recorded('${report}', 'absent')`)).toBeNull();
  });
});

// As compute-sanitizer 2025.3 prints them.
const NO_ERRORS = "========= ERROR SUMMARY: 0 errors";
const NO_LEAKS = "========= LEAK SUMMARY: 0 bytes leaked in 0 allocations";
const NO_RACES = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)";

describe("what compute-sanitizer prints", () => {
  test.each([
    ["memcheck", `========= COMPUTE-SANITIZER\n${NO_LEAKS}\n${NO_ERRORS}\n`, null],
    [
      "memcheck",
      `========= LEAK SUMMARY: 64 bytes leaked in 1 allocations\n========= ERROR SUMMARY: 1 error\n`,
      "LEAK SUMMARY: 64 bytes leaked in 1 allocations; ERROR SUMMARY: 1 error",
    ],
    // Leaks are not looked for unless the context is destroyed.
    ["memcheck", `${NO_ERRORS}\n`, "ERROR SUMMARY: 0 errors"],
    ["memcheck", `${NO_LEAKS}\n========= ERROR SUMMARY: 20 errors\n`, /ERROR SUMMARY: 20 errors$/],
    ["racecheck", `${NO_RACES}\n`, null],
    [
      "racecheck",
      "========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)\n",
      "RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)",
    ],
    ["racecheck", `${NO_ERRORS}\n`, "ERROR SUMMARY: 0 errors"],
    ["initcheck", `${NO_ERRORS}\n`, null],
    ["synccheck", `${NO_ERRORS}\n`, null],
    ["synccheck", "========= ERROR SUMMARY: 3 errors\n", "ERROR SUMMARY: 3 errors"],
    ["initcheck", "[  PASSED  ] 20 tests.\n", "initcheck printed no summary"],
  ])("under %s is judged by its summary: %j", (tool, output, says) => {
    const found = evaluate(`sanitizer.findings('${tool}', ${json(output)})`, "sanitizer", root);
    if (says instanceof RegExp) expect(found).toMatch(says);
    else expect(found).toBe(says);
  });

  /** The initcheck part with this output of the tool and this report of the tests. */
  const run = (prints: string, report: string | undefined, status = 0): unknown => {
    nativeTests(report);
    const ending = `echo '${prints}'; exit ${String(status)}`;
    program(
      "scripts/gpu/stand-ins/compute-sanitizer",
      `while [[ $1 != */mtadam_gpu_tests ]]; do shift; done; "$@"; ${ending}`,
    );
    const found = "parts.Check('report.md').sanitized('initcheck', 20)";
    return evaluate(`[(f.outcome, f.passed, f.failed, f.remark) for f in [${found}]][0]`, "parts");
  };

  test("decides, beside the tests and the exit code, whether the part passed", () => {
    travelledTree();
    const passed = googleTestReport(PASSED);
    expect(run(NO_ERRORS, passed)).toEqual(["passed", 1, 0, "digest 0123456789abcdef"]);
    const errors = "ERROR SUMMARY: 3 errors";
    expect(run(`========= ${errors}`, passed)).toEqual(["failed", 1, 0, errors]);
    expect(run(NO_ERRORS, googleTestReport(PASSED, FAILED), 1)).toEqual(["failed", 1, 1, ""]);
    expect(run(NO_ERRORS, passed, 86)).toEqual(["failed", 1, 0, "exit code 86"]);
    expect(run(NO_ERRORS, googleTestReport())).toEqual(["failed", 0, 0, ""]);
    expect(run(NO_ERRORS, undefined)).toEqual(["failed", null, null, "no report, exit code 0"]);
  });
});

describe("the commit", () => {
  const commit = (): unknown => evaluate("commit.commit()", "commit");
  const git = (...args: string[]): string =>
    execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@t", ...args], {
      cwd: folder,
      encoding: "utf8",
    }).trim();

  beforeEach(() =>
    cpSync(path.join(root, "scripts/gpu"), path.join(folder, "scripts/gpu"), { recursive: true }),
  );

  test("is git's", () => {
    git("init", "--quiet");
    write(".gitignore", "build/\n");
    git("add", ".");
    git("commit", "--quiet", "--message", "first");
    const hash = git("rev-parse", "HEAD");
    expect(commit()).toBe(hash);
    write("build/commit", `${hash}\n`);
    expect(commit()).toBe(hash);
    write("build/commit", "0123\n");
    expect(commit()).toBe(`${hash}; built from 0123`);
    write("docs/gpu/report.md", "");
    expect(commit()).toBe(`${hash}; built from 0123`);
    write("new", "");
    expect(commit()).toBe(`${hash} and changes that are not committed; built from 0123`);
  });

  test("is that of the build without git", () => {
    expect(commit()).toBe("unknown: there is no git and no build/commit");
    write("build/commit", "0123\n");
    expect(commit()).toBe("0123");
  });
});

describe("the report", () => {
  const TEXT = `# NVIDIA H200, 2030-01-31

Results of \`scripts/gpu-check\`. Failed: TypeScript suite. 1 of 3 parts did not run. The times are those of the checks, not benchmarks.

| what   | value            |
| ------ | ---------------- |
| device | NVIDIA H200      |
| commit | 0123456789abcdef |

| part             | outcome | passed | failed | skipped | seconds | remark |
| ---------------- | ------- | ------ | ------ | ------- | ------- | ------ |
| native tests     | passed  | 17     | 0      | 0       | 12.3    |        |
| TypeScript suite | failed  | 500    | 1      | 2       | 90.0    | a \\| b |
| ncu              | not run |        |        |         |         |        |

## What did not run

- ncu: there is no ncu here

## Figures of the native tests

### Steps

| of                | µs            |
| ----------------- | ------------- |
| \`a = s·a + b\` ≥ 1 | 1.0 (0.9–1.1) |
|                   | 2 %           |

## The end of TypeScript suite

\`\`\`\`text
● a step

\`\`\`
Expected | received
\`\`\`
\`\`\`\`
`;

  test("names the device, the software, the commit and each part", () => {
    const facts = { date: "2030-01-31", device: "NVIDIA H200", commit: "0123456789abcdef" };
    const tables = [
      [
        "Steps",
        [
          ["of", "µs"],
          ["`a = s·a + b` ≥ 1", "1.0 (0.9–1.1)"],
          ["", "2 %"],
        ],
      ],
    ];
    const log = "● a step\n\n```\nExpected | received\n```\n";
    const results = `[
      ("native tests", parts.Found("passed", 17, 0, 0, log="all well", tables=${json(tables)}), 12.34),
      ("TypeScript suite", parts.Found("failed", 500, 1, 2, "a | b", log=${json(log)}), 90.04),
      ("ncu", parts.Found("not run", remark="there is no ncu here"), 0.001),
    ]`;
    expect(evaluate(`report.render(${json(facts)}, ${results})`, "parts, report", root)).toBe(TEXT);
    const passed = `[("native tests", parts.Found("passed", 17, 0, 0, log="all well"), 12.34)]`;
    const short = evaluate(`report.render(${json(facts)}, ${passed})`, "parts, report", root);
    expect(short).toMatch(/gpu-check`\. All that ran passed\. The times/);
    expect(short).not.toMatch(/^##|all well/m);
  });

  test("is called for the day and the device", () => {
    const name = "report.report_name('2030-01-31', 'NVIDIA GeForce RTX™ 4090 (Laptop)')";
    expect(evaluate(name, "report", root)).toBe("2030-01-31-nvidia-geforce-rtx-4090-laptop.md");
  });
});

test("the scripts are executable", () => {
  for (const name of ["scripts/gpu-check", "scripts/gpu/dry-run"]) {
    expect([name, statSync(path.join(root, name)).mode & 0o111]).toEqual([name, 0o111]);
  }
  expect(readFileSync(path.join(root, "scripts/gpu-check"), "utf8")).toMatch(/^#!\/usr\/bin\/env python3\n/);
});
