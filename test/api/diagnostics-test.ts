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

  test("skips a report while the last one is pending", async () => {
    const optimizer = make();
    const iterations: number[] = [];
    optimizer.onStats(({ iteration }) => iterations.push(iteration), { every: 1 });
    for (let step = 0; step < 5; ++step) optimizer.step([null, null, null]);
    await optimizer.diagnostics();
    expect(iterations).toEqual([1]);
    optimizer.step([null, null, null]);
    await optimizer.diagnostics();
    expect(iterations).toEqual([1, 6]);
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
