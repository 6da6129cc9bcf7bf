/** Ways out of a step that is open because a backward pass has failed: discard it, load a state, or go on. */

import path from "node:path";
import { MTAdam } from "../../lib";
import { caught, codeOf } from "../support/caught";
import { testDevice } from "../support/device";
import { temporaryFolder } from "../support/folder";
import { inBuffer, Scene } from "../support/scene";

const file = path.join(temporaryFolder(), "state.safetensors");

class Model extends Scene {
  readonly g = this.gradients();

  constructor(options: ConstructorParameters<typeof Scene>[1] = {}) {
    super(inBuffer, options);
    this.optimizer.step([this.g, this.g]);
  }

  async values(): Promise<number[]> {
    return [...(await this.w.download()), ...(await this.b.download())];
  }

  /** Opens a step whose second term fails. */
  async fail(): Promise<void> {
    const failing = (): never => {
      throw new RangeError("out of data");
    };
    await expect(this.optimizer.stepEach([() => this.g, failing])).rejects.toThrow(RangeError);
  }
}

describe("discard", () => {
  test("moves no parameter and counts no iteration; the moments of the terms that came have moved", async () => {
    const model = new Model();
    const before = [await model.values(), await model.optimizer.stateDict()] as const;
    await model.fail();
    model.optimizer.discard();
    expect(await model.values()).toEqual(before[0]);
    expect(model.optimizer.iterations).toBe(1);
    const state = await model.optimizer.stateDict();
    expect(state["t"]).toEqual(BigInt64Array.of(2n, 2n, 1n, 1n));
    expect(state["m.0.0"]).not.toEqual(before[1]["m.0.0"]);
    expect(state["m.1.0"]).toEqual(before[1]["m.1.0"]);
  });

  test.each([
    {},
    { firstMoment: "summed" as const, amsgrad: true },
    { firstMoment: "summed" as const, secondMoment: "summed" as const },
    { stepScale: "mean" as const },
  ])("leaves no term in the next step, with %p", async (options) => {
    const [one, other] = [new Model(options), new Model(options)];
    one.optimizer.accumulate(0, one.g);
    one.optimizer.discard();
    // The same state, but never with an open step.
    await other.optimizer.loadStateDict(await one.optimizer.stateDict());
    for (const { optimizer, g } of [one, other]) {
      optimizer.accumulate(1, g);
      optimizer.update();
      optimizer.step([g, g]);
    }
    expect(await one.values()).toEqual(await other.values());
    expect(await one.optimizer.stateDict()).toEqual(await other.optimizer.stateDict());
  });

  test("leaves both moments and their clock as they were where they are summed", async () => {
    const { optimizer, g } = new Model({ firstMoment: "summed", secondMoment: "summed", amsgrad: true });
    const before = await optimizer.stateDict();
    optimizer.accumulate(0, g);
    optimizer.discard();
    const after = await optimizer.stateDict();
    for (const key of ["M.0", "V.0", "x.0", "T", "T.P1", "T.P2"]) expect(after[key]).toEqual(before[key]);
    expect(after["t"]).not.toEqual(before["t"]);
  });

  test("leaves the next step its length where first moments are summed, with amsgrad", async () => {
    const device = testDevice();
    const theta = device.buffer(Float32Array.of(1, 2));
    const options = { terms: ["a", "b"], firstMoment: "summed" as const, amsgrad: true, lr: 1e-3 };
    const optimizer = new MTAdam([theta], options);
    optimizer.accumulate("a", [device.buffer(Float32Array.of(1, 1))]);
    optimizer.discard();
    optimizer.step({ b: [device.buffer(Float32Array.of(1e-3, 1e-3))] });
    const [x, y] = await theta.download();
    expect(Math.max(Math.abs(x! - 1), Math.abs(y! - 2))).toBeLessThan(2e-3);
  });

  test("leaves the maximum x of a tensor alone where no term came that has it", async () => {
    const device = testDevice();
    const buffer = (...values: number[]) => device.buffer(Float32Array.from(values));
    const parameters = [buffer(1, 2), buffer(1, 2)];
    const optimizer = new MTAdam<string>(parameters, { terms: ["a"], firstMoment: "summed", amsgrad: true });
    const before = await optimizer.stateDict();
    optimizer.addTerm("b");
    optimizer.step({ b: [buffer(1, 1), buffer(2, 2)] });
    await optimizer.loadStateDict(before, { strict: false }); // x is 0 again; the term "b" keeps its moments
    optimizer.accumulate("b", [buffer(1, 1), null]);
    optimizer.discard();
    const state = await optimizer.stateDict();
    expect(state["v.1.1"]).not.toEqual(new Float32Array(2));
    expect(state["x.0"]).toEqual(state["v.1.0"]);
    expect(state["x.1"]).toEqual(new Float32Array(2));
  });

  test("does nothing where no step is open", async () => {
    const model = new Model();
    const before = [await model.values(), await model.optimizer.stateDict()];
    model.optimizer.discard();
    expect([await model.values(), await model.optimizer.stateDict()]).toEqual(before);
  });

  test("allows the calls that an open step refuses", async () => {
    const model = new Model();
    await model.fail();
    expect(await codeOf(() => model.optimizer.addTerm("new"))).toBe("ERR_MTADAM_STATE");
    model.optimizer.discard();
    model.optimizer.addTerm("new");
    model.optimizer.step([model.g, model.g, model.g]);
    expect(model.optimizer.iterations).toBe(2);
  });

  test("gives the schedule the same iterations again", async () => {
    const model = new Model();
    const asked: number[] = [];
    model.optimizer.lr = (iterations) => {
      asked.push(iterations);
      return 0.1;
    };
    await model.fail();
    model.optimizer.discard();
    model.optimizer.step([model.g, model.g]);
    expect(asked).toEqual([1, 1]);
  });

  test("is refused while stepEach runs, and after dispose", async () => {
    const { optimizer, g } = new Model();
    const step = optimizer.stepEach([() => Promise.resolve(g), null]);
    expect((await caught(() => optimizer.discard())).message).toMatch(/^`stepEach` has not settled/);
    await step;
    optimizer.dispose();
    expect(await codeOf(() => optimizer.discard())).toBe("ERR_MTADAM_DISPOSED");
  });
});

