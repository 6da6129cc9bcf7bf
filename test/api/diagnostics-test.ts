import vm from "node:vm";
import { MTAdam, type DeviceBuffer, type Diagnostics } from "../../lib";
import { caught } from "../support/caught";
import { testDevice } from "../support/device";

const device = testDevice();

/** Gradients whose norm in their layer is `norm`. */
const gradient = (norm: number): DeviceBuffer<"float32"> =>
  device.buffer(Float32Array.of(0.6 * norm, -0.8 * norm));
const make = (options: object = {}): MTAdam =>
  new MTAdam(
    [
      { name: "w", data: device.buffer(2) },
      { name: "b", data: device.buffer(2) },
    ],
    {
      terms: ["one", "two", "three"],
      weights: [1, 3, 1],
      betas: [0.9, 0.999, 0.5],
      ...options,
    },
  );

describe("diagnostics", () => {
  test("are norms, scales and shares of each term in each layer", async () => {
    const optimizer = make();
    expect(await optimizer.diagnostics()).toEqual({
      iteration: 0,
      terms: ["one", "two", "three"],
      layers: ["w", "b"],
      norms: new Float32Array(6).fill(NaN),
      scales: new Float32Array(6).fill(NaN),
      shares: new Float32Array(6).fill(NaN),
      sharesBefore: new Float32Array(6).fill(NaN),
      effectiveWeights: new Float32Array(3).fill(NaN),
      anchors: Int32Array.of(-1, -1),
      skipped: new Float32Array(6),
    });
    optimizer.step([[gradient(4), gradient(1)], [gradient(2), null], null]);
    optimizer.step([[gradient(8), null], [gradient(4), null], null]);
    const { iteration, norms, scales, shares } = await optimizer.diagnostics();
    expect(iteration).toBe(2);
    // n = (4 + 8)/2 and (2 + 4)/2; the second term is scaled by 3·(6/3).
    expect(rounded(norms)).toEqual([6, 1, 3, NaN, NaN, NaN]);
    expect(rounded(scales)).toEqual([1, 1, 6, NaN, NaN, NaN]);
    // 1·8 beside 6·4.
    expect(rounded(shares)).toEqual([0.25, 1, 0.75, NaN, NaN, NaN]);
  });

  test("have no scale for a pair that has not occurred since its state was loaded", async () => {
    const [saved, optimizer] = [make(), make()];
    saved.step([[gradient(4), gradient(1)], [gradient(2), null], null]);
    await optimizer.loadStateDict(await saved.stateDict());
    const { norms, scales, shares, sharesBefore, effectiveWeights } = await optimizer.diagnostics();
    expect(rounded(norms)).toEqual([4, 1, 2, NaN, NaN, NaN]);
    expect(scales).toEqual(new Float32Array(6).fill(NaN));
    expect(shares).toEqual(new Float32Array(6).fill(NaN));
    expect(sharesBefore).toEqual(new Float32Array(6).fill(NaN));
    expect(effectiveWeights).toEqual(new Float32Array(3).fill(NaN));
    optimizer.step([null, [gradient(2), null], null]);
    const after = await optimizer.diagnostics();
    expect(rounded(after.scales)).toEqual([NaN, NaN, 6, NaN, NaN, NaN]);
    expect(rounded(after.shares)).toEqual([NaN, NaN, 1, NaN, NaN, NaN]);
  });

  const rounded = (values: Float32Array): number[] =>
    Array.from(values, (value) => Math.round(value * 1e4) / 1e4);

  test.each(["skipTerm", "skipStep"] as const)("count what %s has skipped", async (nonFinite) => {
    const optimizer = make({ nonFinite });
    const bad = device.buffer(Float32Array.of(1, NaN));
    optimizer.step([[gradient(1), gradient(1)], [bad, gradient(1)], null]);
    optimizer.step([[gradient(1), gradient(1)], [bad, bad], null]);
    expect([...(await optimizer.diagnostics()).skipped]).toEqual([0, 0, 2, 1, 0, 0]);
    // A norm that is not finite has no share.
    expect([...(await optimizer.diagnostics()).shares]).not.toContain(Infinity);
  });

  test("are read at the time of the call", async () => {
    const optimizer = make({ betas: [0.9, 0.999, 0] });
    optimizer.step([[gradient(4), null], null, null]);
    const first = optimizer.diagnostics();
    optimizer.step([[gradient(8), null], null, null]);
    expect(await first).toMatchObject({ iteration: 1, norms: Float32Array.of(4, NaN, NaN, NaN, NaN, NaN) });
    expect((await optimizer.diagnostics()).norms[0]).toBe(8);
  });

  // On the CPU they are complete at once; on CUDA, several threads wait for them.
  test("settle in the order of the calls", async () => {
    const optimizer = make();
    const settled: number[] = [];
    for (let asked = 0; asked < 200; ++asked) {
      void optimizer.diagnostics().then(() => settled.push(asked));
    }
    await optimizer.diagnostics();
    expect(settled).toEqual(Array.from({ length: 200 }, (_, asked) => asked));
  });

  test("reject after dispose; pending calls settle", async () => {
    const optimizer = make();
    optimizer.step([[gradient(4), null], null, null]);
    const pending = optimizer.diagnostics();
    optimizer.dispose();
    expect((await pending).norms[0]).toBe(4);
    expect(await caught(() => optimizer.diagnostics())).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
  });
});

