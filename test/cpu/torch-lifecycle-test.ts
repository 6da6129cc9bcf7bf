/**
 * Ends of the two processes: none may outlive the other. The memory that they share has no name, so it ends with them. Each
 * test has processes of its own, which use the built package.
 */

import { spawn, type ChildProcess } from "node:child_process";
import { chmodSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { openTorch } from "../../lib/torch";
import { caught } from "../support/caught";
import { isAlive } from "../support/process";
import { Models, python, SMALL, withTorch } from "../support/torch";

const root = path.join(__dirname, "../..");

const METHODS = `
    def pid(self):
        import os
        return os.getpid()

    def spin(self):
        while True:
            pass

    def compute(self):
        matrix = torch.ones(1500, 1500)
        while True:
            matrix = matrix @ matrix

    def hold(self):
        """Never gives another thread of Python a turn."""
        sum(range(10**12))

    def start(self):
        """A process of the model's own."""
        import subprocess
        return subprocess.Popen(["sleep", "600"]).pid
`;

/** The processes that inherited the mark in their environment. */
function marked(mark: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`MTADAM_MARK=${mark}\0`);
      } catch {
        return false; // it has ended
      }
    })
    .map(Number);
}

let count = 0;
const marks: string[] = [];

// Processes of a test that has failed.
afterAll(() => {
  for (const pid of marks.flatMap(marked)) process.kill(pid, "SIGKILL");
});

/** A Node process that runs a program; its output comes in lines. */
class Program {
  readonly mark = `${process.pid}-${(count += 1)}`;
  readonly child: ChildProcess;
  readonly ended: Promise<number | string | null>;
  #text = "";

