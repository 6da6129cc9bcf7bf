/** A step is open from its first `accumulate` to `update()`. These tests check which calls are allowed meanwhile. */

import {
  MTAdam,
  type Gradients,
  type MTAdamOptions,
  type PreparedGradients,
  type TermCallback,
} from "../../lib";
import { caught, codeOf } from "../support/caught";
import { device, inBuffer, Scene, type Buffer32 } from "../support/scene";

const TERMS = ["content", "style", "noise"];

type Pair = [w: Buffer32, b: Buffer32];

const buffer = inBuffer;

/** Gradients of one term for w and b, different for every number. */
const gradient = (k: number): Pair => [buffer(k + 0.5, -k, 2 * k), buffer(1 - k, 3)];
const g: [Pair, Pair, Pair] = [gradient(1), gradient(-2), gradient(5)];

class Model extends Scene {
  constructor(options: Partial<MTAdamOptions> = {}) {
    super(inBuffer, { terms: TERMS, ...options });
  }

  async values(): Promise<number[]> {
    return [...(await this.w.download()), ...(await this.b.download())];
  }

  /** Parameters, state and iterations: equal for models that took the same steps. */
  async all(): Promise<unknown> {
    return [await this.values(), await this.optimizer.stateDict()];
  }
}

/** The expected result: a model that took the same steps in the plainest way. */
async function after(steps: (optimizer: MTAdam) => void, options?: Partial<MTAdamOptions>): Promise<unknown> {
  const model = new Model(options);
  steps(model.optimizer);
  return model.all();
}

/** A promise that is settled from outside. */
function deferred<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (reason: unknown) => void;
} {
  let settle: Pick<ReturnType<typeof deferred<T>>, "resolve" | "reject"> | undefined;
  const promise = new Promise<T>((resolve, reject) => (settle = { resolve, reject }));
  return { promise, ...settle! };
}

/** Calls of methods that not every build has yet. */
const call = (optimizer: MTAdam, method: string, ...args: unknown[]): unknown =>
  (optimizer as unknown as Record<string, (...args: unknown[]) => unknown>)[method]?.(...args);
const has = (method: string): boolean => method in MTAdam.prototype;

