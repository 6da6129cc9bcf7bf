import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/folder";

// bench/speed for a GPU, as far as it can be tested without one: the device and the program that measures its memory
// run on the host executor, and stand-ins replace the peers. Measured times are not asserted.

interface Round {
  seconds: number;
  copy?: number;
  memcpy?: number;
  rmw: number;
  read: number;
  traffic?: number;
}

interface Results {
  left?: number;
  peers: { name: string; version?: string; notRun?: string }[];
  settings: {
    subject: string;
    terms: number;
    form: string;
    inputs: string;
    contenders: { name: string; rounds: Round[]; notRun?: string }[];
  }[];
  host: { key: string; rounds: number[] }[];
}

const root = path.join(__dirname, "../..");
// A separate folder, since other tests compile at the same time.
const compiled = path.join(root, "build/test/speed-gpu");
const roof = path.join(root, "build/test/gpu-roof/gpu_roof");
const folder = temporaryFolder();

/** The executor and its runtime need Linux. */
const onLinux = process.platform === "linux" ? describe : describe.skip;

function cmake(...args: string[]) {
  return execFileSync("cmake", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

beforeAll(() => {
  const compiler = require.resolve("typescript/bin/tsc");
  const args = ["-p", path.join(root, "bench"), "--outDir", compiled];
  execFileSync(process.execPath, [compiler, "--noCheck", ...args]); // `npm run lint` checks types
}, 60_000);

onLinux("on the executor", () => {
  beforeAll(() => {
    execFileSync(process.execPath, ["-e", 'require("./scripts/build/setup").executor()'], { cwd: root });
    cmake("-S", "test/support/gpu-roof", "-B", path.dirname(roof));
    cmake("--build", path.dirname(roof), "--target", "gpu_roof", "--parallel", "2");
  }, 240_000);

  function bench(seconds: number, ...args: string[]) {
    const script = path.join(root, "test/support/bench-gpu.mjs");
    return spawnSync(process.execPath, [script, compiled, roof, String(seconds), ...args], {
      cwd: root,
      encoding: "utf8",
      env: { ...process.env, MTADAM_BENCH: compiled },
    });
  }

  const resultsIn = (name: string): Results =>
    JSON.parse(readFileSync(path.join(folder, name, "results.json"), "utf8")) as Results;

  test("the roof's kernels stay within their memory, and its lines are answered", () => {
    const lines = [
      "read 1",
      "memory 100000 2",
      ...["copy 3", "memcpy 2", "update 3", "read 1"],
      "memory 1 3",
      ...["copy 4", "update 4", "read 4"],
      "memory 100000000000 1",
      "memory 8",
      "fly",
      "memory 8 1",
      "fly 1",
      "memory 0 1",
      "memory 0 0",
    ];
    const { status, stdout, stderr } = spawnSync(roof, ["0"], { input: lines.join("\n"), encoding: "utf8" });
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const seconds = "ok SECONDS";
    expect(stdout.replace(/^ok [\d.e-]+$/gm, seconds).split("\n")).toEqual([
      "error A call must come after `memory`.",
      "ok",
      ...[seconds, seconds, seconds, seconds],
      "ok",
      ...[seconds, seconds, seconds],
      "error There is not enough memory for these sets.",
      "error A line must be `memory` and two numbers, or a word and one.",
      "error A line must be `memory` and two numbers, or a word and one.",
      "ok",
      "error The first word must be `copy`, `memcpy`, `update`, `read` or `memory`.",
      "error A set must have memory.",
      "ok",
      "",
    ]);
    expect(spawnSync(roof, ["7"], { encoding: "utf8" })).toMatchObject({
      status: 1,
      stderr: "cudaSetDevice failed: cudaErrorInvalidDevice.\n",
    });
  });

  test("a run with peers: its measurements, one process per peer, and a peer that never ends is abandoned", () => {
    const python = path.join(root, "test/support/fake-peer.mjs");
    const out = path.join(folder, "peers");
    const { status, stdout, stderr } = bench(
      Infinity,
      "--figures",
      "--python",
      python,
      "--patience",
      "3",
      "--out",
      out,
    );
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(readdirSync(out)).toEqual(["results.json"]);
    expect(stdout).toMatch(
      /of a copy's bandwidth, 25,000,000 parameters or more +at least 92 % +not measured/,
    );

    const { peers, settings, host, left } = resultsIn("peers");
    expect(left).toBeUndefined();
    expect(peers.map(({ name, version, notRun }) => [name, version, notRun])).toEqual([
      ["eager", "0.fake+cuda:0", undefined],
      ["foreach", "0.fake+cuda:0", expect.stringMatching(/^its parameters differ/)],
      ["compiled", "0.fake+cuda:0", undefined],
      ["fused", "0.fake+cuda:0", undefined],
    ]);
    const names = settings.map(({ subject, terms, form, inputs, contenders }) => [
      `${subject} ${terms} ${form} ${inputs}`,
      contenders.map(({ name }) => name).join(" "),
    ]);
    expect(names).toContainEqual(["mnist 1 perTerm warm", "step streamed captured"]);
    expect(names).toContainEqual(["mnist 3 perTerm cold", "step streamed captured eager"]);
    expect(names).toContainEqual(["mnist 3 summed cold", "step streamed captured compiled fused"]);
    expect(names).toContainEqual(["many 3 perTerm cold", "step streamed flat eager"]);
    for (const { contenders } of settings) {
      for (const { rounds, notRun } of contenders) {
        if (notRun !== undefined) continue;
        expect(rounds).toHaveLength(3);
        for (const { seconds, copy, memcpy, rmw, read, traffic } of rounds) {
          for (const figure of [seconds, copy, memcpy, rmw, read]) expect(figure).toBeGreaterThan(0);
          expect(traffic).toBeUndefined();
        }
      }
    }
    // Stand-in peers take one second per setup, rests included.
    const ofEager = settings.flatMap(({ contenders }) =>
      contenders.flatMap(({ name, rounds }) => (name === "eager" ? [rounds[0]!.seconds] : [])),
    );
    expect(ofEager.length).toBeGreaterThan(1);
    expect([...ofEager].sort((a, b) => a - b)).toEqual(ofEager.map((_, k) => 2 * k + 1));
    // A peer that cannot rest is ended, and another is started.
    const ofFused = settings.flatMap(({ contenders }) =>
      contenders.flatMap(({ name, rounds }) => (name === "fused" ? [rounds[0]!.seconds] : [])),
    );
    expect(ofFused).toEqual(ofFused.map(() => 1));
    const reasons = settings.flatMap(({ subject, contenders }) =>
      contenders.flatMap(({ name, notRun }) => (name === "compiled" ? [[subject, notRun]] : [])),
    );
    expect(reasons.filter(([, notRun]) => notRun !== undefined)).toEqual([
      ["many", "The process ended: no answer within 3 s"],
    ]);
    expect(host.map(({ key }) => key)).toEqual(
      expect.arrayContaining(["prepared", "replay", "several", "wide", "unchanged", "changed"]),
    );
  }, 120_000);

  test("a run with a limit measures its first model before what a call costs and before peers, and again beside them", () => {
    const python = path.join(root, "test/support/fake-peer.mjs");
    const args = ["--terms", "3", "--peer-terms", "3", "--patience", "3", "--python", python];
    const { status, stdout } = bench(1000, "--figures", ...args, "--out", path.join(folder, "limit"));
    expect(status).toBe(0);
    const [before, host, peers] = ["MNIST CNN, I = 3, ", "What a call costs", "eager "].map((line) =>
      stdout.search(new RegExp(`^${line}`, "m")),
    );
    expect(before).toBeGreaterThanOrEqual(0);
    expect(host).toBeGreaterThan(before!);
    expect(peers).toBeGreaterThan(host!);
    const { settings, left } = resultsIn("limit");
    expect(left).toBeUndefined();
    const names = settings.map(({ subject, form, inputs }) => `${subject} ${form} ${inputs}`);
    expect(new Set(names).size).toBe(names.length);
    const first = settings.find(({ subject, form }) => subject === "mnist" && form === "perTerm");
    expect(first?.contenders.map(({ name }) => name)).toContain("eager");
  }, 120_000);

  test("a run whose time is up leaves the rest, and its results can be drawn elsewhere", () => {
    const out = path.join(folder, "cut");
    const { status, stdout } = bench(0, "--figures", "--out", out);
    expect(status).toBe(0);
    expect(resultsIn("cut").left).toBe(resultsIn("peers").settings.length);
    expect(stdout).toMatch(/^The time is up: \d+ of \d+ settings are left$/m);

    const main = path.join(compiled, "bench/speed/main.mjs");
    for (const [name, place] of [
      ["cut", out],
      ["peers", path.join(folder, "peers")],
    ] as const) {
      const drawn = spawnSync(process.execPath, [main, "--draw", "--out", place], { encoding: "utf8" });
      expect([name, drawn.status, drawn.stderr]).toEqual([name, 0, ""]);
      expect(readdirSync(place).sort()).toEqual(["README.md", "results.json", "speed.svg"]);
      expect(readFileSync(path.join(place, "README.md"), "utf8")).not.toMatch(/NaN|undefined|Infinity/);
    }
    // With the options of scripts/gpu-check.
    const tables = spawnSync(process.execPath, [main, "--tables", "--out", folder + "/peers"], {
      encoding: "utf8",
    });
    const titles = (JSON.parse(tables.stdout) as [string, string[][]][]).map(([title]) => title);
    expect(titles).toEqual(expect.arrayContaining(["The roof", "Steps", "Peers", "Goals"]));
    expect(readFileSync(path.join(out, "README.md"), "utf8")).toMatch(
      /The time was up with \d+ settings left/,
    );
  }, 60_000);
});

describe("tables", () => {
  let said: Record<"steps" | "roof" | "peers" | "goals" | "nothing", string[][]> &
    Record<"differences" | "slower", string[]>;

  beforeAll(() => {
    const script = path.join(root, "test/support/bench-gpu-tables.mjs");
    said = JSON.parse(
      execFileSync(process.execPath, [script, compiled], { encoding: "utf8" }),
    ) as typeof said;
  });

  test("of steps: the share of a copy, with gradients read twice and once", () => {
    const [head, step] = said.steps;
    expect(Object.fromEntries(head!.map((name, i) => [name, step![i]]))).toMatchObject({
      B: "80",
      "of copy": "95 % (95–96)",
      "of copy, read once": "81 %",
    });
  });

  test("of the roof: both ways to copy and the better of them", () => {
    expect(said.roof.map(([name, value]) => `${name}: ${value}`)).toEqual([
      "kernel: GB/s",
      "copying, the better of both: 2400.0",
      "copying, by a kernel: 2400.0",
      "copying, by cudaMemcpyAsync: 2300.0",
      "a = s·a + b: 2200.0",
      "reading: 2500.0",
    ]);
  });

  test("of peers: none that differs in malloc alone", () => {
    expect(said.peers.map(([name]) => name)).toEqual([
      "peer",
      "PyTorch op by op",
      "torch._foreach",
      "torch.compile",
      "fused Adam, one term, on the sum",
    ]);
  });

  test("of goals: the worst median, where, and how many reach it", () => {
    const cells = said.goals.map(([title, wanted, worst, where, reached]) =>
      [title, wanted, worst, where, reached].join(" | "),
    );
    expect(cells).toEqual([
      "what | goal | worst | where | reached",
      "of a copy's bandwidth, 25,000,000 parameters or more | at least 92 % | 80 % | one tensor, I = 3, per-term, cold, streamed | 2 of 3",
      "faster than PyTorch op by op | at least 10.0× | 20.0× | one tensor, I = 3, per-term, cold | 1 of 1",
      "faster than `torch._foreach` | at least 3.00× | 2.00× | one tensor, I = 3, per-term, cold | 0 of 1",
      "a byte's time in fused Adam ÷ in `step` | at least 1.00× | 1.10× | one tensor, I = 3, summed, cold | 1 of 1",
      "enqueueing a prepared step | at most 20.0 µs | 22.0 µs | many | 1 of 2",
      "an unchanged gradient of a step | at most 10.0 ns | 9.00 ns | again | 1 of 1",
      "a changed gradient of a step | at most 250 ns | not measured |  | ",
    ]);
    expect(said.nothing.map(([, , worst]) => worst)).toEqual(Array(7).fill("not measured"));
  });

  test("of two runs: another device, and what became slower", () => {
    expect(said.differences).toEqual(["GPU: G → H"]);
    expect(said.slower).toEqual([
      expect.stringMatching(/^worse: large, I = 3, perTerm, cold: step, share of a copy, 95 % .* → 50 % /),
    ]);
  });
});

const hasNvcc = spawnSync("nvcc", ["--version"]).status === 0;

(hasNvcc ? test : test.skip)(
  "the roof compiles for every architecture, without a warning",
  () => {
    const build = path.join(root, "build/test/gpu-roof-compiled");
    mkdirSync(build, { recursive: true });
    const all = "75-real;80-real;86-real;89-real;90-real;100-real;120-real;120-virtual";
    // A compiler that is named is not looked for again.
    const options = [`-DMTADAM_ROOF_ARCHITECTURES=${all}`, "-DCMAKE_CUDA_COMPILER=nvcc"];
    cmake("-S", "bench/speed", "-B", build, ...options);
    cmake("--build", build, "--target", "gpu_roof");
    const program = path.join(build, "gpu_roof");
    expect(existsSync(program)).toBe(true);
    // It needs only the driver, and reports what is wrong with it.
    const { status, stderr } = spawnSync(program, ["99"], { encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^cudaSetDevice failed: cudaError\w+\.\n$/);
  },
  240_000,
);
