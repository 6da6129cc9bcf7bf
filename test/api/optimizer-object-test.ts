/** The optimizer as an object among others: shown, turned into JSON, cloned, proxied, extended. */

import path from "node:path";
import { inspect } from "node:util";
import * as workers from "node:worker_threads";
import { BalanceMonitor, MTAdam, MTAdamError } from "../../lib";
import { caught } from "../support/caught";
import { temporaryFolder } from "../support/folder";
import { device, inBuffer, Scene } from "../support/scene";

const folder = temporaryFolder();
const scene = (): Scene => new Scene(inBuffer);

describe("shown", () => {
  test("as JSON, it has the values for a log", () => {
    const { optimizer } = scene();
    optimizer.step([null, null]);
    expect(JSON.parse(JSON.stringify({ optimizer }))).toEqual({
      optimizer: {
        device: device.kind,
        iterations: 1,
        terms: ["content", "style"],
        weights: [1, 1],
        layers: 2,
        stateDtype: "float32",
        groups: [
          {
            parameters: 2,
            lr: 0.1,
            betas: [0.9, 0.999, 0.9],
            eps: 1e-8,
            weightDecay: 0,
            decoupledWeightDecay: false,
            maximize: false,
          },
        ],
      },
    });
  });

  test("by console.log, it is the same, to the given depth", () => {
    const { optimizer } = scene();
    expect(inspect(optimizer)).toMatch(/^MTAdam \{\n {2}device: '\w+',\n {2}iterations: 0,/);
    expect(inspect([optimizer], { depth: 0 })).toBe("[ [MTAdam] ]");
    optimizer.dispose();
    expect(inspect(optimizer)).toMatch(/^MTAdam \{/);
  });

  test("changing a summary does not change the optimizer", () => {
    const { optimizer } = scene();
    optimizer.toJSON().groups[0]!.lr = 5;
    expect(optimizer.lr).toBe(0.1);
  });
});

describe("cloned", () => {
  const { markAsUncloneable } = workers as { markAsUncloneable?: unknown };
  const objects = (): [string, object][] => [
    ["optimizer", scene().optimizer],
    ["buffer", inBuffer(1)],
    ["device", device],
    ["prepared", scene().optimizer.prepare([null, null])],
  ];
  test.each(objects())("%s", (_, object) => {
    if (markAsUncloneable !== undefined) {
      expect(() => structuredClone(object)).toThrow(/[Cc]annot clone|could not be cloned/);
      return;
    }
    // Before Node 22.10, the clone is an object without methods, and no call accepts it as the original.
    const clone: unknown = structuredClone(object);
    expect(clone).not.toBeInstanceOf(MTAdam);
    expect(() => new MTAdam([clone as never], { terms: 1 })).toThrow(MTAdamError);
    expect(() => new MTAdam([inBuffer(1)], { terms: 1, device: clone as never })).toThrow(MTAdamError);
  });
});

describe("proxied", () => {
  const proxy = (): MTAdam => new Proxy(scene().optimizer, {});
  test.each<[string, (optimizer: MTAdam) => unknown]>([
    ["step", (optimizer) => optimizer.step([null, null])],
    ["stepEach", (optimizer) => optimizer.stepEach([null, null])],
    ["a getter", (optimizer) => optimizer.iterations],
    ["a setter", (optimizer) => (optimizer.lr = 0.5)],
    ["dispose", (optimizer) => optimizer.dispose()],
  ])("%s is refused with a code", async (_, call) => {
    expect(await caught(() => call(proxy()))).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: "`this` must be an MTAdam of this copy of the package, not a proxy of one; got a proxy.",
    });
  });

  test("it can be shown", () => {
    expect(inspect(proxy())).toBe("[MTAdam]");
    expect(inspect(Object.create(scene().optimizer))).toBe("[MTAdam]");
  });

  test("objects of other classes are refused with a code", async () => {
    await using monitor = new BalanceMonitor(scene().optimizer, { file: path.join(folder, "run.jsonl") });
    for (const call of [
      () => new Proxy(device, {}).buffer(1),
      () => new Proxy(device, {}).disposed,
      () => new Proxy(inBuffer(1), {}).ptr,
      () => {
        new Proxy(inBuffer(1), {}).fill(1);
      },
      () => new Proxy(inBuffer(1), {}).download(),
      () => new MTAdam([new Proxy(inBuffer(1), {})], { terms: 1 }),
      () => {
        new Proxy(scene().optimizer.prepare([null, null]), {}).zero();
      },
      () => new Proxy(monitor, {}).close(),
      () => new MTAdam([inBuffer(1)], { terms: 1, device: new Proxy(device, {}) }),
    ]) {
      expect((await caught(call)).code).toBe("ERR_MTADAM_OPTION");
    }
  });

  test("options by a proxy that was revoked are refused", async () => {
    const { proxy: options, revoke } = Proxy.revocable({ terms: 1 }, {});
    revoke();
    expect((await caught(() => new MTAdam([inBuffer(1)], options))).code).toBe("ERR_MTADAM_OPTION");
  });

  test("asynchronous methods reject", async () => {
    await expect(proxy().stateDict()).rejects.toBeInstanceOf(MTAdamError);
  });

  test("a proxy that binds methods to the optimizer works", () => {
    const { optimizer } = scene();
    const bound = new Proxy(optimizer, {
      get: (of, key) => {
        const value: unknown = Reflect.get(of, key, of);
        return typeof value === "function" ? (value.bind(of) as unknown) : value;
      },
    });
    bound.step([null, null]);
    expect(bound.iterations).toBe(1);
  });

  test("methods keep their names and numbers of arguments", () => {
    expect([MTAdam.prototype.step.name, MTAdam.prototype.step.length]).toEqual(["step", 2]);
  });
});

test("a subclass may override getters, which the class itself does not use", async () => {
  class Labelled extends MTAdam {
    override get terms(): readonly string[] {
      return [...super.terms, "total"];
    }
    override get weights(): readonly number[] {
      return [...super.weights, 1];
    }
    override set weights(_: readonly number[]) {
      throw new Error("not called");
    }
  }
  const own = (): Float32Array => Float32Array.of(1);
  const optimizer = new Labelled([own()], { terms: ["a", "b"] });
  optimizer.step([[own()], [own()]]);
  optimizer.addTerm("c");
  optimizer.step([[own()], [own()], [own()]]);
  optimizer.removeTerm("a");
  optimizer.step([[own()], [own()]]);
  expect((await optimizer.stateDict()).metadata.terms).toEqual(["b", "c"]);
});

test("a subclass works, also one that overrides methods", async () => {
  class Counting extends MTAdam {
    steps = 0;
    override step(...given: Parameters<MTAdam["step"]>): void {
      super.step(...given);
      this.steps += 1;
    }
  }
  const optimizer = new Counting([inBuffer(1)], { terms: 1 });
  optimizer.step([[inBuffer(2)]]);
  await optimizer.stepEach([() => [inBuffer(2)]]);
  expect([optimizer.steps, optimizer.iterations]).toEqual([1, 2]);
});