describe("an open step", () => {
  test("refuses a second accumulate of a term and says what to do", async () => {
    const model = new Model();
    model.optimizer.accumulate("style", g[1]);
    for (const term of ["style", 1]) {
      for (const gradients of [g[1], g[0], null]) {
        expect(() => model.optimizer.accumulate(term, gradients)).toThrow(
          expect.objectContaining({
            code: "ERR_MTADAM_STATE",
            message: expect.stringMatching(/"style".*addGradients.*gradientScale/) as string,
          }) as Error,
        );
      }
    }
    // The refused calls have changed nothing.
    model.optimizer.accumulate("noise", g[2]);
    model.optimizer.update();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step([null, g[1], g[2]])));
  });

  test("refuses a second accumulate of a term without gradients", async () => {
    const { optimizer } = new Model();
    optimizer.accumulate(0, null);
    expect(await codeOf(() => optimizer.accumulate(0, g[0]))).toBe("ERR_MTADAM_STATE");
  });

  const whole: [method: string, ...args: unknown[]][] = [
    ["step", g],
    ["stateDict"],
    ["save", "never-written.safetensors"],
    ["addTerm", "new"],
    ["removeTerm", "noise"],
    ["addParamGroup", { parameters: [] }],
  ];
  test.each(whole.filter(([method]) => has(method)))("refuses %s", async (method, ...args) => {
    const model = new Model();
    model.optimizer.accumulate(0, g[0]);
    const before = await model.values();
    const refused = await caught(() => call(model.optimizer, method, ...args));
    expect(refused).toMatchObject({
      code: "ERR_MTADAM_STATE",
      message: `\`${method}\` must wait for \`update()\` or \`discard()\`: a step is open.`,
    });
    expect(await model.values()).toEqual(before);
    model.optimizer.update();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step([g[0], null, null])));
  });

  test("refuses a prepared step and stays unchanged", async () => {
    const model = new Model();
    const prepared = model.optimizer.prepare([g[2], g[2], g[2]]);
    model.optimizer.accumulate(0, g[0]);
    expect(await codeOf(() => model.optimizer.step(prepared))).toBe("ERR_MTADAM_STATE");
    model.optimizer.accumulate(1, g[1]);
    model.optimizer.update();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step([g[0], g[1], null])));
  });

  test("allows norms, prepare, addGradients and the weights", async () => {
    const { optimizer } = new Model();
    optimizer.accumulate(0, g[0]);
    const norms = await optimizer.norms();
    expect([...norms].map(Number.isNaN)).toEqual([false, false, true, true, true, true]);
    optimizer.prepare(g);
    optimizer.addGradients(gradient(1), gradient(2));
    optimizer.weights = [1, 2, 3];
    optimizer.update();
    expect(optimizer.iterations).toBe(1);
  });

  test("moves the parameters at update and not before", async () => {
    const model = new Model();
    const before = await model.values();
    for (const term of TERMS.keys()) model.optimizer.accumulate(term, g[term]);
    expect(await model.values()).toEqual(before);
    expect(model.optimizer.iterations).toBe(0);
    model.optimizer.update();
    expect(await model.values()).not.toEqual(before);
    expect(model.optimizer.iterations).toBe(1);
  });

  test("is closed by update; the next step may begin with any term", async () => {
    const model = new Model();
    for (const k of [0, 1, 2]) {
      model.optimizer.accumulate("content", g[k]);
      model.optimizer.update();
    }
    const plain = await after((optimizer) => {
      for (const k of [0, 1, 2]) optimizer.step([g[k], null, null]);
    });
    expect(await model.all()).toEqual(plain);
  });

  test("lets one set of gradient buffers serve every term", async () => {
    const model = new Model();
    const shared: Pair = [buffer(0, 0, 0), buffer(0, 0)];
    for (const [term, [w, b]] of g.entries()) {
      shared[0].upload(await w.download());
      shared[1].upload(await b.download());
      model.optimizer.accumulate(term, shared);
    }
    for (const one of shared) one.fill(NaN);
    model.optimizer.update();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });

  test("stays open without the term when an accumulate is refused", async () => {
    const model = new Model();
    model.optimizer.accumulate(0, g[0]);
    expect(await codeOf(() => model.optimizer.accumulate(1, [buffer(1), null]))).toBe("ERR_MTADAM_LENGTH");
    expect(await codeOf(() => model.optimizer.accumulate(1, g[1], { gradientScale: 0 }))).toBe(
      "ERR_MTADAM_OPTION",
    );
    model.optimizer.accumulate(1, g[1]);
    model.optimizer.update();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step([g[0], g[1], null])));
  });

  test("is not opened by an accumulate that is refused", async () => {
    const model = new Model();
    expect(await codeOf(() => model.optimizer.accumulate(0, [buffer(1), null]))).toBe("ERR_MTADAM_LENGTH");
    model.optimizer.step(g);
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });
});

describe("a step without gradients", () => {
  const ways: [string, (optimizer: MTAdam) => unknown][] = [
    ["update with nothing accumulated", (optimizer) => optimizer.update()],
    ["step with nothing in it", (optimizer) => optimizer.step({ content: null })],
    ["step with terms that are absent", (optimizer) => optimizer.step([null, undefined, {}])],
    [
      "step with gradients that are absent",
      (optimizer) => optimizer.step([[null, undefined], { w: null }, null]),
    ],
    ["stepEach without callbacks", (optimizer) => optimizer.stepEach({ content: null })],
    [
      "stepEach whose callbacks give nothing",
      (optimizer) => optimizer.stepEach([() => null, () => undefined, null]),
    ],
    ["a prepared step", (optimizer) => optimizer.step(optimizer.prepare({}))],
  ];
  test.each(ways)("%s moves no parameter and counts as an iteration", async (_, way) => {
    const model = new Model({ weightDecay: 0.5, decoupledWeightDecay: true });
    model.optimizer.step(g);
    const [values, state] = [await model.values(), await model.optimizer.stateDict()];
    await way(model.optimizer);
    expect(await model.values()).toEqual(values);
    expect(model.optimizer.iterations).toBe(2);
    const metadata = { ...state.metadata, iterations: 2 };
    expect(await model.optimizer.stateDict()).toEqual({ ...state, metadata });
  });
});

