/**
 * Beginnings and ends: of processes and worker threads that use the addon, and of memory that nothing refers to.
 * Each test has a process of its own, which runs the built package.
 */

import path from "node:path";
import { onCpu } from "../support/device";
import { temporaryFolder } from "../support/folder";
import { runScript, type Ended } from "../support/process";

const root = path.join(__dirname, "../..");
const folder = temporaryFolder();

// The prelude of every process and every worker: two threads, and gradients large enough for both.
const prelude = `
  const root = ${JSON.stringify(root)};
  const mtadam = require(root);
  const file = ${JSON.stringify(path.join(folder, "state"))};
  const { MTAdam, MTAdamError, openDevice } = mtadam;
  const { Worker, parentPort, isMainThread } = require("node:worker_threads");
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const COUNT = 200000;
  /** A model whose steps use threads. */
  function train(device = openDevice("cpu", { threads: 3 })) {
    const parameter = device.buffer(COUNT);
    const gradient = device.buffer(COUNT);
    gradient.fill(1);
    const optimizer = new MTAdam([parameter], { terms: 2, lr: 0.1 });
    const step = () => optimizer.step([[gradient], [gradient]]);
    step();
    return { device, parameter, gradient, optimizer, step };
  }
`;

const withPrelude = (program: string): string => `${prelude}\n(async () => {${program}\n})();`;

const run = (program: string, ...flags: string[]): Promise<Ended> =>
  runScript(withPrelude(program), ...flags);

/** Runs a program, which must succeed and write "done" last. */
async function succeeds(program: string, ...flags: string[]): Promise<string> {
  const ended = await run(program, ...flags);
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: "" });
  expect(ended.stdout).toMatch(/done\n$/);
  return ended.stdout;
}

/** The source of a worker: the prelude and its own program. */
const worker = (program: string): string =>
  `new Worker(${JSON.stringify(withPrelude(program))}, { eval: true })`;

onCpu("a process", () => {
  test.concurrent.each([
    ["after steps", `train().step(); console.log("done");`],
    ["with a device that was opened and not used", `openDevice("cpu", { threads: 8 }); console.log("done");`],
    ["with several devices", `for (let k = 0; k < 4; ++k) train(); console.log("done");`],
    ["with more threads than cores", `train(openDevice("cpu", { threads: 64 })); console.log("done");`],
    [
      "after dispose",
      `const { optimizer, device } = train(); optimizer.dispose(); device.dispose(); console.log("done");`,
    ],
    [
      "with a stepEach that never settles",
      `train().optimizer.stepEach([() => new Promise(() => {}), null]); console.log("done");`,
    ],
    [
      "with a step that is open",
      `const { optimizer, gradient } = train(); optimizer.accumulate(0, [gradient]); console.log("done");`,
    ],
    [
      "whose last steps are made when it exits",
      `const { step } = train(); process.on("exit", () => { step(); console.log("done"); });`,
    ],
    [
      "whose optimizers live on in globals and closures",
      `globalThis.kept = train(); setTimeout(() => { globalThis.kept.step(); console.log("done"); }, 10);`,
    ],
  ])("ends by itself %s", async (_, program) => {
    await succeeds(program);
  });

  test.concurrent.each([
    ["at once", `train(); process.exit(7);`],
    ["in a callback of stepEach", `train().optimizer.stepEach([() => process.exit(7), null]);`],
    ["in a schedule", `const { optimizer, step } = train(); optimizer.lr = () => process.exit(7); step();`],
    [
      "in the getter of a gradient",
      `train().optimizer.step([Object.defineProperty([null], 0, { get: () => process.exit(7) }), null]);`,
    ],
    [
      "with a step open and a stepEach unsettled",
      `const { optimizer, gradient } = train();
       optimizer.stepEach([() => [gradient], () => new Promise(() => {})]);
       setTimeout(() => process.exit(7), 20);`,
    ],
    [
      "while workers step",
      `for (let k = 0; k < 3; ++k) ${worker("const { step } = train(); for (;;) step();")}; setTimeout(() => process.exit(7), 150);`,
    ],
  ])("can exit %s", async (_, program) => {
    expect(await run(program)).toMatchObject({ code: 7, signal: null, stderr: "" });
  });

  test.concurrent("is not aborted by an error that nobody catches", async () => {
    const thrown = await run(`const { optimizer } = train(); optimizer.step([1]);`);
    expect(thrown).toMatchObject({ code: 1, signal: null });
    expect(thrown.stderr).toMatch(/MTAdamError: `gradients` must have 2 entries/);
    expect(thrown.stderr).toMatch(/code: 'ERR_MTADAM_LENGTH'/);
    const inTimer = await run(`const { optimizer } = train(); setTimeout(() => optimizer.step([1]), 1);`);
    expect(inTimer).toMatchObject({ code: 1, signal: null });
    const rejected = await run(`train().optimizer.loadStateDict({});`);
    expect(rejected).toMatchObject({ code: 1, signal: null });
    expect(rejected.stderr).toMatch(/ERR_MTADAM_CHECKPOINT/);
  });

  test.concurrent("rejects with the error of a listener, after the step", async () => {
    const shown = await succeeds(`
      const { step, optimizer } = train();
      const errors = [];
      process.on("unhandledRejection", ({ message }) => errors.push(message));
      optimizer.onStep(() => { throw new Error("of a step"); });
      optimizer.onStats(() => { throw new Error("of a report"); }, { every: 1 });
      const before = optimizer.iterations;
      step();
      setImmediate(() => console.log(errors, optimizer.iterations - before, "done"));
    `);
    expect(shown).toBe("[ 'of a step', 'of a report' ] 1 done\n");
  });

  test.concurrent("goes on after an uncaught error that is handled", async () => {
    await succeeds(`
      const { step, optimizer } = train();
      process.on("uncaughtException", (error) => {
        if (error.code !== "ERR_MTADAM_LENGTH") throw error;
        step();
        console.log(optimizer.iterations, "done");
      });
      setTimeout(() => optimizer.step([1]), 1);
    `);
  });
});

