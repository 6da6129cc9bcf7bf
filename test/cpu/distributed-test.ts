import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { MTAdam } from "../../lib";
import { connectMpi } from "../../lib/distributed";
import { caught } from "../support/caught";
import { compileExamples } from "../support/examples";
import { temporaryFolder } from "../support/folder";
import { exitCodesOfRanks, launchers, runRanks, withMpi } from "../support/mpi";
import { isAlive } from "../support/process";

interface Line {
  rank: number;
  size: number;
  library: string;
  comparisons: number;
  digest: string;
  outcomes: Record<string, string | number>;
}

/** Runs a program that must end well; returns what it prints, a line per rank. */
async function linesOfRanks(
  launcher: string,
  ranks: number,
  program: string,
  ...values: string[]
): Promise<Line[]> {
  const { code, stdout, stderr } = await runRanks(launcher, ranks, program, ...values);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  const lines = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
  expect(lines.map(({ rank }) => rank).sort()).toEqual(Array.from({ length: ranks }, (_, k) => k));
  return lines;
}

const folders = temporaryFolder();
const newFolder = (): string => mkdtempSync(path.join(folders, "ranks-"));

/** How often each failure is tried; 20 by hand. */
const REPETITIONS = Number(process.env["MTADAM_RANK_FAILURES"] ?? 1);

/** Of θ after every step, for numbers of ranks that divide the four micro-batches: of all launchers. */
const digests = new Set<string>();
/** The same where terms come one at a time. */
const streamedDigests = new Set<string>();

const TIMED_OUT_UNDER_WAY =
  /ERR_MTADAM_DISTRIBUTED: Rank 0 waited 4 s for the other ranks in `accumulate` \(MPI_\w+\)\./;

