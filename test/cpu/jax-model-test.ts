import * as jax from "@jax-js/jax";
import { lax, numpy as np } from "@jax-js/jax";
import { MTAdam } from "../../lib";
import { openJax } from "../../lib/jax";
import { caught } from "../support/caught";
import { runScript } from "../support/process";

beforeAll(async () => {
  expect(await jax.init("wasm")).toContain("wasm");
  jax.defaultDevice("wasm");
});

/** An array of numbers that are the same in every run. */
function array(shape: number[], phase: number): np.Array {
  const length = shape.reduce((product, size) => product * size, 1);
  return np.array(Float32Array.from({ length }, (_, k) => Math.sin(k + phase))).reshape(shape);
}

interface Layer {
  w: np.Array;
  b: np.Array;
}
interface Network {
  hidden: Layer;
  heads: Layer[];
}

const apply = ({ w, b }: Layer, x: np.Array): np.Array => np.matmul(x, w).add(b);
const network = (): Network => ({
  hidden: { w: array([10, 4], 0), b: array([4], 1) },
  heads: [
    { w: array([4, 3], 2), b: array([3], 3) },
    { w: array([4, 1], 4), b: array([1], 5) },
  ],
});
const head = (k: number) => (parameters: Network, x: np.Array, y: np.Array) => {
  const output = apply(parameters.heads[k]!, np.tanh(apply(parameters.hidden, x)));
  return np.mean(np.square(output.sub(y)));
};
const losses = { digits: head(0), score: head(1) };
const NAMES = ["hidden.w", "hidden.b", "heads.0.w", "heads.0.b", "heads.1.w", "heads.1.b"];

const bits = (values: Float32Array): number[] => [...new Uint32Array(values.slice().buffer)];

test("a term may be named __proto__", async () => {
  const losses = Object.fromEntries([["__proto__", (tree: { w: np.Array }) => np.sum(np.square(tree.w))]]);
  const model = await openJax(jax, { w: np.array([1, 1]) }, losses);
  const optimizer = new MTAdam(model.parameters, { terms: model.terms, lr: 0.1 });
  optimizer.step(await model.gradients());
  expect(model.parameters[0]!.data[0]).toBeLessThan(1);
  model.close();
});

describe.each(["step", "stepEach"] as const)("%s", (way) => {
  test("has the bits of MTAdam on the gradients of jax.grad", async () => {
    const [x, y] = [array([32, 10], 6), array([32, 3], 7)];
    const model = await openJax(jax, network(), losses);
    expect(model.parameters.map(({ name }) => name)).toEqual(NAMES);
    expect(model.terms).toEqual(["digits", "score"]);
    const options = { terms: model.terms, lr: 0.01 };
    const optimizer = new MTAdam(model.parameters, options);
    const copies = model.parameters.map((parameter) => ({ ...parameter, data: parameter.data.slice() }));
    const plain = new MTAdam(copies, options);
    for (let step = 0; step < 5; ++step) {
      const gradients = Object.values(losses).map((loss) => {
        const gradient = jax.jit(jax.grad(loss))(model.tree, x.ref, y.ref);
        return jax.tree
          .leaves(gradient as never)
          .map((leaf) => (leaf as np.Array).dataSync() as Float32Array);
      });
      plain.step([
        [...gradients[0]!.slice(0, 4), null, null],
        [...gradients[1]!.slice(0, 2), null, null, ...gradients[1]!.slice(4)],
      ]);
      if (way === "step") optimizer.step(await model.gradients(x, y));
      else await optimizer.stepEach(model.callbacks(x, y));
      for (const [k, { data }] of copies.entries()) {
        expect(bits(model.parameters[k]!.data)).toEqual(bits(data));
      }
    }
    expect([...(await optimizer.norms())].map(Number.isNaN)).toEqual(
      [0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0].map(Boolean),
    );
  });
});

test("losses has the loss before the step", async () => {
  const [x, y] = [array([32, 10], 6), array([32, 3], 7)];
  const model = await openJax(jax, network(), losses);
  expect(model.losses).toEqual({});
  const expected = losses.digits(model.tree, x.ref, y.ref).dataSync()[0];
  await model.gradients(x, y);
  expect(model.losses.digits).toBeCloseTo(expected!, 6);
  expect(Object.keys(model.losses)).toEqual(["digits", "score"]);
});

test("a term whose callback is left out is absent", async () => {
  const [x, y] = [array([32, 10], 6), array([32, 3], 7)];
  const model = await openJax(jax, network(), losses);
  const optimizer = new MTAdam(model.parameters, { terms: model.terms });
  const { score } = model.callbacks(x, y);
  await optimizer.stepEach({ score });
  expect([...(await optimizer.norms())].slice(0, NAMES.length).every(Number.isNaN)).toBe(true);
});

describe("a parameter is absent", () => {
  const w = () => ({ a: array([3], 0), b: array([3], 1) });
  type Pair = ReturnType<typeof w>;

  test.each<[string, (parameters: Pair) => np.Array]>([
    ["that a loss does not use", ({ a }) => np.sum(a)],
    ["behind stopGradient", ({ a, b }) => np.sum(a.mul(lax.stopGradient(b)))],
    ["that only gives an index", ({ a, b }) => np.sum(a.mul(np.argmax(b).astype(np.float32)))],
    ["that only gives a condition", ({ a, b }) => np.sum(np.where(b.greater(0), a, 1))],
    [
      "that a compiled part does not use",
      ({ a, b }) => np.sum(jax.jit(([u]: np.Array[]) => u!.mul(2))([a, b])),
    ],
    [
      "that a compiled part stops",
      ({ a, b }) => np.sum(jax.jit((u: np.Array, v: np.Array) => u.mul(lax.stopGradient(v)))(a, b)),
    ],
  ])("%s", async (_, loss) => {
    const model = await openJax(jax, w(), { loss });
    const { loss: gradients } = await model.gradients();
    expect(gradients).toEqual({ a: expect.any(Float32Array) as Float32Array, b: null });
  });

  test("but not one with a gradient of zeros", async () => {
    const model = await openJax(jax, w(), { loss: ({ a, b }) => np.sum(a.add(b.mul(np.zeros([3])))) });
    const { loss: gradients } = await model.gradients();
    expect([...gradients["b"]!]).toEqual([0, 0, 0]);
  });
});

