/** The process warning about the first skipped term of an optimizer. */

import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { ReadingQueue } from "../../lib/readings";
import { onCpu, onCuda, testDevice } from "../support/device";

const device = testDevice();
const buffer = (...values: number[]): DeviceBuffer<"float32"> => device.buffer(Float32Array.from(values));

const make = (options: Partial<MTAdamOptions> = {}): MTAdam =>
  new MTAdam(
    ["w", "b"].map((name) => ({ name, data: buffer(1, 1) })),
    { terms: ["content", "style"], ...options },
  );

/** A step in which style's gradient for b has this value. */
function step(optimizer: MTAdam, value: number): void {
  const one = buffer(1, 1);
  optimizer.step({ content: [one, one], style: [one, buffer(value, 1)] });
}

/** Warnings are emitted some turns after the call. */
const settled = async (optimizer: MTAdam): Promise<void> => {
  await optimizer.synchronize();
  await new Promise((resolve) => setTimeout(resolve, 5));
};

let emitted: (string | Error)[] = [];
let codes: unknown[] = [];

beforeEach(() => {
  [emitted, codes] = [[], []];
  jest.spyOn(process, "emitWarning").mockImplementation(((message: string, options: { code?: string }) => {
    emitted.push(message);
    codes.push(options.code);
  }) as typeof process.emitWarning);
});
afterEach(() => jest.restoreAllMocks());

describe("the first skipped term", () => {
  test.each([NaN, Infinity])("is warned of once, if its gradient has %d", async (value) => {
    const optimizer = make();
    step(optimizer, 1);
    await optimizer.diagnostics();
    expect(emitted).toEqual([]);
    for (let k = 0; k < 3; ++k) {
      step(optimizer, value);
      await optimizer.diagnostics();
    }
    expect(codes).toEqual(["MTADAM_NON_FINITE"]);
    expect(emitted[0]).toMatch(
      /^The gradient of the term "style" for the layer "b" was not finite, or too large/,
    );
  });

  test("is warned of with lagged scales, which skip single elements", async () => {
    const optimizer = make({ scales: "lagged", betas: [0.9, 0.999, 0.99] });
    for (const value of [1, NaN, NaN]) {
      step(optimizer, value);
      await optimizer.diagnostics();
    }
    expect(codes).toEqual(["MTADAM_NON_FINITE"]);
    expect(emitted[0]).toMatch(
      /^The gradient of the term "style" for the layer "b" was not finite; its elements that cannot be used were/,
    );
  });

  test("is warned of if its gradient is too large", async () => {
    for (const unit of ["tensor", "network"] as const) {
      const optimizer = make({ unit, anchor: "style" });
      step(optimizer, 1e25);
      await optimizer.norms();
    }
    expect(codes).toEqual(["MTADAM_NON_FINITE", "MTADAM_NON_FINITE"]);
  });

  test("is warned of after `accumulate` and `stepEach`", async () => {
    const [one, other] = [make(), make()];
    one.accumulate("style", [null, buffer(NaN, 1)]);
    one.update();
    await other.stepEach({ style: () => [null, buffer(NaN, 1)] });
    for (const optimizer of [one, other]) await optimizer.diagnostics();
    expect(codes).toHaveLength(2);
  });

  test("is shown by `stateDict`, and by listeners", async () => {
    const [one, other] = [make(), make()];
    step(one, NaN);
    await one.stateDict();
    await settled(one);
    expect(codes).toHaveLength(1);
    other.onStats(() => undefined, { every: 1 });
    step(other, NaN);
    await settled(other);
    expect(codes).toHaveLength(2);
  });

  test.each(["skipTerm", "skipStep", "propagate"] as const)(
    'is not warned of where `nonFinite: "%s"` is given',
    async (nonFinite) => {
      const optimizer = make({ nonFinite });
      step(optimizer, NaN);
      await optimizer.diagnostics();
      await settled(optimizer);
      expect(emitted).toEqual([]);
    },
  );

  test("is not warned of again where its state is loaded; the next one is", async () => {
    const saved = make();
    step(saved, NaN);
    const state = await saved.stateDict();
    await settled(saved);
    expect(codes).toHaveLength(1);
    const resumed = make();
    await resumed.loadStateDict(state);
    step(resumed, 1);
    await resumed.diagnostics();
    await settled(resumed);
    expect(codes).toHaveLength(1);
    step(resumed, NaN);
    await resumed.diagnostics();
    expect(codes).toHaveLength(2);
  });
});

onCpu("nothing needs to be read", () => {
  test("for the warning, which comes after the step", async () => {
    const optimizer = make();
    step(optimizer, NaN);
    await settled(optimizer);
    expect(codes).toEqual(["MTADAM_NON_FINITE"]);
  });

  test("as long as nothing is skipped, nor after the warning", async () => {
    const read = jest.spyOn(ReadingQueue.prototype, "add");
    const optimizer = make();
    for (let k = 0; k < 100; ++k) step(optimizer, k);
    await settled(optimizer);
    expect(read).toHaveBeenCalledTimes(0);
    for (let k = 0; k < 10; ++k) {
      step(optimizer, NaN);
      await settled(optimizer);
    }
    expect(read).toHaveBeenCalledTimes(1);
  });
});

onCuda("steps do not wait", () => {
  test("for what was skipped: a reading shows it", async () => {
    const optimizer = make();
    step(optimizer, NaN);
    await settled(optimizer);
    expect(emitted).toEqual([]);
    await optimizer.norms();
    expect(codes).toEqual(["MTADAM_NON_FINITE"]);
  });
});
