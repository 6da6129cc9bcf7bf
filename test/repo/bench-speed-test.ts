import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/folder";

// bench/speed: its counts, its statistics and comparisons, and a quick run. Measured times are not asserted.

interface Bytes {
  terms: number;
  form: string;
  way: string;
  table: number;
  bytes: number;
  readOnly: number;
  updated: number;
}

interface Measured {
  byteTable: Bytes[];
  shapes: { key: string; tensors: number; parameters: number }[];
  inputs: [key: string, terms: number, ...kinds: [string, number][]][];
  quantiles: number[];
  spread: unknown;
  apart: boolean[];
  parsed: { words: string[]; none: string[]; seconds: number; refused: string[] };
  lengths: string;
  processes: { ended: string; silent: string; missing: string; echo: string[][] };
  roof: Record<string, unknown>;
  compared: Record<"faster" | "slower" | "same" | "without" | "differences", string[]>;
  tables: { step: string[][]; peers: string[][]; many: string[][]; markdown: string; ranges: string[] };
  options: {
    chosen: object;
    none: string[];
    usual: string[][];
    gpu: object;
    quick: object;
    refused: string[];
  };
  checked: { name: string; version?: string; difference?: number; notRun?: string }[];
}

interface Results {
  quick: boolean;
  peers: { name: string; notRun?: string }[];
  settings: { inputs: string; contenders: { name: string; rounds: unknown[]; notRun?: string }[] }[];
  host: { rounds: number[] }[];
}

const root = path.join(__dirname, "../..");
const compiled = path.join(root, "build/test/speed");
const folder = temporaryFolder();
let measured: Measured;

beforeAll(() => {
  // Not build/bench, which another test compiles at the same time.
  const compiler = require.resolve("typescript/bin/tsc");
  const args = ["-p", path.join(root, "bench"), "--outDir", compiled];
  execFileSync(process.execPath, [compiler, "--noCheck", ...args]); // `npm run lint` checks types
  execFileSync(process.execPath, ["-e", 'require("./scripts/build/setup").program("bench/speed")'], {
    cwd: root,
  });
  const output = execFileSync(process.execPath, [path.join(root, "test/support/bench-speed.mjs")], {
    encoding: "utf8",
  });
  measured = JSON.parse(output) as Measured;
}, 180_000);

function bench(...args: string[]) {
  return spawnSync(process.execPath, [path.join(compiled, "bench/speed/main.mjs"), ...args], {
    cwd: root,
    encoding: "utf8",
  });
}

function resultsIn(name: string): Results {
  return JSON.parse(readFileSync(path.join(folder, name, "results.json"), "utf8")) as Results;
}

test("the bytes of a step are those of the table, and the plain loops move as many", () => {
  const table: Record<string, (terms: number) => number> = {
    "perTerm resident": (terms) => 24 * terms + 8,
    "summed resident": (terms) => 16 * terms + 16,
    "perTerm streamed": (terms) => 32 * terms + 8,
    "summed streamed": (terms) => 28 * terms + 12,
  };
  expect(measured.byteTable).toHaveLength(16);
  for (const { form, way, terms, ...row } of measured.byteTable) {
    expect(row.table).toBe(table[`${form} ${way}`]!(terms));
    expect(row.bytes).toBe(row.table);
    expect(row.readOnly).toBe(terms);
    expect(row.updated).toBe(form === "perTerm" ? 2 * terms + 1 : terms + 2);
  }
});

test("the shapes fit their names", () => {
  expect(measured.shapes).toEqual([
    { key: "mnist", tensors: 8, parameters: 1_199_882 },
    { key: "resnet50", tensors: 161, parameters: 25_557_032 },
    { key: "large", tensors: 1, parameters: 50_000_000 },
    { key: "many", tensors: 3000, parameters: 10_500_000 },
    { key: "flat", tensors: 1, parameters: 10_500_000 },
    { key: "layers", tensors: 24, parameters: 25_165_824 },
  ]);
});

test("warm and cold are told apart where caches could hold a set, and cold sets are more than caches hold", () => {
  const kinds = measured.inputs.map(([key, terms, ...each]) => [key, terms, ...each.map(([kind]) => kind)]);
  expect(kinds).toContainEqual(["mnist", 3, "warm", "cold"]);
  expect(kinds).toContainEqual(["many", 1, "warm", "cold"]);
  expect(kinds).toContainEqual(["many", 3, "cold"]);
  expect(kinds).toContainEqual(["large", 1, "cold"]);
  for (const [, , ...each] of measured.inputs) {
    for (const [kind, bytes] of each) if (kind === "cold") expect(bytes).toBeGreaterThanOrEqual(2 ** 28);
  }
});