describe("at and table", () => {
  test("give the values of a pair by name or index, and all of them in rows", async () => {
    const optimizer = make();
    optimizer.step([[gradient(8), null], [gradient(4), null], null]);
    const diagnostics = await optimizer.diagnostics();
    const { at, table } = {
      at: diagnostics.at("two", "w"),
      table: diagnostics.table(),
    };
    // Scaled by 3·(8/4): 8 and 24 of 32; 8 and 4 of 12 before.
    expect(at).toEqual({ norm: 4, scale: 6, share: 0.75, shareBefore: Math.fround(4 / 12), skipped: 0 });
    expect(diagnostics.at(1, 0)).toEqual(at);
    const none = { norm: NaN, scale: NaN, share: NaN, shareBefore: NaN, skipped: 0, anchor: false };
    expect(table).toEqual([
      { layer: "w", term: "one", ...diagnostics.at("one", "w"), anchor: true },
      { layer: "w", term: "two", ...at, anchor: false },
      { layer: "w", term: "three", ...none },
      ...["one", "two", "three"].map((term) => ({ layer: "b", term, ...none })),
    ]);
  });

  test.each([
    ["four", "w", "ERR_MTADAM_TERM", '`term` must be the name of a term or its index; got "four".'],
    [3, "w", "ERR_MTADAM_TERM", "`term` must be the name of a term or its index; got 3."],
    ["one", "W", "ERR_MTADAM_OPTION", '`layer` must be the name of a layer or its index; got "W".'],
    ["one", -1, "ERR_MTADAM_OPTION", "`layer` must be the name of a layer or its index; got -1."],
  ] as const)("refuse %p and %p", async (term, layer, code, message) => {
    const diagnostics = await make().diagnostics();
    expect(await caught(() => diagnostics.at(term, layer))).toMatchObject({ code, message });
  });
});

describe("the balance", () => {
  test("shares before balancing and effective weights", async () => {
    const optimizer = make();
    optimizer.step([
      [gradient(3), gradient(4)],
      [gradient(1), gradient(4)],
      [gradient(0), gradient(8)],
    ]);
    const { sharesBefore, effectiveWeights } = await optimizer.diagnostics();
    expect([...sharesBefore]).toEqual([0.75, 0.25, 0.25, 0.25, 0, 0.5]);
    // Weights 1, 3, 1. The second term is scaled by 3·3 and 3·1, the third by 4/8 (and by 1 where its norm is 0).
    const expected = [1, Math.hypot(9 * 1, 3 * 4) / Math.hypot(1, 4), 0.5];
    expect([...effectiveWeights].map((weight, k) => Math.abs(weight / expected[k]! - 1) < 1e-6)).toEqual([
      true,
      true,
      true,
    ]);
  });

  test.each([
    ["first", [0, 1]],
    ["max", [1, 2]],
    ["three", [0, 2]],
    ["mean", [-1, -1]],
  ] as const)("the term of the anchor %p per layer", async (anchor, expected) => {
    const optimizer = make({ anchor });
    optimizer.step([
      [gradient(1), null],
      [gradient(2), gradient(2)],
      [null, gradient(3)],
    ]);
    expect([...(await optimizer.diagnostics()).anchors]).toEqual(expected);
  });
});