withMpi("training on several ranks", (launcher) => {
  for (const ranks of [1, 2, 3, 4]) {
    test(`has the bits of one process on ${ranks} ranks, in every form`, async () => {
      const lines = await linesOfRanks(launcher, ranks, "trials.mjs");
      for (const { size, library, comparisons, digest } of lines) {
        expect(size).toBe(ranks);
        expect(library).toMatch(launcher === "mpirun.openmpi" ? /^Open MPI v[\d.]+$/ : /^MPICH [\d.]+$/);
        expect(comparisons).toBe(ranks === 3 ? 59 : 56);
        if (ranks !== 3) digests.add(digest);
      }
    });
  }

  test.each(["float32", "8bit"])(
    "saves the file of one process, which any number of ranks load: %s",
    async (type) => {
      const folder = newFolder();
      const [expected] = await linesOfRanks(launcher, 2, "checkpoints.mjs", "write", folder, type);
      for (const ranks of [1, 3]) {
        const lines = await linesOfRanks(launcher, ranks, "checkpoints.mjs", "resume", folder, type);
        for (const { digest } of lines) expect(digest).toBe(expected!.digest);
      }
    },
  );

  for (const ranks of [2, 4]) {
    test(`has the bits of one process where terms come one at a time, on ${ranks} ranks`, async () => {
      const lines = await linesOfRanks(launcher, ranks, "trials.mjs", "streamed");
      for (const { comparisons, digest } of lines) {
        expect(comparisons).toBe(56);
        streamedDigests.add(digest);
      }
    });
  }

  test("tells all ranks where they differ, and outlives a parameter that is lost", async () => {
    const refused = "ERR_MTADAM_DISTRIBUTED";
    for (const { outcomes } of await linesOfRanks(launcher, 2, "differences.mjs", newFolder())) {
      expect(outcomes).toEqual({
        "other weights": refused,
        "a term after them": "ok",
        "other terms": refused,
        "other parameters": refused,
        "other terms removed": refused,
        "discard: update": "ERR_MTADAM_LENGTH",
        discard: "ok",
        "synchronizeSync: update": "ERR_MTADAM_LENGTH",
        synchronizeSync: "ok",
        "one state": "ok",
        "a step after one state": "ok",
        "other states": refused,
        "a step after other states": "ok",
        "listeners after close": 0,
      });
    }
  });

  test("exchanges flat tensors with the bits of one process", async () => {
    for (const { comparisons } of await linesOfRanks(launcher, 3, "flat.mjs")) expect(comparisons).toBe(16);
  });

  test("returns from a term before the other ranks have come to it", async () => {
    await linesOfRanks(launcher, 2, "overlap.mjs", newFolder());
  });

  test("exchanges a term within the call where MPI grants no calls from a second thread", async () => {
    const library = path.join(newFolder(), "libfunneled.so");
    const real = launcher === "mpirun.openmpi" ? "libmpi.so.40" : "libmpich.so.12";
    const source = path.resolve(__dirname, "../support/ranks/funneled.c");
    execFileSync("cc", ["-shared", "-fPIC", "-o", library, source, "-Wl,--no-as-needed", `-l:${real}`]);
    const lines = await linesOfRanks(launcher, 2, "trials.mjs", "streamed", library);
    for (const { digest } of lines) streamedDigests.add(digest);
    // Now each rank waits for the other.
    const stuck = await runRanks(launcher, 2, "overlap.mjs", newFolder(), library, "4");
    expect(stuck.stderr).toMatch(TIMED_OUT_UNDER_WAY);
    expect([0, null]).not.toContain(stuck.code);
  });

  test("a process that fails with a term under way keeps its exit code", async () => {
    const list = path.join(newFolder(), "pids");
    const codes = await exitCodesOfRanks(launcher, 2, "failing.mjs", "exit with 3 under way", list);
    expect(codes[0]).toBe(3); // the other rank's is that of how it was ended, if any
  });

  const TIMED_OUT =
    /ERR_MTADAM_DISTRIBUTED: Rank \d waited 4 s for the other ranks in `(step|close)` \(MPI_\w+\)\./;
  const failures: [way: string, sentence: RegExp][] = [
    ["throw", /the data loader failed/],
    ["kill", /signal 9|KILLED BY SIGNAL/],
    ["hang", TIMED_OUT],
    ["exit", TIMED_OUT],
    ["absent", /All ranks must give a call the same .* in rank 0 `step` and rank 1 `step`/],
    ["order", /All ranks must make the same calls in the same order; got rank 0 `step` and rank 1 `barrier`/],
    ["options", /must make the same calls in the same order; got rank 0 `step` and rank 1 `new MTAdam`/],
    ["throw under way", /the data loader failed/],
    ["exit under way", TIMED_OUT_UNDER_WAY],
    ["sleep under way", TIMED_OUT_UNDER_WAY],
  ];
  test.each(failures)(
    "ends every process after a rank fails: %s",
    async (way, sentence) => {
      for (let repetition = 0; repetition < REPETITIONS; ++repetition) {
        const list = path.join(newFolder(), "pids");
        const { code, stdout, stderr } = await runRanks(launcher, 2, "failing.mjs", way, list);
        expect(`${stdout}${stderr}`).toMatch(sentence);
        expect([0, null]).not.toContain(code);
        // Ended by itself.
        expect(stderr).not.toContain("timeout: sending signal");
        const pids = readFileSync(list, "utf8").trim().split("\n").map(Number);
        expect(pids).toHaveLength(2);
        // The launcher may end before the last of them.
        while (pids.some(isAlive)) await setTimeout(20);
      }
    },
    REPETITIONS * 60_000,
  );
});

const [anyLauncher] = launchers;
if (anyLauncher !== undefined) {
  test("the example ends with the same parameters and accuracy on 1, 2 and 4 ranks", async () => {
    const main = path.join(compileExamples(), "distributed", "main.mjs");
    const ends = await Promise.all(
      [1, 2, 4].map((ranks) => runRanks(anyLauncher, ranks, main, "--steps", "10")),
    );
    const results = ends.map(
      ({ stdout }) =>
        / ranks, .*: ([\d.]+ % of the test images recognised, parameters [0-9a-f]{16})\n$/.exec(stdout)?.[1],
    );
    // Most images even after so few steps.
    expect(results[0]).toMatch(/^[5-9]\d\./);
    expect(new Set(results).size).toBe(1);
  });

  test("the bits depend neither on the number of ranks nor on the library", () => {
    expect(digests.size).toBe(1);
    expect(streamedDigests.size).toBe(1);
  });
}