test("medians and quartiles", () => {
  expect(measured.quantiles).toEqual([2, 1.75, 7]);
  expect(measured.spread).toEqual({ low: 2, median: 3, high: 4 });
  expect(measured.apart).toEqual([true, true, false]);
});

describe("lines", () => {
  test("are parsed, and anything else is refused", () => {
    expect(measured.parsed).toEqual({
      words: ["1.5", "two"],
      none: [],
      seconds: 0.25,
      refused: [
        "There is no memory.",
        'An answer must begin with "ok" or "error"; got "hello".',
        'An answer must be a number of seconds; got "soon".',
        'An answer must be a number of seconds; got "".',
        'An answer must be a number of seconds; got "1 2".',
      ],
    });
    expect(measured.lengths).toBe("288,32,3500x3,7,32");
  });

  test("come from a process, which may end, keep silent or not be there", () => {
    const { ended, silent, missing, echo } = measured.processes;
    expect(ended).toBe("The process ended: last");
    expect(silent).toBe("The process ended: no answer within 0.2 s");
    expect(missing).toMatch(/^The process ended: .*ENOENT/);
    expect(echo).toEqual([["a", "1"], ["b"]]);
  });
});

test("the roof answers what it can and says what it cannot", () => {
  expect(measured.roof).toEqual({
    early: "`time` must come after `arrays`.",
    arrays: [],
    seconds: expect.any(Number) as number,
    oneOfMany: expect.any(Number) as number,
    short: "A line must be a word and four numbers.",
    unknown: "The first word must be `arrays` or `time`.",
    huge: "There is not enough memory for these arrays.",
    tiny: [],
    secondsOfTiny: expect.any(Number) as number,
  });
});

test("a comparison names what moved beyond the quartiles, and in which direction", () => {
  const { faster, slower, same, without, differences } = measured.compared;
  const names = ["step", "flat"].map(
    (name) => `many, I = 3, perTerm, cold: ${name}, share of the same traffic`,
  );
  expect(faster).toEqual([
    `better: ${names[0]}, 99 % (98 % to 99 %) → 194 % (191 % to 197 %)`,
    expect.stringContaining(`better: ${names[1]}`),
    expect.stringContaining("better: many, I = 3, perTerm, cold: eager, times as long as a step"),
  ]);
  expect(slower.map((line) => line.split(":")[0])).toEqual(["worse", "worse", "worse"]);
  expect(same).toEqual([]);
  expect(without).toEqual([]);
  expect(differences).toEqual(["threads: 2 → 4", "Node: 20 → 22"]);
});

describe("tables", () => {
  test("of steps: bytes, shares of both roofs, state", () => {
    const [head, step, flat, ...rest] = measured.tables.step;
    expect(rest).toEqual([]);
    expect(Object.fromEntries(head!.map((name, i) => [name, step![i]]))).toEqual({
      shape: "3,000 tensors",
      I: "3",
      moments: "per-term",
      "taken by": "step",
      inputs: "cold",
      ms: "10.1",
      B: "80",
      "GB/s": "7.9",
      "of RMW": "39 % (39–40)",
      "of same traffic": "99 % (98–99)",
      state: "24.0",
    });
    expect(flat).toContain("step, one tensor");
  });

  test("of peers: times as long in the rounds that both took part in, and why one did not run", () => {
    const ratios = measured.tables.peers.map((row) => row.at(-1));
    const names = measured.tables.peers.map(([name]) => name);
    expect(ratios[1]).toBe("9.94 (8.97–10.9)");
    expect(names[3]).toBe("torch._foreach");
    expect(ratios.slice(2)).toEqual([
      "not run",
      "not run: there is no torch",
      "not run",
      "not run",
      "not run",
    ]);
  });

  test("of many tensors against one", () => {
    expect(measured.tables.many[1]).toEqual(["3", "per-term", "cold", "2.00"]);
  });

  test("in Markdown, with quartiles where they differ", () => {
    expect(measured.tables.markdown).toBe("| a | b |\n| --- | ---: |\n| 1 | 2 |");
    expect(measured.tables.ranges).toEqual(["2 (1–3)", "60 % (50–70)", "1"]);
  });
});

