/**
 * Tests that need a separate process, which runs the built package: a kill while a checkpoint is written, a full disk,
 * and the use of memory.
 */

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { MTAdam } from "../../lib";
import { onCpu } from "../support/device";
import { emptiedFolder } from "../support/folder";
import { runScript } from "../support/process";
import { randomSource } from "../support/random";

const root = path.join(__dirname, "../..");
const folder = emptiedFolder();
const file = path.join(folder, "state.safetensors");

const withPrelude = (program: string): string => `
  const { MTAdam } = require(${JSON.stringify(root)});
  const file = ${JSON.stringify(file)};
  /** An optimizer after a step, whose every state is the same everywhere in a tensor. */
  function train(count) {
    const gradients = [1, 2].map((value) => [new Float32Array(count).fill(value)]);
    const optimizer = new MTAdam([new Float32Array(count)], { terms: 2 });
    const step = () => optimizer.step(gradients);
    step();
    return { optimizer, step };
  }
  (async () => {${program}\n})();`;

/** Six reports of progress a save: enough for kills to fall between. */
const COUNT = 2 ** 20;

/** Each takes about a second. */
const KILLS = Number(process.env["MTADAM_KILLS"] ?? 8);

interface Killed {
  /** The iterations of the last save that the process had finished. */
  saved: number;
}

/**
 * A process that continues from the checkpoint, if there is one, and saves after every step. It is killed once its
 * `kill`-th progress report arrives here.
 */
function killWhileSaving(kill: number): Promise<Killed> {
  const child = spawn(
    process.execPath,
    [
      "-e",
      withPrelude(`
        const say = (text) => require("node:fs").writeSync(1, text + "\\n");
        const { optimizer, step } = train(${COUNT});
        if (require("node:fs").existsSync(file)) await optimizer.load(file);
        for (;;) {
          step();
          await optimizer.save(file, { onProgress: () => say("progress") });
          say("saved " + optimizer.iterations);
        }`),
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    if (output.split("progress\n").length > kill) child.kill("SIGKILL");
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (_, signal) => {
      if (signal !== "SIGKILL") reject(new Error(`ended by itself: ${output}`));
      const done = Array.from(output.matchAll(/^saved (\d+)$/gm), ([, iterations]) => Number(iterations));
      resolve({ saved: Math.max(0, ...done) });
    });
  });
}

onCpu("a process that is killed while it saves", () => {
  test(
    "leaves a checkpoint that loads: the last one, or the one that it was writing",
    async () => {
      const random = randomSource(19);
      const optimizer = new MTAdam([new Float32Array(COUNT)], { terms: 2 });
      // The iterations of the last checkpoint. A process that finds none starts from 1.
      let known = 1;
      let inTheMiddle = 0;
      for (let round = 0; round < KILLS; ++round) {
        const { saved } = await killWhileSaving(1 + Math.floor(random() * 12));
        known = Math.max(known, saved);
        // The temporary file exists exactly if the process died before its rename. The next process removes it.
        const left = readdirSync(folder).filter((name) => name.endsWith(".tmp"));
        expect(left.length).toBeLessThan(2);
        inTheMiddle += left.length;
        if (known === 1 && !existsSync(file)) continue; // killed in its very first save
        await optimizer.load(file);
        expect([known, known + 1]).toContain(optimizer.iterations);
        known = optimizer.iterations;
        const { t, ...state } = await optimizer.stateDict();
        expect(t).toEqual(new BigInt64Array(2).fill(BigInt(known)));
        for (const key of ["m.0.0", "v.0.0", "m.1.0", "v.1.0"]) {
          const values = state[key] as Float32Array;
          if (!values.every((value) => value === values[0])) throw new Error(`${key} is of two states`);
        }
      }
      expect(known).toBeGreaterThan(KILLS / 5);
      expect(inTheMiddle).toBeGreaterThan(KILLS / 5);
      await optimizer.save(file);
      expect(readdirSync(folder)).toEqual([path.basename(file)]);
    },
    60_000 + KILLS * 10_000,
  );
});