describe("onStep", () => {
  test("is called in every step, of every kind, until it is ended", async () => {
    const optimizer = make();
    const told: number[] = [];
    const end = optimizer.onStep((iteration) => told.push(iteration));
    const prepared = optimizer.prepare([[gradient(4), null], null, null]);
    optimizer.step(prepared);
    expect(told).toEqual([1]);
    optimizer.accumulate("one", [gradient(4), null]);
    expect(told).toEqual([1]);
    optimizer.update();
    expect(told).toEqual([1, 2]);
    await optimizer.stepEach([() => [gradient(4), null], null, null]);
    expect(told).toEqual([1, 2, 3]);
    expect(await caught(() => optimizer.step([null] as never))).toMatchObject({
      code: "ERR_MTADAM_LENGTH",
    });
    expect(told).toEqual([1, 2, 3]);
    end();
    end();
    optimizer.step(prepared);
    expect(told).toEqual([1, 2, 3]);
  });

  test("tells of each step once, also of one that follows stepEach before it settles", async () => {
    const optimizer = make();
    const told: number[] = [];
    optimizer.onStep((iteration) => told.push(iteration));
    const settled = optimizer.stepEach([null, null, null]);
    const isBusy = async (): Promise<boolean> => {
      try {
        optimizer.step([null, null, null]);
        return false;
      } catch {
        return Promise.resolve(true);
      }
    };
    while (await isBusy());
    await settled;
    expect(told.sort()).toEqual([1, 2]);
  });

  test("may step, end a later listener and dispose", () => {
    const optimizer = make();
    const told: string[] = [];
    optimizer.onStep((iteration) => {
      told.push(`first ${iteration}`);
      if (iteration === 1) optimizer.step([null, null, null]);
      if (iteration === 3) {
        end();
        optimizer.dispose();
      }
    });
    const end = optimizer.onStep((iteration) => told.push(`second ${iteration}`));
    optimizer.step([null, null, null]);
    optimizer.step([null, null, null]);
    expect(told).toEqual(["first 1", "first 2", "second 2", "second 1", "first 3"]);
  });

  test("refuses something other than a function", async () => {
    expect(await caught(() => make().onStep("log" as never))).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: '`listener` must be a function; got "log".',
    });
  });
});