test("options", () => {
  const { chosen, none, usual, gpu, quick, refused } = measured.options;
  // In the order of the measurements.
  expect(chosen).toMatchObject({ shapes: ["many", "mnist"], terms: [3, 1], out: "/x", device: "cpu" });
  expect(none).toEqual([]);
  expect(usual).toEqual([
    ["mnist", "resnet50", "large", "many"],
    ["mnist", "resnet50", "large", "many", "layers"],
  ]);
  expect(gpu).toMatchObject({ device: "cuda", seconds: 60, figures: true, patience: 60 });
  expect(quick).toMatchObject({ shapes: ["mnist"], terms: [2], rounds: 3, quick: true });
  expect(refused).toEqual([
    '--shapes must be some of mnist,resnet50,large,many,layers, or none; got "vgg".',
    '--terms must be a whole number of at least 1; got "0".',
    '--rounds must be a whole number of at least 1; got "x".',
    "--quick must come with --out: a quick look is no result to keep.",
    '--device must be cpu, cuda or cuda:N; got "tpu".',
    "--draw must come with --out.",
    "--tables must come with --out.",
    expect.stringContaining("--speed"),
  ]);
});

test("a peer takes part only if it computes what we do", () => {
  const [eager, foreach, compiler, fused] = measured.checked;
  expect(eager).toEqual({ name: "eager", version: "0.fake", difference: 0 });
  expect(foreach!.difference).toBeCloseTo(1e-3, 6);
  expect(foreach!.notRun).toBe("its parameters differ from ours by 0.0010");
  expect(compiler!.notRun).toBe("It needs another version.");
  expect(fused!.notRun).toBe("The process ended: ImportError: there is no torch here");
});

describe("a quick run", () => {
  test("without peers: results, report and plot, and every peer as not run", () => {
    const { status, stdout, stderr } = bench(
      "--quick",
      "--threads",
      "1",
      "--out",
      path.join(folder, "alone"),
    );
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).toMatch(/torch\.compile .* not run/);
    const { quick, peers, settings, host } = resultsIn("alone");
    expect(quick).toBe(true);
    expect(peers).toEqual([]);
    expect(settings.map(({ inputs }) => inputs)).toEqual(["warm", "cold", "warm", "cold"]);
    for (const { contenders } of settings) {
      expect(contenders.map(({ name, rounds }) => [name, rounds.length])).toEqual([
        ["step", 3],
        ["streamed", 3],
      ]);
    }
    for (const { rounds } of host) expect(rounds).toHaveLength(3);
    const text = readFileSync(path.join(folder, "alone/README.md"), "utf8");
    expect(text).toContain("A quick look, no result.");
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
    expect(readFileSync(path.join(folder, "alone/speed.svg"), "utf8")).toMatch(/^<svg /);
    expect(existsSync(path.join(folder, "alone/results.json.tmp"))).toBe(false);
  }, 120_000);

  test("with peers, against an earlier run, added to existing results", () => {
    const out = path.join(folder, "beside");
    const peer = path.join(root, "test/support/fake-peer.mjs");
    const first = ["--quick", "--threads", "1", "--out", out];
    expect(bench(...first, "--terms", "1").status).toBe(0);
    const old = path.join(out, "results.json");
    const { status, stdout, stderr } = bench(...first, "--python", peer, "--add", "--compare", old);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).toContain("Beyond the noise, against the earlier results:");
    const { peers, settings } = resultsIn("beside");
    expect(peers.filter(({ notRun }) => notRun === undefined).map(({ name }) => name)).toEqual([
      "eager",
      "eager, memory kept",
    ]);
    expect(settings).toHaveLength(8);
    const names = settings.map(({ contenders }) => contenders.map(({ name }) => name).join("; "));
    expect(names.filter((name) => name === "step; streamed; eager; eager, memory kept")).toHaveLength(2);
    // Two calls to warm up and one round, then the peer failed.
    const ended = settings.flatMap(({ contenders }) =>
      contenders.filter(({ notRun }) => notRun !== undefined),
    );
    expect(ended).toHaveLength(2);
    for (const { name, rounds, notRun } of ended) {
      expect([name, rounds.length, notRun]).toEqual(["eager, memory kept", 1, "It has no memory left."]);
    }
    const text = readFileSync(path.join(out, "README.md"), "utf8");
    expect(text).toMatch(/PyTorch op by op +\| +MNIST CNN \| +3 \|/);
  }, 120_000);

  test("without a GPU, --device cuda gives the reason in one sentence", () => {
    const main = path.join(compiled, "bench/speed/main.mjs");
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, "--device", "cuda"], {
      encoding: "utf8",
      env: { ...process.env, CUDA_VISIBLE_DEVICES: "" },
    });
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^[^\n]+\.\n$/);
  });

  test("invalid options give one sentence and exit code 2", () => {
    const { status, stderr } = bench("--device", "tpu");
    expect(status).toBe(2);
    expect(stderr).toMatch(/^--device must be cpu, cuda or cuda:N; got "tpu"\./);
  });
});