describe("absent terms", () => {
  const ways: [string, (optimizer: MTAdam) => unknown][] = [
    ["null in step", (optimizer) => optimizer.step([g[0], null, g[2]])],
    ["a hole in step", (optimizer) => optimizer.step([g[0], , g[2]])], // eslint-disable-line no-sparse-arrays
    ["a key left out of step", (optimizer) => optimizer.step({ noise: g[2], content: g[0] })],
    ["gradients that are null", (optimizer) => optimizer.step([g[0], [null, null], g[2]])],
    ["gradients left out", (optimizer) => optimizer.step([g[0], {}, g[2]])],
    [
      "no accumulate",
      (optimizer) => {
        optimizer.accumulate(0, g[0]);
        optimizer.accumulate(2, g[2]);
        optimizer.update();
      },
    ],
    [
      "accumulate with null",
      (optimizer) => {
        optimizer.accumulate(0, g[0]);
        optimizer.accumulate(1, null);
        optimizer.accumulate("noise", { b: g[2][1], w: g[2][0] });
        optimizer.update();
      },
    ],
    ["no callback", (optimizer) => optimizer.stepEach({ noise: () => g[2], content: () => g[0] })],
    [
      "a callback that gives null",
      (optimizer) => optimizer.stepEach([() => g[0], () => null, async () => g[2]]),
    ],
  ];
  test.each(ways)("%s", async (_, way) => {
    const model = new Model();
    model.optimizer.step(g);
    await way(model.optimizer);
    const plain = await after((optimizer) => {
      optimizer.step(g);
      optimizer.step([g[0], null, g[2]]);
    });
    expect(await model.all()).toEqual(plain);
    expect(model.optimizer.iterations).toBe(2);
  });

  test("step does not reuse the gradients of the step before", async () => {
    const model = new Model();
    model.optimizer.step(g);
    model.optimizer.step([null, { b: g[1][1] }, null]);
    const { t } = await model.optimizer.stateDict();
    expect(t).toEqual(BigInt64Array.of(1n, 1n, 1n, 2n, 1n, 1n));
  });
});

describe("stepEach", () => {
  test("calls in the order of terms, one after the other", async () => {
    const model = new Model();
    const order: string[] = [];
    const callback =
      (name: string, k: 0 | 1 | 2): TermCallback =>
      async () => {
        order.push(`${name} begins`);
        await new Promise(setImmediate);
        order.push(`${name} ends`);
        return g[k];
      };
    await model.optimizer.stepEach({
      noise: callback("noise", 2),
      style: callback("style", 1),
      content: callback("content", 0),
    });
    expect(order).toEqual(TERMS.flatMap((name) => [`${name} begins`, `${name} ends`]));
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });

  test("accepts gradients, promises and thenables", async () => {
    const model = new Model();
    const thenable = { then: (resolve: (value: Pair) => void) => resolve(g[2]) };
    await model.optimizer.stepEach([
      () => g[0],
      () => Promise.resolve(g[1]),
      () => thenable as PromiseLike<Pair>,
    ]);
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });

  test("uses each term's gradients before it calls the next", async () => {
    const model = new Model();
    const shared: Pair = [buffer(0, 0, 0), buffer(0, 0)];
    const values = await Promise.all(g.map((pair) => Promise.all(pair.map((one) => one.download()))));
    await model.optimizer.stepEach(
      values.map(([w, b]) => () => {
        shared[0].upload(w!);
        shared[1].upload(b!);
        return shared;
      }),
    );
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });

  test("continues an open step with the terms that have not come", async () => {
    const model = new Model();
    model.optimizer.accumulate("content", g[0]);
    const called = jest.fn(() => g[0]);
    await model.optimizer.stepEach([called, () => g[1], () => g[2]]);
    expect(called).not.toHaveBeenCalled();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });

  test("checks callbacks and options before it calls any callback", async () => {
    const model = new Model();
    const called = jest.fn(() => g[0]);
    const wrong: (() => Promise<void>)[] = [
      () => model.optimizer.stepEach([called, "style" as never, null]),
      () => model.optimizer.stepEach({ content: called, nobody: called }),
      () => model.optimizer.stepEach([called]),
      () => model.optimizer.stepEach({ content: called }, { gradientScale: 0 }),
      () => model.optimizer.stepEach({ content: called }, { weights: [1] }),
      () => model.optimizer.stepEach({ content: called }, { nothing: 1 } as object),
    ];
    for (const one of wrong) expect(await codeOf(one)).toMatch(/^ERR_MTADAM_(OPTION|TERM|LENGTH)$/);
    expect(called).not.toHaveBeenCalled();
    model.optimizer.step(g);
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });

  const failures: [string, TermCallback][] = [
    ["throws", () => { throw new RangeError("out of data"); }], // prettier-ignore
    ["rejects", () => Promise.reject(new RangeError("out of data"))],
    ["gives a thenable that rejects", () => ({ then: (_: unknown, no: (e: Error) => void) => no(new RangeError("out of data")) }) as never], // prettier-ignore
  ];
  test.each(failures)(
    "a callback that %s leaves the step open, and it can be continued",
    async (_, failing) => {
      const model = new Model();
      const never = jest.fn(() => g[2]);
      await expect(model.optimizer.stepEach([() => g[0], failing, never])).rejects.toThrow(RangeError);
      expect(never).not.toHaveBeenCalled();
      expect(model.optimizer.iterations).toBe(0);
      expect(await codeOf(() => model.optimizer.step(g))).toBe("ERR_MTADAM_STATE");
      expect(await codeOf(() => model.optimizer.accumulate(0, g[0]))).toBe("ERR_MTADAM_STATE");
      const again = jest.fn(() => g[0]);
      await model.optimizer.stepEach([again, () => g[1], () => g[2]]);
      expect(again).not.toHaveBeenCalled();
      expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
    },
  );

  test("refused gradients leave the step open", async () => {
    const model = new Model();
    expect(await codeOf(() => model.optimizer.stepEach([() => g[0], () => [buffer(1), null], null]))).toBe(
      "ERR_MTADAM_LENGTH",
    );
    model.optimizer.update();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step([g[0], null, null])));
  });

  test("a rejection before the first term leaves no step open", async () => {
    const model = new Model();
    await expect(
      model.optimizer.stepEach([() => Promise.reject(new RangeError()), null, null]),
    ).rejects.toThrow();
    model.optimizer.step(g);
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });
});