onCpu("a disk that takes no more", () => {
  test("is an error with its code; the old file stays", async () => {
    const program = withPrelude(`
      const { optimizer } = train(${COUNT});
      await optimizer.save(file).catch((error) => console.log(error.code, error.syscall));`);
    const small = await runScript(withPrelude(`await train(10).optimizer.save(file);`));
    expect(small).toMatchObject({ code: 0, stderr: "" });
    const before = readFileSync(file);
    // Files of up to 4,096 blocks of 512 or 1,024 bytes: less than the state.
    const child = spawn("sh", ["-c", 'ulimit -f 4096 && exec "$0" -e "$1"', process.execPath, program]);
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    await new Promise((resolve) => child.on("close", resolve));
    expect(output).toBe("EFBIG write\n");
    expect(readdirSync(folder)).toEqual([path.basename(file)]);
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  // A file system of its own, which only the child sees; some containers forbid it.
  const unshare = ["-rm", "sh", "-c", 'mount -t tmpfs -o size=1m none "$0" && exec "$@"', folder];
  const mayMount = spawnSync("unshare", [...unshare, "true"]).status === 0;

  (mayMount ? test : test.skip)("because it is full, is ENOSPC; the old file stays, and loads", () => {
    const program = withPrelude(`
      const { readdirSync } = require("node:fs");
      const small = train(10).optimizer;
      await small.save(file);
      await train(${COUNT}).optimizer.save(file).catch((error) => console.log(error.code, error.syscall));
      console.log(readdirSync(${JSON.stringify(folder)}).join());
      await small.load(file);
      await small.save(file); // there is room again
      console.log("saved");`);
    const child = spawnSync("unshare", [...unshare, process.execPath, "-e", program], { encoding: "utf8" });
    expect(child).toMatchObject({ status: 0, stderr: "" });
    expect(child.stdout).toBe(`ENOSPC write\n${path.basename(file)}\nsaved\n`);
  });
});

onCpu("a folder that can be written to and not read", () => {
  test("takes a checkpoint, and another in its place", async () => {
    const box = path.join(folder, "box");
    mkdirSync(box);
    chmodSync(folder, 0o755);
    chmodSync(box, 0o333);
    const program = withPrelude(`
      const { optimizer } = train(10);
      const file = ${JSON.stringify(path.join(box, "state"))};
      await optimizer.save(file);
      await optimizer.save(file);
      await optimizer.load(file);
      console.log("saved");`);
    // Root may read everything.
    const asNobody =
      process.getuid?.() === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : ["env"];
    const child = spawnSync(asNobody[0]!, [...asNobody.slice(1), process.execPath, "-e", program], {
      encoding: "utf8",
    });
    expect(child).toMatchObject({ stdout: "saved\n", stderr: "" });
    chmodSync(box, 0o755);
    expect(readdirSync(box)).toEqual(["state"]);
  });
});

onCpu("the memory that a checkpoint takes", () => {
  // State: 4 words per element. The largest resident size so far is read before and after.
  const ELEMENTS = 12 * 2 ** 20;
  const STATE = ELEMENTS * 4 * 4;

  test.each([
    ["saving", `await optimizer.save(file);`, "optimizer"],
    ["loading", `await optimizer.load(file);`, "optimizer"],
    ["loading what is to be summed", `await summed.load(file);`, "summed"],
  ])(
    "%s: a fraction of the state",
    async (_, measured, kind) => {
      const { stdout, stderr } = await runScript(
        withPrelude(`
        const { optimizer } = train(${ELEMENTS});
        const peak = () => process.resourceUsage().maxRSS * 1024;
        if (${JSON.stringify(measured)}.includes("load")) await optimizer.save(file);
        const summed = new MTAdam([new Float32Array(${ELEMENTS})], { terms: 2, firstMoment: "summed" });
        if (${JSON.stringify(kind)} === "summed") {
          summed.step([[new Float32Array(${ELEMENTS})], [new Float32Array(${ELEMENTS})]]); // all its memory is touched
        }
        const before = peak();
        ${measured}
        console.log(peak() - before);`),
      );
      expect(stderr).toBe("");
      expect(stdout).toMatch(/^\d+\n$/);
      expect(Number(stdout)).toBeLessThan(STATE / 3);
    },
    60_000,
  );
});