  constructor(file: string, program: string, interpreter = python) {
    marks.push(this.mark);
    const prelude = `
      const { openTorch } = require(${JSON.stringify(path.join(root, "dist/torch"))});
      const { Worker, parentPort } = require("node:worker_threads");
      const { readdirSync, readFileSync, writeSync } = require("node:fs");
      const open = () => openTorch(${JSON.stringify(file)}, { python: ${JSON.stringify(interpreter)}, onStderr() {} });
      const say = (text) => writeSync(1, text + "\\n");
      const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      /** Children of this process, dead ones that nobody has waited for included. */
      const children = () => readdirSync("/proc").filter((pid) => {
        try {
          return readFileSync("/proc/" + pid + "/stat", "utf8").split(") ")[1]?.split(" ")[1] === String(process.pid);
        } catch {
          return false;
        }
      }).length;
      const none = async () => { while (children() > 0) await pause(10); };
    `;
    const script = `${prelude}\n(async () => {${program}\n})();`;
    this.child = spawn(process.execPath, ["--expose-gc", "-e", script], {
      env: { ...process.env, MTADAM_MARK: this.mark },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => (this.#text += text));
    // Not "exit", which may come before the last of what the program has written.
    this.ended = new Promise((resolve) =>
      this.child.once("close", (code, signal) => resolve(signal ?? code)),
    );
  }

  get text(): string {
    return this.#text;
  }

  async says(line: string): Promise<void> {
    while (!this.#text.includes(`${line}\n`)) await pause(10);
  }

  /** Waits until no process with the mark is left. */
  async gone(): Promise<void> {
    while (marked(this.mark).length > 0) await pause(20);
  }
}

withTorch("a Node process with a model", () => {
  const models = new Models();
  let file = "";
  beforeAll(() => {
    file = models.file(SMALL + METHODS);
  });

  test.concurrent.each([
    ["that was closed", `await model.close(); await none(); say("done");`],
    ["that nobody closed", `say("done");`],
    ["whose call was awaited", `say(String((await model.gradients(null)).size.w[0])); say("done");`],
    ["that has ended", `process.kill(await model.call("pid"), "SIGKILL"); await none(); say("done");`],
    [
      "in a worker",
      `new Worker("(" + (async () => {
        const { openTorch } = require(DIST);
        const model = await openTorch(FILE, { python: PYTHON });
        await model.gradients(null);
        require("node:worker_threads").parentPort.postMessage("done");
      }).toString().replace("DIST", JSON.stringify(${JSON.stringify(path.join(root, "dist/torch"))}))
        .replace("FILE", JSON.stringify("MODEL")).replace("PYTHON", JSON.stringify(${JSON.stringify(python)})) + ")()", { eval: true })
        .on("message", say).on("exit", (code) => say("exit " + code));`,
    ],
  ])("ends by itself: one %s", async (_, program) => {
    const run = new Program(file, `const model = await open(); ${program.replace("MODEL", file)}`);
    expect(await run.ended).toBe(0);
    expect(run.text).toMatch(/done\n/);
    await run.gone();
  });

  test.concurrent.each([
    ["at once", `process.exit(7);`],
    ["during a call", `model.call("spin"); await pause(50); process.exit(7);`],
    ["while the process starts", `void open(); process.exit(7);`],
  ])("may exit %s", async (_, program) => {
    const run = new Program(file, `const model = await open(); ${program}`);
    expect(await run.ended).toBe(7);
    await run.gone();
  });

  test.concurrent.each([
    ["is idle", ""],
    ["runs Python", `model.call("spin");`],
    ["runs PyTorch", `model.call("compute");`],
    ["runs code that holds the interpreter's lock", `model.call("hold");`],
    ["starts", `open();`],
    ["is stopped", `process.kill(await model.call("pid"), "SIGSTOP");`],
  ])("that is killed leaves no process where the model %s", async (_, program) => {
    const run = new Program(file, `const model = await open(); ${program} say("ready"); await pause(1e8);`);
    await run.says("ready");
    await pause(50);
    expect(marked(run.mark).length).toBeGreaterThan(1);
    run.child.kill("SIGKILL");
    expect(await run.ended).toBe("SIGKILL");
    await run.gone();
  });

  test.concurrent("that is killed leaves no process where `python` is a script that starts it", async () => {
    const script = models.file(`#!/bin/sh\n${python} "$@"\nexit $?\n`);
    chmodSync(script, 0o755);
    const run = new Program(
      file,
      `const model = await open();
       await model.call("spin", [], { signal: AbortSignal.timeout(50) }).catch((error) => say(error.name));
       model.call("spin");
       say("ready");
       await pause(1e8);`,
      script,
    );
    await run.says("ready");
    expect(run.text).toBe("TimeoutError\nready\n");
    expect(marked(run.mark)).toHaveLength(3);
    run.child.kill("SIGKILL");
    await run.gone();
  });

  test.concurrent(
    "may terminate a worker during a call, after which no child is left, not even a dead one",
    async () => {
      const run = new Program(
        file,
        `const worker = new Worker(\`
         const { openTorch } = require(${JSON.stringify(path.join(root, "dist/torch"))});
         openTorch(${JSON.stringify(file)}, { python: ${JSON.stringify(python)} }).then((model) => {
           globalThis.model = model;
           void model.call("spin");
           require("node:worker_threads").parentPort.postMessage("open");
         });\`, { eval: true });
       worker.on("message", async () => {
         await pause(50);
         say(children() + " before");
         await worker.terminate();
         say(children() + " after");
       });`,
      );
      expect(await run.ended).toBe(0);
      expect(run.text).toBe("1 before\n0 after\n");
      await run.gone();
    },
  );

  test.concurrent("that forgets a model ends its process, and gives its memory back", async () => {
    const run = new Program(
      file,
      `const mapped = () => readFileSync("/proc/self/maps", "utf8").includes("memfd:mtadam");
       let data = await (async () => { const model = await open(); await model.gradients(null); return model.parameters[0].data; })();
       while (children() > 0) { gc(); await pause(10); }
       say([mapped(), ...data].join());
       data = undefined;
       while (mapped()) { gc(); await pause(10); }
       say("done");`,
    );
    expect(await run.ended).toBe(0);
    expect(run.text).toBe("true,1,-2\ndone\n");
    await run.gone();
  });

  test.concurrent("keeps a model while one of its calls runs", async () => {
    const run = new Program(
      file,
      `const running = (() => open().then((model) => model.call("spin", [], { signal: AbortSignal.timeout(500) })))();
       const timer = setInterval(gc, 20);
       await running.catch((error) => say(error.name));
       clearInterval(timer);`,
    );
    expect(await run.ended).toBe(0);
    expect(run.text).toBe("TimeoutError\n");
    await run.gone();
  });
});

withTorch("the Python process", () => {
  const models = new Models();

  test("that is killed rejects the call, ends its own processes, and leaves the arrays", async () => {
    const model = await models.open(SMALL + METHODS);
    const pid = (await model.call("pid")) as number;
    const started = (await model.call("start")) as number;
    const { size } = await model.gradients(null);
    const running = caught(() => model.call("spin"));
    process.kill(pid, "SIGKILL");
    expect(await running).toMatchObject({
      code: "ERR_MTADAM_TORCH",
      message: expect.stringMatching(
        /^The Python process of model\d+\.py ended with signal SIGKILL during `spin`\.$/,
      ) as string,
    });
    while (isAlive(started)) await pause(10);
    expect(isAlive(pid)).toBe(false);
    expect(size!["w"]).toEqual(Float32Array.of(2, -4));
    expect(await caught(() => model.gradients(null))).toMatchObject({ code: "ERR_MTADAM_TORCH" });
  });

  test("that is killed between calls fails the next one", async () => {
    const model = await models.open(SMALL + METHODS);
    process.kill((await model.call("pid")) as number, "SIGKILL");
    const error = await caught(() => model.call("pid"));
    expect(error.message).toMatch(/ended with signal SIGKILL/);
  });

  test("is not reached by Ctrl-C, which interrupts the group of this process", async () => {
    const model = await models.open(SMALL + METHODS);
    const pid = (await model.call("pid")) as number;
    const group = Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[2]);
    expect(group).toBe(pid);
  });

  test("ends its own processes at `close`", async () => {
    const model = await openTorch(models.file(SMALL + METHODS), { python });
    const started = (await model.call("start")) as number;
    await model.close();
    while (isAlive(started)) await pause(10);
  });
});