test("the page has the table that the script prints", () => {
  const table = execFileSync(process.execPath, ["scripts/simulate-ranks.js"], { encoding: "utf8" });
  expect(readFileSync("docs/distributed.md", "utf8")).toContain(table);
});

describe("options", () => {
  const make = (options: object) => caught(() => new MTAdam([new Float32Array(3)], { terms: 2, ...options }));

  test.each([
    [{ shard: "state" }, '`shard` must be "none" without `distributed`; got "state".'],
    [{ reduction: "ordered" }, '`reduction` must be "library" without `distributed`; got "ordered".'],
    [{ wire: "bfloat16" }, '`wire` must be "float32" without `distributed`; got "bfloat16".'],
    [
      { distributed: {} },
      "`distributed` must be what `connectMpi()` or `connectNccl()` made; got an object.",
    ],
    [{ shard: "all" }, '`shard` must be "none" or "state"; got "all".'],
  ])("%j", async (options, message) => {
    expect(await make(options)).toMatchObject({ code: "ERR_MTADAM_OPTION", message });
  });

  test("`pieces` needs `shard`", async () => {
    const optimizer = new MTAdam([new Float32Array(1)], { terms: 1 });
    expect(await caught(() => optimizer.save("state.safetensors", { pieces: true }))).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: '`pieces` must be left out without `shard: "state"`; got true.',
    });
    expect((await caught(() => optimizer.save("state.safetensors", { pieces: 1 as never }))).message).toBe(
      "`pieces` must be true or false; got 1.",
    );
  });

  test("`reduced` needs `distributed`", async () => {
    const optimizer = new MTAdam([new Float32Array(1)], { terms: 1 });
    const step = (): void => {
      optimizer.step([[new Float32Array(1)]], { reduced: true });
    };
    expect(await caught(step)).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: "`reduced` must be left out without `distributed`; got true.",
    });
  });

  test.each([
    [{ timeout: 0 }, "`timeout` must be a number of seconds above 0, at most 1000000; got 0."],
    [{ library: "" }, '`library` must be the name of a file; got "".'],
    [{ time: 1 }, /`options` has no option "time"/],
  ])("of connectMpi: %j", async (options, message) => {
    const error = await caught(() => connectMpi(options as object));
    expect(error.code).toBe("ERR_MTADAM_OPTION");
    expect(error.message).toMatch(message);
  });

  test("a library that is not there", async () => {
    const error = await caught(() => connectMpi({ library: "libnone.so.1" }));
    expect(error.code).toBe("ERR_MTADAM_DISTRIBUTED");
    expect(error.message).toMatch(/^No MPI library could be loaded \(libnone\.so\.1: .*\)\.$/);
  });

  test("a library that is not one of MPI", async () => {
    await expect(connectMpi({ library: "libm.so.6" })).rejects.toMatchObject({
      code: "ERR_MTADAM_DISTRIBUTED",
      message: "The MPI library has no MPI_Init_thread.",
    });
  });

  test("a worker cannot connect", async () => {
    const entry = path.resolve("dist/distributed/index.js");
    const worker = new Worker(
      `require(${JSON.stringify(entry)}).connectMpi().catch((error) => require("node:worker_threads").parentPort.postMessage(error.message));`,
      { eval: true },
    );
    const message = await new Promise((resolve, reject) => {
      worker.on("message", resolve).on("error", reject);
    });
    await worker.terminate();
    expect(message).toBe("`connectMpi` must be called on the main thread, not in a worker.");
  });
});