describe("until stepEach has settled", () => {
  const others: [method: string, ...args: unknown[]][] = [
    ["step", g],
    ["accumulate", 2, g[2]],
    ["update"],
    ["stepEach", {}],
    ["prepare", g],
    ["addGradients", g[0], g[1]],
    ["norms"],
    ["stateDict"],
    ["loadStateDict", {}],
    ["diagnostics"],
    ["save", "never-written.safetensors"],
    ["load", "never-read.safetensors"],
    ["addTerm", "new"],
    ["removeTerm", "noise"],
    ["addParamGroup", { parameters: [] }],
  ];
  test.each(others.filter(([method]) => has(method)))("%s is refused", async (method, ...args) => {
    const model = new Model();
    const waiting = deferred<Pair>();
    const inside: string[] = [];
    const attempt = (): Promise<string> => codeOf(() => call(model.optimizer, method, ...args));
    const step = model.optimizer.stepEach({
      content: async () => {
        inside.push(await attempt());
        return g[0];
      },
      style: () => waiting.promise,
    });
    const atOnce = await attempt();
    await new Promise(setImmediate);
    const later = await attempt();
    waiting.resolve(g[1]);
    await step;
    expect([...inside, atOnce, later]).toEqual(new Array(3).fill("ERR_MTADAM_BUSY"));
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step([g[0], g[1], null])));
  });

  test("a second stepEach is refused and calls no callback", async () => {
    const { optimizer } = new Model();
    const called = jest.fn(() => g[0]);
    const first = optimizer.stepEach({ content: () => Promise.resolve(g[0]) });
    expect(await codeOf(() => optimizer.stepEach({ style: called }))).toBe("ERR_MTADAM_BUSY");
    await first;
    expect(called).not.toHaveBeenCalled();
  });

  test("the message names stepEach", () => {
    const { optimizer } = new Model();
    const step = optimizer.stepEach({ content: () => Promise.resolve(g[0]) });
    expect(() => optimizer.update()).toThrow(/`stepEach` has not settled/);
    return step;
  });

  test("after a rejection other calls are allowed again", async () => {
    const model = new Model();
    const waiting = deferred<Pair>();
    const step = model.optimizer.stepEach([() => g[0], () => waiting.promise, null]);
    await new Promise(setImmediate);
    expect(await codeOf(() => model.optimizer.update())).toBe("ERR_MTADAM_BUSY");
    waiting.reject(new RangeError());
    await expect(step).rejects.toThrow(RangeError);
    model.optimizer.update();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step([g[0], null, null])));
  });

  test("disposing of the optimizer makes it reject", async () => {
    const model = new Model();
    const waiting = deferred<Pair>();
    const step = model.optimizer.stepEach([() => g[0], () => waiting.promise, null]);
    await new Promise(setImmediate);
    model.optimizer.dispose();
    waiting.resolve(g[1]);
    await expect(step).rejects.toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
  });
});

