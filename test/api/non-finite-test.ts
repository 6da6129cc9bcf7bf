import path from "node:path";
import { MTAdam, MTAdamError, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { testDevice } from "../support/device";
import { temporaryFolder } from "../support/folder";

const device = testDevice();
const TERMS = ["content", "style"];
const NOT_FINITE = [NaN, Infinity, -Infinity];

type Buffer32 = DeviceBuffer<"float32">;
const buffer = (...values: number[]): Buffer32 => device.buffer(Float32Array.from(values));

/** Two layers, w and b, and two terms. */
class Model {
  readonly w: Buffer32;
  readonly b: Buffer32;
  readonly optimizer: MTAdam;

  constructor(options: Partial<MTAdamOptions> = {}, { w, b } = { w: [1, 2, 3], b: [4, 5] }) {
    this.w = buffer(...w);
    this.b = buffer(...b);
    const parameters = [
      { name: "w", data: this.w },
      { name: "b", data: this.b },
    ];
    this.optimizer = new MTAdam(parameters, { terms: TERMS, lr: 0.1, ...options });
  }

  /** A step in which the first element of style's gradient for b is `value`. */
  step(value: number): void {
    this.optimizer.step({
      content: [buffer(1, -2, 3), buffer(0.5, 1)],
      style: [buffer(4, 5, 6), buffer(value, 2)],
    });
  }

  async values(): Promise<{ w: number[]; b: number[] }> {
    return { w: [...(await this.w.download())], b: [...(await this.b.download())] };
  }

  /** Parameters and state without the counters of iterations and skipped gradients. */
  async all(): Promise<unknown> {
    const { metadata, skipped, ...tensors } = await this.optimizer.stateDict();
    expect(skipped).toBeInstanceOf(BigInt64Array);
    return [await this.values(), { ...metadata, iterations: 0 }, tensors];
  }
}

describe("by default", () => {
  test.each(NOT_FINITE)("%d makes its term absent in that layer for that step", async (value) => {
    const model = new Model();
    model.step(value);
    const expected = new Model();
    expected.optimizer.step({ content: [buffer(1, -2, 3), buffer(0.5, 1)], style: [buffer(4, 5, 6), null] });
    expect(await model.all()).toEqual(await expected.all());
  });
});

describe('with nonFinite: "skipStep"', () => {
  const options: Partial<MTAdamOptions>[] = [
    {},
    { amsgrad: true },
    { firstMoment: "summed" },
    { firstMoment: "summed", secondMoment: "summed" },
  ];
  const skipStep = { nonFinite: "skipStep" } as const;

  test.each(options)("nothing moves anywhere, with %j", async (others) => {
    for (const value of NOT_FINITE) {
      const model = new Model({ ...skipStep, ...others });
      const before = await model.all();
      model.step(value);
      expect(await model.all()).toEqual(before);
      model.step(1);
      const expected = new Model({ ...skipStep, ...others });
      expected.step(1);
      expect(await model.all()).toEqual(await expected.all());
      model.step(value);
      model.step(value);
      expect(await model.all()).toEqual(await expected.all());
      model.step(-3);
      expected.step(-3);
      expect(await model.all()).toEqual(await expected.all());
    }
  });

  test("a skipped step counts as an iteration", () => {
    const model = new Model(skipStep);
    model.step(NaN);
    expect(model.optimizer.iterations).toBe(1);
  });

  test("a schedule counts a skipped step", () => {
    const seen: number[] = [];
    const lr = (iterations: number): number => {
      seen.push(iterations);
      return 0.1;
    };
    const model = new Model({ ...skipStep, lr });
    for (const value of [1, NaN, 1]) model.step(value);
    expect(seen).toEqual([0, 1, 2]);
  });

  test("prepared gradients are skipped as well", async () => {
    const model = new Model(skipStep);
    const before = await model.all();
    model.optimizer.step(model.optimizer.prepare([[buffer(1, 1, NaN), null], null]));
    expect(await model.all()).toEqual(before);
  });

  test("with finite gradients only, a step is unchanged", async () => {
    const [model, plain] = [new Model(skipStep), new Model()];
    for (const value of [1, -2, 0.5]) {
      model.step(value);
      plain.step(value);
    }
    expect(await model.values()).toEqual(await plain.values());
  });

  test("an update alone moves nothing, also after a skipped step", async () => {
    const model = new Model(skipStep);
    model.step(1);
    model.step(NaN);
    const before = await model.all();
    model.optimizer.update();
    expect(await model.all()).toEqual(before);
    expect(model.optimizer.iterations).toBe(3);
  });

  test("terms one at a time are refused, and no step opens", async () => {
    const model = new Model(skipStep);
    const message = /^`nonFinite` must not be "skipStep" for `(accumulate|stepEach)`/;
    expect(() => {
      model.optimizer.accumulate("content", [buffer(1, 1, 1), null]);
    }).toThrow(message);
    const called = jest.fn();
    const rejected = model.optimizer.stepEach({ content: called }).catch((error: unknown) => error);
    await expect(rejected).resolves.toBeInstanceOf(MTAdamError);
    await expect(rejected).resolves.toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: expect.stringMatching(message) as string,
    });
    expect(called).not.toHaveBeenCalled();
    model.step(1);
    expect(model.optimizer.iterations).toBe(1);
  });
});