test("the parameters are consumed, the batch is not, and neither are values in it", async () => {
  const parameters = network();
  const model = await openJax(jax, parameters, {
    loss: ({ hidden }, { x, scale }: { x: np.Array; scale: number }) => np.sum(apply(hidden, x)).mul(scale),
  });
  expect(parameters.hidden.w.refCount).toBe(0);
  const x = array([32, 10], 6);
  await model.gradients({ x, scale: 2 });
  expect(x.refCount).toBe(1);
});

test("tree has the present values", async () => {
  const model = await openJax(jax, array([2, 2], 0), { loss: (w) => np.sum(w) });
  expect(model.parameters.map(({ name, shape }) => [name, shape])).toEqual([["parameters", [2, 2]]]);
  model.parameters[0]!.data.set([1, 2, 3, 4]);
  expect(model.tree.js()).toEqual([
    [1, 2],
    [3, 4],
  ]);
});

test("a loss that throws passes its error on, and keeps no arrays", async () => {
  const x = array([32, 10], 6);
  const model = await openJax(jax, network(), {
    loss: ({ hidden }, batch: np.Array) => {
      if (batch.shape[0] === 32) throw new RangeError("no such batch");
      return np.sum(apply(hidden, batch));
    },
  });
  await expect(model.gradients(x)).rejects.toThrow("no such batch");
  expect(x.refCount).toBe(1);
  const other = array([8, 10], 6);
  await model.gradients(other);
  await expect(model.gradients(x)).rejects.toThrow("no such batch"); // while it compiles for another shape
  expect([x.refCount, other.refCount]).toEqual([1, 1]);
});

describe("errors", () => {
  const loss = (w: np.Array) => np.sum(w);
  const open = (...args: unknown[]) => caught(() => (openJax as (...all: unknown[]) => unknown)(...args));

  test("of arguments", async () => {
    expect((await open({}, array([2], 0), { loss })).message).toBe(
      '`jax` must be the module: import * as jax from "@jax-js/jax"; got an object.',
    );
    expect((await open(jax, array([2], 0), {})).message).toBe(
      "`losses` must be an object with a function per term; got an object.",
    );
    expect((await open(jax, array([2], 0), { loss: 3 })).message).toBe(
      "`losses.loss` must be a function; got 3.",
    );
    expect((await open(jax, [], { loss })).message).toBe(
      "`parameters` must be a tree of arrays; got an array of 0.",
    );
    expect(await open(jax, [array([2], 0), 3], { loss })).toMatchObject({
      code: "ERR_MTADAM_DTYPE",
      message: "`1` must be an array of jax-js; got 3.",
    });
    expect(await open(jax, { w: np.zeros([2], { dtype: np.int32 }) }, { loss })).toMatchObject({
      code: "ERR_MTADAM_DTYPE",
      message: "`w` must be float32; got an array of int32.",
    });
  });

  test("of two arrays of one name", async () => {
    const tree = { "a.b": array([2], 0), a: { b: array([2], 1) } };
    expect(await open(jax, tree, { loss })).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: '`parameters` must have a path of its own for each array; got "a.b".',
    });
  });

  test("of a model that was closed", async () => {
    const model = await openJax(jax, array([2], 0), { loss });
    await model.gradients();
    const later = model.callbacks().loss;
    model.close();
    model.close();
    expect(await caught(() => model.gradients())).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
    expect(await caught(() => later())).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
  });
});

// The WebAssembly memory grows when arrays are left over: each step has a batch and parameters of 400 kB.
test("steps keep no arrays", async () => {
  const { stdout, stderr } = await runScript(`
    const memories = [];
    const { Memory } = WebAssembly;
    WebAssembly.Memory = class extends Memory {
      constructor(...args) { super(...args); memories.push(this); }
    };
    const bytes = () => memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
    (async () => {
      const jax = require("@jax-js/jax");
      const { openJax } = require("./dist/jax");
      const { MTAdam } = require("./dist");
      const { numpy: np } = jax;
      await jax.init("wasm");
      jax.defaultDevice("wasm");
      const model = await openJax(jax, { a: np.zeros([1000, 100]), b: np.zeros([100_000]) }, {
        fit: ({ a }, x) => np.sum(np.square(a.sub(x))),
        // Uses neither the batch nor one of the parameters.
        size: ({ b }) => np.sum(np.square(b)),
      });
      const optimizer = new MTAdam(model.parameters, { terms: model.terms });
      const steps = async (count) => {
        for (let step = 0; step < count; ++step) {
          const x = np.array(new Float32Array(100_000)).reshape([1000, 100]);
          optimizer.step(await model.gradients(x));
          await optimizer.stepEach(model.callbacks(x));
          x.dispose();
        }
      };
      await steps(10);
      const before = bytes();
      await steps(100);
      console.log(memories.length > 0 && before > 1e6, bytes() - before);
    })();
  `);
  expect(stderr).toBe("");
  expect(stdout).toBe("true 0\n");
});