onCpu("worker threads", () => {
  test.concurrent("load the addon alone and end, one after the other", async () => {
    // Not the main thread: the C library may keep freed memory with the worker that used it.
    const ended = await runScript(`
      const { Worker } = require("node:worker_threads");
      (async () => {
        for (let k = 0; k < 4; ++k) {
          const one = ${worker(`train().step(); parentPort.postMessage("stepped");`)};
          one.on("error", (error) => { throw error; });
          const [message, code] = await Promise.all([
            new Promise((resolve) => one.once("message", resolve)),
            new Promise((resolve) => one.once("exit", resolve)),
          ]);
          console.log(message, code);
        }
      })();
    `);
    expect(ended).toEqual({ code: 0, signal: null, stdout: "stepped 0\n".repeat(4), stderr: "" });
  });

  test.concurrent("work many at once, and get the same bits", async () => {
    await succeeds(`
      const { parameter, step } = train();
      for (let k = 0; k < 5; ++k) step();
      const expected = Buffer.from((await parameter.download()).buffer);
      const workers = Array.from({ length: 8 }, () => ${worker(`
        const { parameter, step } = train();
        for (let k = 0; k < 5; ++k) step();
        parentPort.postMessage(await parameter.download());
      `)});
      const results = await Promise.all(workers.map((one) => new Promise((resolve, reject) => {
        one.once("message", resolve);
        one.once("error", reject);
      })));
      for (const result of results) if (!expected.equals(Buffer.from(result.buffer))) throw new Error("other bits");
      console.log("done");
    `);
  });

  test.concurrent("end with an unsettled stepEach and an open step", async () => {
    await succeeds(`
      const one = ${worker(`
        const { optimizer, gradient } = train();
        optimizer.stepEach([() => [gradient], () => new Promise(() => {})]);
      `)};
      console.log(await new Promise((resolve) => one.once("exit", resolve)), "done");
    `);
  });

  test.concurrent("end by an error that is the library's, and the process goes on", async () => {
    const output = await succeeds(`
      const one = ${worker(`train().optimizer.step([1]);`)};
      const error = await new Promise((resolve) => one.once("error", resolve));
      console.log(error.name, error.code, error.message);
      train();
      console.log("done");
    `);
    expect(output).toMatch(/ERR_MTADAM_LENGTH .*must have 2 entries/);
  });

  // Each worker is ended many times, at different moments of its work.
  test.concurrent.each([
    ["stepping", `const { step } = train(); ready(); for (;;) step();`],
    [
      "making small steps",
      `const optimizer = new MTAdam([new Float32Array(1)], { terms: 1 }); ready();
       for (;;) optimizer.step([[new Float32Array(1)]]);`,
    ],
    [
      "making optimizers",
      `const data = Array.from({ length: 300 }, () => new Float32Array(1)); ready();
       for (;;) new MTAdam(data, { terms: 1 });`,
    ],
    [
      "making errors",
      `const data = new Float32Array(100); ready();
       for (;;) { try { new MTAdam([data, data], { terms: 1 }); } catch {} }`,
    ],
    [
      "allocating and freeing buffers",
      `const device = openDevice("cpu"); ready();
       for (;;) { const one = device.buffer(100); one.fill(1); one.ptr; one.dispose(); }`,
    ],
    [
      "reading states",
      `const { optimizer } = train(); ready(); for (;;) { await optimizer.stateDict(); await optimizer.norms(); }`,
    ],
    [
      "preparing",
      `const { optimizer, gradient } = train(); ready(); for (;;) optimizer.prepare([[gradient], null]);`,
    ],
    [
      "saving and loading",
      `const { optimizer } = train(); ready();
       for (;;) { await optimizer.save(file); await optimizer.load(file); }`,
    ],
    [
      "taking terms one at a time",
      `const { optimizer, gradient } = train(); ready();
       for (;;) {
         optimizer.accumulate(0, [gradient]);
         optimizer.update();
         await optimizer.stepEach([() => [gradient], async () => [gradient]]);
       }`,
    ],
    [
      "adding terms and parameters",
      `const { optimizer, device } = train(); ready();
       for (let k = 0; ; ++k) {
         optimizer.addTerm("more");
         optimizer.removeTerm("more");
         optimizer.addParamGroup({ parameters: [{ name: "p" + k, data: device.buffer(1) }] });
       }`,
    ],
    ["opening devices", `ready(); for (;;) openDevice("cpu", { threads: 2 });`],
    ["loading the addon", `ready(); for (;;) { train(); await pause(0); }`],
  ])("can be terminated while %s", async (_, program) => {
    await succeeds(`
      for (let k = 0; k < 8; ++k) {
        const one = ${worker(`const ready = () => parentPort.postMessage("ready"); ${program}`)};
        await new Promise((resolve, reject) => { one.once("message", resolve); one.once("error", reject); });
        await pause(k % 4);
        await one.terminate();
      }
      console.log("done");
    `);
  });

  test.concurrent("can be terminated before they have loaded it", async () => {
    await succeeds(`
      for (let k = 0; k < 8; ++k) {
        const one = ${worker("train();")};
        await pause(5 * k);
        await one.terminate();
      }
      console.log("done");
    `);
  });
});