describe("loading while a step is open", () => {
  const loads: [string, (optimizer: MTAdam, from: Model) => Promise<void>][] = [
    ["loadStateDict", async (optimizer, from) => optimizer.loadStateDict(await from.optimizer.stateDict())],
    [
      "load",
      async (optimizer, from) => {
        await from.optimizer.save(file);
        await optimizer.load(file);
      },
    ],
  ];
  test.each(loads)("%s ends the step and replaces everything", async (_, load) => {
    const [model, other] = [new Model({ stepScale: "mean" }), new Model({ stepScale: "mean" })];
    const values = await model.values();
    await model.fail();
    await load(model.optimizer, other);
    expect(await model.values()).toEqual(values);
    for (const { optimizer, g } of [model, other]) optimizer.step([null, g]);
    expect(await model.values()).toEqual(await other.values());
    expect(await model.optimizer.stateDict()).toEqual(await other.optimizer.stateDict());
  });

  test("a state loaded in parts leaves no term in the next step", async () => {
    const [model, other] = [new Model(), new Model()];
    const { metadata, ...tensors } = await new Scene(inBuffer, { terms: ["style"] }).optimizer.stateDict();
    await model.fail();
    await model.optimizer.loadStateDict({ metadata, ...tensors }, { strict: false });
    other.optimizer.accumulate(0, other.g);
    other.optimizer.discard();
    await other.optimizer.loadStateDict({ metadata, ...tensors }, { strict: false });
    for (const { optimizer, g } of [model, other]) optimizer.step([null, g]);
    expect(await model.values()).toEqual(await other.values());
  });

  test("a state that does not match leaves the step open", async () => {
    const [model, other] = [new Model(), new Model()];
    await model.fail();
    const wrong = await new Scene(inBuffer, { terms: ["others"] }).optimizer.stateDict();
    expect(await codeOf(() => model.optimizer.loadStateDict(wrong))).toBe("ERR_MTADAM_CHECKPOINT");
    await model.optimizer.stepEach([null, () => model.g]);
    other.optimizer.step([other.g, other.g]);
    expect(await model.values()).toEqual(await other.values());
  });
});

test("stepEach continues after a failure with the weights of the step's beginning", async () => {
  const [model, other] = [new Model(), new Model()];
  await model.fail();
  model.optimizer.weights = [5, 5];
  const again = jest.fn(() => model.g);
  await model.optimizer.stepEach({ content: again, style: () => model.g });
  expect(again).not.toHaveBeenCalled();
  other.optimizer.step([other.g, other.g]);
  expect(await model.values()).toEqual(await other.values());
});

test("weights that a callback of stepEach sets are for later steps, also where it fails", async () => {
  const [model, other] = [new Model(), new Model()];
  const setsWeights = (): Model["g"] => {
    model.optimizer.weights = [3, 3];
    return model.g;
  };
  const fails = (): never => {
    throw new Error("no gradients");
  };
  await expect(model.optimizer.stepEach([setsWeights, fails])).rejects.toThrow("no gradients");
  await model.optimizer.stepEach([fails, () => model.g]);
  other.optimizer.step([other.g, other.g]);
  expect(await model.values()).toEqual(await other.values());
});