describe("the options of a step", () => {
  test("are read at its first accumulate", async () => {
    const model = new Model({ lr: 0.1, weightDecay: 0.01 });
    const { optimizer } = model;
    optimizer.accumulate(0, g[0]);
    const group = optimizer.paramGroups[0]!;
    Object.assign(group, {
      lr: 5,
      betas: [0.1, 0.2, 0.3],
      eps: 1,
      weightDecay: 3,
      decoupledWeightDecay: true,
      maximize: true,
    });
    optimizer.accumulate(1, g[1]);
    optimizer.accumulate(2, g[2]);
    optimizer.update();
    const plain = new Model({ lr: 0.1, weightDecay: 0.01 });
    plain.optimizer.step(g);
    expect(await model.values()).toEqual(await plain.values());

    // The new options hold from the next step on.
    Object.assign(plain.optimizer.paramGroups[0]!, group);
    for (const { optimizer } of [model, plain]) optimizer.step(g);
    expect(await model.all()).toEqual(await plain.all());
  });

  test("include the weights", async () => {
    const model = new Model();
    model.optimizer.accumulate(0, g[0]);
    model.optimizer.weights = [3, 4, 5];
    model.optimizer.accumulate(1, g[1]);
    model.optimizer.update();
    const plain = new Model();
    plain.optimizer.step([g[0], g[1], null]);
    expect(await model.values()).toEqual(await plain.values());
  });

  test("out of range are refused at the next step, not in the open one", async () => {
    const model = new Model();
    const group = model.optimizer.paramGroups[0]!;
    model.optimizer.accumulate(0, g[0]);
    group.eps = -1;
    model.optimizer.accumulate(1, g[1]);
    model.optimizer.update();
    for (const one of [() => model.optimizer.step(g), () => model.optimizer.accumulate(0, g[0])]) {
      expect(await codeOf(one)).toBe("ERR_MTADAM_OPTION");
    }
    group.eps = 1e-8;
    model.optimizer.step(g);
    const plain = await after((optimizer) => {
      optimizer.step([g[0], g[1], null]);
      optimizer.step(g);
    });
    expect(await model.all()).toEqual(plain);
  });

  test.each<[string, Partial<MTAdamOptions>]>([
    ["lr", { lr: 0.3 }],
    ["betas", { betas: [0.5, 0.6, 0.7] }],
    ["eps", { eps: 0.5 }],
    ["weightDecay", { weightDecay: 0.2 }],
    ["decoupledWeightDecay", { weightDecay: 0.2, decoupledWeightDecay: true }],
    ["maximize", { maximize: true }],
  ])("%s set through paramGroups is as if given from the start", async (_, options) => {
    const model = new Model();
    Object.assign(model.optimizer.paramGroups[0]!, options);
    model.optimizer.step(g);
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g), options));
    expect(await model.all()).not.toEqual(await after((optimizer) => optimizer.step(g)));
  });

  test("a beta changed in place takes effect", async () => {
    const model = new Model();
    model.optimizer.paramGroups[0]!.betas[0] = 0.5;
    model.optimizer.step(g);
    const betas = [0.5, 0.999, 0.9] as const;
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g), { betas }));
  });

  test("the betas given are copied", async () => {
    const betas: [number, number, number] = [0.9, 0.999, 0.9];
    const model = new Model({ betas });
    betas[0] = 0;
    model.optimizer.step(g);
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });
});