describe("onStats", () => {
  // Diagnostics settle after the listeners' calls for earlier steps, so awaiting them suffices.
  test("calls the listener every `every` steps, for every kind of step, until it is removed", async () => {
    const optimizer = make();
    const told: Diagnostics[] = [];
    const end = optimizer.onStats((diagnostics) => told.push(diagnostics), { every: 3 });
    const prepared = optimizer.prepare([[gradient(4), null], null, null]);
    for (let step = 1; step <= 7; ++step) {
      if (step % 2 === 0) optimizer.step(prepared);
      else {
        optimizer.accumulate("one", [gradient(4), null]);
        optimizer.update();
      }
      await optimizer.diagnostics();
    }
    expect(told.map(({ iteration }) => iteration)).toEqual([3, 6]);
    expect(told[1]?.norms[0]).toBe(4);
    end();
    end();
    for (let step = 8; step <= 9; ++step) optimizer.step(prepared);
    await optimizer.diagnostics();
    expect(told).toHaveLength(2);
  });

  test("counts steps per listener and reports every hundredth by default", async () => {
    const optimizer = make();
    const told = { often: 0, seldom: 0 };
    optimizer.onStats(() => (told.seldom += 1));
    optimizer.onStats(() => (told.often += 1), { every: 50 });
    const prepared = optimizer.prepare([[gradient(4), null], null, null]);
    for (let step = 1; step <= 200; ++step) {
      optimizer.step(prepared);
      if (step % 50 === 0) await optimizer.diagnostics();
    }
    expect(told).toEqual({ often: 4, seldom: 2 });
  });

  test("loses no report in a loop that never returns to the event loop", async () => {
    const optimizer = make({ betas: [0.9, 0.999, 0] });
    const told: [iteration: number, norm: number][] = [];
    optimizer.onStats(({ iteration, norms }) => told.push([iteration, norms[0]!]), { every: 2 });
    const expected: typeof told = [];
    for (let step = 1; step <= 300; ++step) {
      optimizer.step([[gradient(step), null], null, null]);
      if (step % 2 === 0) expected.push([step, step]);
    }
    // On CUDA, the last 64 are still under way.
    expect(told).toEqual(device.kind === "cpu" ? expected : expected.slice(0, -64));
    await optimizer.diagnostics();
    expect(told).toEqual(expected);
  });

  test("delivers the reports of steps that a listener takes after it, in order, to every listener", async () => {
    const optimizer = make();
    const told: string[] = [];
    const report = (name: string, iteration: number): void => void told.push(`${name} ${iteration}`);
    optimizer.onStats(
      ({ iteration }) => {
        report("stepping", iteration);
        if (iteration === 1) for (let k = 0; k < 2; ++k) optimizer.step([null, null, null]);
        report("stepped", iteration);
      },
      { every: 1 },
    );
    optimizer.onStats(({ iteration }) => report("other", iteration), { every: 1 });
    optimizer.step([null, null, null]);
    await optimizer.diagnostics();
    await optimizer.diagnostics();
    expect(optimizer.iterations).toBe(3);
    expect(told).toEqual([1, 2, 3].flatMap((k) => [`stepping ${k}`, `stepped ${k}`, `other ${k}`]));
  });

  test("lets a listener read, change the options and end itself, also in `stepEach`", async () => {
    const optimizer = make();
    const read: Promise<Diagnostics>[] = [];
    const end = optimizer.onStats(
      () => {
        read.push(optimizer.diagnostics());
        optimizer.lr = 0.5;
        if (read.length === 2) end();
      },
      { every: 1 },
    );
    for (let k = 0; k < 3; ++k) {
      await optimizer.stepEach([() => [gradient(1), null], null, null]);
      await optimizer.diagnostics();
    }
    expect((await Promise.all(read)).map(({ iteration }) => iteration)).toEqual([1, 2]);
    expect(optimizer.lr).toBe(0.5);
  });

  test("lets a listener dispose of the optimizer", async () => {
    const optimizer = make();
    let calls = 0;
    optimizer.onStats(
      () => {
        calls += 1;
        optimizer.dispose();
      },
      { every: 1 },
    );
    optimizer.step([[gradient(1), null], null, null]);
    await optimizer.diagnostics().catch(() => undefined);
    while (calls === 0) await new Promise(setImmediate);
    expect(await caught(() => optimizer.step([null, null, null]))).toMatchObject({
      code: "ERR_MTADAM_DISPOSED",
    });
    expect(calls).toBe(1);
  });

  test("goes on after a time-out has ended a listener", async () => {
    const optimizer = make();
    const told: number[] = [];
    optimizer.onStats(
      ({ iteration }) => {
        while (iteration === 1 && device.kind === "cpu");
        told.push(iteration);
      },
      { every: 1 },
    );
    const context = vm.createContext({ optimizer });
    const run = (): unknown =>
      vm.runInContext("optimizer.step([null, null, null])", context, { timeout: 20 });
    if (device.kind === "cpu") expect(run).toThrow(/timed out/);
    else run();
    optimizer.step([null, null, null]);
    await optimizer.diagnostics();
    expect(told).toEqual(device.kind === "cpu" ? [2] : [1, 2]);
  });

  test("refuses an invalid listener or interval", async () => {
    const optimizer = make();
    expect(await caught(() => optimizer.onStats(5 as never))).toMatchObject({ code: "ERR_MTADAM_OPTION" });
    for (const every of [0, -1, 1.5, NaN, Infinity, "3", null]) {
      expect(
        await caught(() => optimizer.onStats(() => undefined, { every: every as number })),
      ).toMatchObject({
        code: "ERR_MTADAM_OPTION",
        message: expect.stringMatching(/^`every` must be a whole number of steps from 1/) as string,
      });
    }
  });
});