describe('with nonFinite: "propagate"', () => {
  test.each(NOT_FINITE)("%d propagates through the arithmetic of its layer", async (value) => {
    const model = new Model({ nonFinite: "propagate" });
    model.step(value);
    const { w, b } = await model.values();
    expect(b[0]).toBe(NaN);
    expect(w.every(Number.isFinite)).toBe(true);
    const norms = await model.optimizer.norms();
    expect(norms[TERMS.indexOf("style") * 2 + 1]).toBe(Math.abs(value));
    const clocks = (await model.optimizer.stateDict())["t"] as BigInt64Array;
    expect([...clocks]).toEqual([1n, 1n, 1n, 1n]);
  });
});

describe('a state of a training with nonFinite: "propagate"', () => {
  const file = path.join(temporaryFolder(), "state.safetensors");
  const forms: Partial<MTAdamOptions>[] = [
    {},
    { amsgrad: true },
    { firstMoment: "summed" },
    { firstMoment: "summed", secondMoment: "summed" },
    { anchor: "max" },
  ];

  test.each(forms)("continues with the bits of an uninterrupted run, with %j", async (form) => {
    for (const value of NOT_FINITE) {
      const options = { ...form, nonFinite: "propagate" } as const;
      const through = new Model(options);
      const first = new Model(options);
      for (const model of [through, first]) for (const each of [1, value, 2]) model.step(each);
      const { n } = await first.optimizer.stateDict();
      expect((n as Float64Array).every(Number.isFinite)).toBe(false);
      await first.optimizer.save(file);
      for (const load of [
        async (model: Model) => model.optimizer.load(file),
        async (model: Model) => model.optimizer.loadStateDict(await first.optimizer.stateDict()),
      ]) {
        const resumed = new Model(options, await first.values());
        await load(resumed);
        expect(await resumed.all()).toEqual(await first.all());
        for (const each of [3, -1]) resumed.step(each);
        const expected = new Model(options);
        for (const each of [1, value, 2, 3, -1]) expected.step(each);
        expect(await resumed.all()).toEqual(await expected.all());
      }
    }
  });

  test.each(["skipTerm", "skipStep"] as const)(
    "is refused where it is %s, which says so",
    async (nonFinite) => {
      const saved = new Model({ nonFinite: "propagate" });
      for (const value of [1, NaN]) saved.step(value);
      const model = new Model({ nonFinite });
      const before = await model.all();
      const refused = {
        code: "ERR_MTADAM_CHECKPOINT",
        message:
          'The state must have finite norms unless the optimizer has `nonFinite: "propagate"`; got NaN.',
      };
      const state = await saved.optimizer.stateDict();
      await expect(model.optimizer.loadStateDict(state)).rejects.toMatchObject(refused);
      await saved.optimizer.save(file);
      await expect(model.optimizer.load(file)).rejects.toMatchObject(refused);
      expect(await model.all()).toEqual(before);
    },
  );

  test("is still refused with a norm below 0", async () => {
    const model = new Model({ nonFinite: "propagate" });
    for (const norm of [-1, -Infinity]) {
      const state = await model.optimizer.stateDict();
      (state["n"] as Float64Array)[0] = norm;
      await expect(model.optimizer.loadStateDict(state)).rejects.toMatchObject({
        code: "ERR_MTADAM_CHECKPOINT",
      });
    }
  });
});