describe("a learning rate that is a function", () => {
  test("gets the number of completed steps, once per step", async () => {
    const seen: number[] = [];
    const model = new Model({ lr: (iterations) => (seen.push(iterations), 0.1 / (1 + iterations)) });
    const { optimizer } = model;
    optimizer.step(g);
    optimizer.accumulate(0, g[0]);
    optimizer.accumulate(1, g[1]);
    optimizer.update();
    await optimizer.stepEach([() => g[0], () => g[1], () => g[2]]);
    optimizer.step(optimizer.prepare(g));
    expect(seen).toEqual([0, 1, 2, 3]);
    const plain = await after((other) => {
      const batches: Gradients[] = [g, [g[0], g[1], null], g, g];
      for (const [k, gradients] of batches.entries()) {
        other.lr = 0.1 / (1 + k);
        other.step(gradients);
      }
    });
    expect(await model.values()).toEqual((plain as unknown[])[0]);
  });

  test("counts the steps in which nothing was accumulated", () => {
    const seen: number[] = [];
    const { optimizer } = new Model({ lr: (iterations) => (seen.push(iterations), 0.1) });
    optimizer.update();
    optimizer.step([null, null, null]);
    optimizer.step(g);
    expect(seen.at(-1)).toBe(2);
  });

  test("is checked again after a refused step", async () => {
    const seen: number[] = [];
    const { optimizer } = new Model({ lr: (iterations) => (seen.push(iterations), 0.1) });
    optimizer.step(g);
    expect(await codeOf(() => optimizer.step([[buffer(1), null], null, null]))).toBe("ERR_MTADAM_LENGTH");
    optimizer.step(g);
    expect(new Set(seen)).toEqual(new Set([0, 1]));
    expect(seen.at(-1)).toBe(1);
  });

  test("may be one per group, and set for all", async () => {
    const seen: string[] = [];
    const parameters = [
      { parameters: [buffer(1)], lr: (k: number) => (seen.push(`a${k}`), 1) },
      { parameters: [buffer(1)] },
    ];
    const optimizer = new MTAdam(parameters, { terms: 1, lr: (k) => (seen.push(`b${k}`), 1) });
    const gradients = [[buffer(1), buffer(1)]];
    optimizer.step(gradients);
    optimizer.lr = (k) => (seen.push(`c${k}`), 1);
    optimizer.step(gradients);
    expect(seen).toEqual(["a0", "b0", "c1", "c1"]);
  });

  test("that throws changes nothing, and the user gets the error", async () => {
    const model = new Model();
    model.optimizer.step(g);
    const before = await model.all();
    model.optimizer.lr = () => {
      throw new RangeError("no more epochs");
    };
    expect(() => model.optimizer.step(g)).toThrow(new RangeError("no more epochs"));
    expect(() => model.optimizer.accumulate(0, g[0])).toThrow(new RangeError("no more epochs"));
    model.optimizer.lr = 0.1;
    expect(await model.all()).toEqual(before);
  });
});

describe("weights and gradientScale of one call", () => {
  // Powers of two, so that scaling by hand rounds nothing.
  const scaled = (pair: Pair, factor: number): Promise<Pair> =>
    Promise.all(
      pair.map(async (one) => device.buffer((await one.download()).map((value) => value * factor))),
    ) as unknown as Promise<Pair>;

  test("weights apply to that step only", async () => {
    const model = new Model();
    model.optimizer.step(g, { weights: [2, 0, 1] });
    model.optimizer.step(g);
    expect(model.optimizer.weights).toEqual([1, 1, 1]);
    const plain = await after((optimizer) => {
      optimizer.weights = [2, 0, 1];
      optimizer.step(g);
      optimizer.weights = [1, 1, 1];
      optimizer.step(g);
    });
    expect(await model.all()).toEqual(plain);
  });

  test("weights by name leave the other terms' weights unchanged", async () => {
    const model = new Model({ weights: [1, 2, 3] });
    model.optimizer.step(g, { weights: { style: 0.5 } });
    const plain = await after((optimizer) => {
      optimizer.weights = [1, 0.5, 3];
      optimizer.step(g);
      optimizer.weights = [1, 2, 3];
    });
    expect(await model.all()).toEqual(plain);
  });

  test("in accumulate, only the entry of its term counts", async () => {
    const model = new Model();
    model.optimizer.accumulate(0, g[0], { weights: [2, 7, 7] });
    model.optimizer.accumulate(1, g[1], { weights: { content: 7, noise: 7 } });
    model.optimizer.accumulate(2, g[2], { weights: { noise: 0.5 } });
    model.optimizer.update();
    model.optimizer.step(g);
    const plain = await after((optimizer) => {
      optimizer.step(g, { weights: [2, 1, 0.5] });
      optimizer.step(g);
    });
    expect(await model.all()).toEqual(plain);
  });

  test("in stepEach, weights apply to all terms", async () => {
    const model = new Model();
    await model.optimizer.stepEach([() => g[0], () => g[1], () => g[2]], { weights: [2, 1, 0.5] });
    model.optimizer.step(g);
    const plain = await after((optimizer) => {
      optimizer.step(g, { weights: [2, 1, 0.5] });
      optimizer.step(g);
    });
    expect(await model.all()).toEqual(plain);
  });

  test("gradientScale is divided out in that step only", async () => {
    const model = new Model();
    const large: Gradients = await Promise.all(g.map((pair) => scaled(pair, 1024)));
    model.optimizer.step(large, { gradientScale: 1024 });
    model.optimizer.step(g);
    const plain = await after((optimizer) => {
      optimizer.step(g);
      optimizer.step(g);
    });
    expect(await model.all()).toEqual(plain);
  });

  test("in accumulate, gradientScale is that of its term", async () => {
    const model = new Model();
    model.optimizer.accumulate(0, g[0]);
    model.optimizer.accumulate(1, await scaled(g[1], 0.25), { gradientScale: 0.25 });
    model.optimizer.accumulate(2, await scaled(g[2], 64), { gradientScale: 64 });
    model.optimizer.update();
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });
});