onCpu("what nothing refers to any more", () => {
  // Collects garbage until the condition holds, up to a limit.
  const collect = `
    const collect = async (until) => {
      for (let k = 0; k < 50 && !until(); ++k) { gc(); await pause(1); }
      return until();
    };
  `;

  test.concurrent("is collected: optimizers, buffers, prepared gradients and devices", async () => {
    await succeeds(
      `${collect}
      const kinds = new Map();
      const registry = new FinalizationRegistry((kind) => kinds.set(kind, (kinds.get(kind) ?? 0) + 1));
      const watch = (kind, object) => registry.register(object, kind);
      const ROUNDS = 20;
      for (let k = 0; k < ROUNDS; ++k) {
        const { device, parameter, gradient, optimizer } = train();
        const prepared = optimizer.prepare([[gradient], [gradient]]);
        optimizer.step(prepared);
        optimizer.accumulate(0, [gradient]);
        for (const [kind, object] of Object.entries({ device, parameter, gradient, optimizer, prepared })) watch(kind, object);
        await pause(0);
      }
      await collect(() => kinds.size === 5 && [...kinds.values()].every((count) => count >= ROUNDS - 1));
      console.log([...kinds].map(([kind, count]) => kind + (count >= ROUNDS - 1 ? " ok" : " " + count)).sort().join(", "));
      console.log("done");`,
      "--expose-gc",
    ).then((output) => {
      expect(output).toBe("device ok, gradient ok, optimizer ok, parameter ok, prepared ok\ndone\n");
    });
  });

  test.concurrent.each([
    ["collected", ``],
    ["disposed of", `optimizer.dispose(); parameter.dispose(); gradient.dispose(); device.dispose();`],
  ])("gives its memory back when it is %s", async (_, end) => {
    await succeeds(
      `const MB = 2 ** 20;
      const round = () => {
        const device = openDevice("cpu", { threads: 2 });
        const parameter = device.buffer(MB / 2);
        const gradient = device.buffer(MB / 2);
        gradient.fill(1);
        const optimizer = new MTAdam([parameter], { terms: 2 });
        optimizer.step([[gradient], [gradient]]);
        ${end}
      };
      round();
      const before = process.memoryUsage().rss;
      // 12 MB each, 480 together.
      for (let k = 0; k < 40; ++k) { round(); if (k % 10 === 9) { gc(); await pause(1); gc(); await pause(1); } }
      const grown = (process.memoryUsage().rss - before) / MB;
      if (grown > 240) throw new Error("grown by " + grown + " MB");
      console.log("done");`,
      "--expose-gc",
    );
  });

  test.concurrent("is noticed without being asked: memory outside the heap counts", async () => {
    await succeeds(`
      const MB = 2 ** 20;
      const before = process.memoryUsage().rss;
      let most = 0;
      for (let k = 0; k < 60; ++k) {
        const parameter = new Float32Array(64);
        const optimizer = new MTAdam([parameter], { terms: 1 });
        openDevice("cpu", { threads: 1 }).buffer(4 * MB).fill(1);
        await pause(0);
        most = Math.max(most, process.memoryUsage().rss - before);
      }
      // 16 MB each, 960 together.
      if (most > 640 * MB) throw new Error("grown by " + most / MB + " MB");
      console.log("done");
    `);
  });

  test.concurrent("ends its threads", async () => {
    await succeeds(
      `${collect}
      const { readdirSync } = require("node:fs");
      const threads = () => process.platform === "linux" ? readdirSync("/proc/self/task").length : 0;
      const before = threads();
      (() => { for (let k = 0; k < 8; ++k) train(openDevice("cpu", { threads: 4 })); })();
      await pause(1);
      const most = threads();
      if (process.platform === "linux" && most < before + 3) throw new Error("no threads: " + before + ", " + most);
      if (!(await collect(() => threads() <= before + 3))) throw new Error("still " + threads() + " of " + most);
      console.log("done");`,
      "--expose-gc",
    );
  });

  test.concurrent("is not collected while an optimizer steps with it", async () => {
    await succeeds(
      `const optimizer = (() => {
        const device = openDevice("cpu", { threads: 2 });
        return new MTAdam([device.buffer(COUNT), device.buffer(3)], { terms: 1, lr: 0.5 });
      })();
      const seen = (() => {
        const parameter = new Float32Array(COUNT);
        return { parameter, optimizer: new MTAdam([parameter], { terms: 1, lr: 0.5 }) };
      })();
      const prepared = (() => {
        const gradient = new Float32Array(COUNT).fill(1);
        return seen.optimizer.prepare([[gradient]]);
      })();
      const junk = [];
      for (let k = 0; k < 4; ++k) {
        gc();
        await pause(1);
        // Freed memory would be reused and filled with these values.
        junk.push(new Float32Array(COUNT).fill(-1e9));
        seen.optimizer.step(prepared);
        optimizer.step([[new Float32Array(COUNT).fill(1), null]]);
      }
      for (const value of seen.parameter) if (Math.abs(value + 2) > 1e-3) throw new Error("moved to " + value);
      const { "m.0.0": m } = await optimizer.stateDict();
      for (const value of m) if (Math.abs(value - 0.3439) > 1e-3) throw new Error("m is " + value);
      console.log("done");`,
      "--expose-gc",
    );
  });

  test.concurrent("includes gradients of the last step, once others have come", async () => {
    await succeeds(
      `${collect}
      let collected = 0;
      const registry = new FinalizationRegistry(() => (collected += 1));
      const optimizer = new MTAdam([new Float32Array(COUNT)], { terms: 2 });
      const prepared = optimizer.prepare({});
      const watched = () => {
        const gradient = new Float32Array(COUNT);
        registry.register(gradient);
        return gradient;
      };
      optimizer.step([[watched()], [watched()]]);
      prepared.set(0, 0, watched());
      optimizer.step([null, null]);
      prepared.set(0, 0, null);
      if (!(await collect(() => collected === 3))) throw new Error("only " + collected);
      console.log("done");`,
      "--expose-gc",
    );
  });

  test.concurrent("may be collected in any order", async () => {
    await succeeds(
      `const kept = [];
      for (let k = 0; k < 300; ++k) {
        const device = openDevice("cpu", { threads: 1 });
        const parameter = device.buffer(10);
        const gradient = device.buffer(10);
        const optimizer = new MTAdam([parameter], { terms: 1 });
        const prepared = optimizer.prepare([[gradient]]);
        kept.push([device, parameter, gradient, optimizer, prepared][k % 5]);
        if (k % 50 === 49) { gc(); await pause(0); }
      }
      for (const one of kept) {
        if (one instanceof MTAdam) one.step([null]);
        else if ("zero" in one) one.zero();
        else if ("fill" in one) one.fill(1);
        else one.buffer(1);
      }
      kept.length = 0;
      gc();
      console.log("done");`,
      "--expose-gc",
    );
  });
});