describe("the weights", () => {
  test("are 1, and are replaced as a whole or by name", () => {
    const { optimizer } = new Model();
    expect(optimizer.weights).toEqual([1, 1, 1]);
    optimizer.weights = [1, 2, 3];
    expect(optimizer.weights).toEqual([1, 2, 3]);
    optimizer.weights = { noise: 0, content: 0.5 };
    expect(optimizer.weights).toEqual([0.5, 2, 0]);
  });

  test("cannot be changed without the optimizer", () => {
    const given = [1, 2, 3];
    const { optimizer } = new Model({ weights: given });
    given[0] = -1;
    expect(() => {
      (optimizer.weights as number[])[1] = -1;
    }).toThrow(TypeError);
    expect(optimizer.weights).toEqual([1, 2, 3]);
  });

  test("apply from the next step on", async () => {
    const model = new Model();
    model.optimizer.step(g);
    model.optimizer.weights = [1, 0, 2];
    model.optimizer.step(g);
    const plain = await after((optimizer) => {
      optimizer.step(g);
      optimizer.step(g, { weights: [1, 0, 2] });
      optimizer.weights = [1, 0, 2];
    });
    expect(await model.all()).toEqual(plain);
  });
});

describe("prepared gradients", () => {
  const copies = (): Promise<[Pair, Pair, Pair]> =>
    Promise.all(
      g.map((pair) => Promise.all(pair.map(async (one) => device.buffer(await one.download())))),
    ) as unknown as Promise<[Pair, Pair, Pair]>;

  test("give the same step as plain gradients, repeatedly", async () => {
    const model = new Model();
    const prepared = model.optimizer.prepare(g);
    for (let k = 0; k < 3; ++k) model.optimizer.step(prepared);
    const plain = await after((optimizer) => {
      for (let k = 0; k < 3; ++k) optimizer.step(g);
    });
    expect(await model.all()).toEqual(plain);
  });

  test("are read when the step is taken", async () => {
    const model = new Model();
    const own = await copies();
    const prepared = model.optimizer.prepare(own);
    own[0][0].fill(3);
    model.optimizer.step(prepared);
    const [, b] = g[0];
    expect(await model.all()).toEqual(
      await after((optimizer) => optimizer.step([[buffer(3, 3, 3), b], g[1], g[2]])),
    );
  });

  test("set replaces one, by index or name; null makes it absent", async () => {
    const model = new Model();
    const prepared = model.optimizer.prepare({ content: g[0], style: g[1] });
    prepared.set("content", "b", null);
    prepared.set(1, 0, g[2][0]);
    prepared.set("noise", 1, g[2][1]);
    model.optimizer.step(prepared);
    const plain = await after((optimizer) =>
      optimizer.step([{ w: g[0][0] }, [g[2][0], g[1][1]], { b: g[2][1] }]),
    );
    expect(await model.all()).toEqual(plain);
  });

  test("a refused set leaves the old gradient", async () => {
    const model = new Model();
    const prepared = model.optimizer.prepare(g);
    expect(await codeOf(() => prepared.set(0, "w", buffer(1)))).toBe("ERR_MTADAM_LENGTH");
    expect(await codeOf(() => prepared.set(0, "w", model.w))).toBe("ERR_MTADAM_INVALID_POINTER");
    model.optimizer.step(prepared);
    expect(await model.all()).toEqual(await after((optimizer) => optimizer.step(g)));
  });

  test("zero sets every gradient to 0, shared ones and those of every term", async () => {
    const { optimizer } = new Model();
    const own = await copies();
    const prepared = optimizer.prepare([own[0], own[0], { b: own[2][1] }]);
    prepared.zero();
    const values = await Promise.all([...own[0], own[2][1]].map((one) => one.download()));
    expect(values.every((list) => list.every((value) => value === 0))).toBe(true);
    // The other gradients stay.
    expect(await own[2][0].download()).toEqual(await g[2][0].download());
  });

  test("several sets and plain steps do not affect each other", async () => {
    const model = new Model();
    const { optimizer } = model;
    const [one, other] = [optimizer.prepare([g[0], g[1], null]), optimizer.prepare([null, null, g[2]])];
    optimizer.step(one);
    optimizer.step([g[2], null, null]);
    optimizer.step(other);
    optimizer.accumulate(1, g[1]);
    optimizer.update();
    optimizer.step(one);
    const plain = await after((optimizer) => {
      optimizer.step([g[0], g[1], null]);
      optimizer.step([g[2], null, null]);
      optimizer.step([null, null, g[2]]);
      optimizer.step([null, g[1], null]);
      optimizer.step([g[0], g[1], null]);
    });
    expect(await model.all()).toEqual(plain);
  });

  test("of another optimizer are refused", async () => {
    const [model, other] = [new Model(), new Model()];
    const prepared = other.optimizer.prepare(g);
    const before = await model.all();
    expect(await codeOf(() => model.optimizer.step(prepared))).toBe("ERR_MTADAM_OPTION");
    // Nor are they a term's gradients, or another's container.
    expect(await codeOf(() => model.optimizer.accumulate(0, prepared as never))).not.toBe("none");
    expect(await codeOf(() => model.optimizer.prepare(prepared as never))).not.toBe("none");
    expect(await model.all()).toEqual(before);
  });

  test("take weights and gradientScale with the call", async () => {
    const model = new Model();
    model.optimizer.step(model.optimizer.prepare(g), { weights: [1, 2, 0], gradientScale: 2 });
    expect(await model.all()).toEqual(
      await after((optimizer) => optimizer.step(g, { weights: [1, 2, 0], gradientScale: 2 })),
    );
  });

  test("cannot be used after their optimizer is disposed of", async () => {
    const { optimizer } = new Model();
    const prepared: PreparedGradients = optimizer.prepare(g);
    optimizer.dispose();
    expect(await codeOf(() => prepared.set(0, 0, g[1][0]))).toBe("ERR_MTADAM_DISPOSED");
  });
});