onCpu("two copies of the package", () => {
  const load = `
    const Module = require("node:module");
    const vm = require("node:vm");
    const fs = require("node:fs");
    const path = require("node:path");
    /** A second copy of the package in another context, which loads the addon again. */
    function again() {
      const context = vm.createContext({ process, console });
      const loaded = new Map();
      const requireIn = (folder) => (name) => {
        if (!name.startsWith(".")) return Module.createRequire(path.join(folder, "x.js"))(name);
        const file = path.join(folder, name + ".js");
        if (!loaded.has(file)) {
          const module = { exports: {} };
          loaded.set(file, module);
          const wrapper = vm.runInContext(Module.wrap(fs.readFileSync(file, "utf8")), context, file);
          wrapper(module.exports, requireIn(path.dirname(file)), module, file, path.dirname(file));
        }
        return loaded.get(file).exports;
      };
      return requireIn(path.join(root, "dist"))("./index");
    }
  `;

  test.concurrent("in two contexts both work", async () => {
    await succeeds(`${load}
      const other = again();
      if (other.MTAdam === MTAdam) throw new Error("not another");
      for (const { MTAdam, openDevice } of [mtadam, other, again()]) {
        const parameter = Float32Array.of(1);
        new MTAdam([parameter], { terms: 1, lr: 0.5 }).step([[Float32Array.of(1)]]);
        openDevice("cpu", { threads: 2 }).buffer(3).fill(1);
        if (Math.abs(parameter[0] - 0.5) > 1e-6) throw new Error(String(parameter[0]));
      }
      console.log("done");
    `);
  });

  test.concurrent("what one made is an error to the other", async () => {
    await succeeds(`${load}
      const other = again();
      const code = (call) => { try { call(); return "none"; } catch (error) { return error.code ?? String(error); } };
      const device = other.openDevice("cpu", { threads: 1 });
      const optimizer = new MTAdam([new Float32Array(3)], { terms: 1 });
      const theirs = new other.MTAdam([new Float32Array(3)], { terms: 1 });
      const codes = [
        code(() => new MTAdam([new Float32Array(3)], { terms: 1, device })),
        code(() => new MTAdam([{ data: device.buffer(3), length: 3 }], { terms: 1 })),
        code(() => optimizer.step([[device.buffer(3)]])),
        code(() => optimizer.step(theirs.prepare([null]))),
        code(() => MTAdam.prototype.step.call(theirs, [null])),
      ];
      console.log(codes.join(" "));
      console.log("done");
    `).then((output) => {
      expect(output).toMatch(
        /^ERR_MTADAM_OPTION ERR_MTADAM_INVALID_POINTER ERR_MTADAM_INVALID_POINTER ERR_MTADAM_\w+ ERR_MTADAM_OPTION/,
      );
    });
  });

  test.concurrent("required again after its files were forgotten", async () => {
    await succeeds(`
      for (let k = 0; k < 5; ++k) {
        for (const file of Object.keys(require.cache)) delete require.cache[file];
        const { MTAdam } = require(root);
        new MTAdam([new Float32Array(COUNT)], { terms: 1 }).step([[new Float32Array(COUNT).fill(1)]]);
      }
      train();
      console.log("done");
    `);
  });
});