describe("addGradients", () => {
  test("adds in place, in order or by name", async () => {
    const { optimizer } = new Model();
    const target: Pair = [buffer(1, 2, 3), buffer(4, 5)];
    optimizer.addGradients(target, [buffer(10, 20, 30), buffer(0.5, -5)]);
    optimizer.addGradients({ b: target[1] }, { b: buffer(1, 1) });
    optimizer.addGradients(target, { w: buffer(0, 0, 1), b: null });
    expect([...(await target[0].download())]).toEqual([11, 22, 34]);
    expect([...(await target[1].download())]).toEqual([5.5, 1]);
  });

  test("adds nothing where the source is absent", async () => {
    const { optimizer } = new Model();
    const target: Pair = [buffer(1, 2, 3), buffer(4, 5)];
    for (const source of [null, undefined, {}, [null, null], [undefined, undefined]]) {
      optimizer.addGradients(target, source);
    }
    optimizer.addGradients(null, null);
    expect([...(await target[0].download()), ...(await target[1].download())]).toEqual([1, 2, 3, 4, 5]);
  });

  test("changes nothing when a later pair is refused", async () => {
    const { optimizer } = new Model();
    const target: Pair = [buffer(1, 2, 3), buffer(4, 5)];
    const source = [buffer(1, 1, 1), buffer(1)];
    expect(await codeOf(() => optimizer.addGradients(target, source))).toBe("ERR_MTADAM_LENGTH");
    expect([...(await target[0].download())]).toEqual([1, 2, 3]);
  });
});
