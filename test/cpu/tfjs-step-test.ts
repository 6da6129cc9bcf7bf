import { MTAdam } from "../../lib";
import { MTAdamOptimizer } from "../../lib/tfjs";
import { caught } from "../support/caught";
import { layers, onBackends, tf, variable, variableOf, waves } from "../support/tfjs";

/** Two losses over a layer, the second a hundred times as large. */
function problem() {
  const weight = variable<tf.Rank.R2>([10, 3]);
  const bias = variable<tf.Rank.R1>([3], 1);
  const x = variableOf<tf.Rank.R2>(waves(320, 2), [32, 10], false);
  const y = variableOf<tf.Rank.R2>(waves(96, 3), [32, 3], false);
  const error = () => tf.sub(tf.add(tf.matMul(x, weight), bias), y);
  return {
    weight,
    bias,
    losses: {
      square: () => tf.mean<tf.Scalar>(tf.square(error())),
      absolute: () => tf.mul<tf.Scalar>(tf.mean(tf.abs(error())), 100),
    },
  };
}

/** The gradients of all losses as arrays, by term and by name of the variable. */
function gradientsOf(losses: Record<string, () => tf.Scalar>, variables: tf.Variable[]) {
  return Object.fromEntries(
    Object.entries(losses).map(([term, loss]) => {
      const { value, grads } = tf.variableGrads(loss, variables);
      const arrays = Object.fromEntries(
        Object.entries(grads).map(([name, gradient]) => [name, gradient.dataSync<"float32">().slice()]),
      );
      tf.dispose([value, grads]);
      return [term, arrays];
    }),
  );
}

const bits = (values: Float32Array): number[] => [...new Uint32Array(values.slice().buffer)];

onBackends(() => {
  test("a term may be named __proto__", () => {
    const x = variable<tf.Rank.R1>([3], 1);
    const optimizer = new MTAdamOptimizer({ terms: ["__proto__", "other"], lr: 0.1 });
    const before = x.dataSync<"float32">().slice();
    const square = () => tf.sum<tf.Scalar>(tf.square(x));
    const losses = optimizer.minimizeTerms(Object.fromEntries([["__proto__", square]]), true)!;
    expect(Object.keys(losses)).toEqual(["__proto__"]);
    expect(x.dataSync<"float32">()).not.toEqual(before);
    tf.dispose(Object.values(losses));
  });

  test("steps have the bits of MTAdam on arrays", () => {
    const { weight, bias, losses } = problem();
    const variables = [weight, bias];
    const options = { terms: ["square", "absolute"], lr: 0.01, weightDecay: 0.01 } as const;
    const optimizer = new MTAdamOptimizer(options);
    const arrays = variables.map(({ name, shape }, k) => ({
      name,
      shape,
      data: variables[k]!.dataSync<"float32">().slice(),
    }));
    const plain = new MTAdam(arrays, options);
    for (let step = 0; step < 20; ++step) {
      const gradients = gradientsOf(losses, variables);
      expect(optimizer.minimizeTerms(losses)).toBeNull();
      plain.step(gradients);
      for (const [k, { data }] of arrays.entries()) {
        expect(bits(variables[k]!.dataSync<"float32">())).toEqual(bits(data));
      }
    }
    expect(optimizer.iterations).toBe(20);
    optimizer.dispose();
  });

  test("minimizeTerms returns the losses on request", () => {
    const { losses } = problem();
    const optimizer = new MTAdamOptimizer({ terms: ["square", "absolute"] });
    const expected = tf.tidy(() => [losses.square().dataSync()[0], losses.absolute().dataSync()[0]]);
    const value = optimizer.minimizeTerms(losses, true)!;
    expect([value.square!.dataSync()[0], value.absolute!.dataSync()[0]]).toEqual(expected);
    tf.dispose(value);
  });

  test("training lowers both losses of a layer", () => {
    const { losses } = problem();
    const optimizer = new MTAdamOptimizer({ terms: ["square", "absolute"], lr: 0.02 });
    const history: number[][] = [];
    for (let step = 0; step < 100; ++step) {
      const value = optimizer.minimizeTerms(losses, true)!;
      history.push([value.square!.dataSync()[0]!, value.absolute!.dataSync()[0]!]);
      tf.dispose(value);
    }
    expect(history.at(-1)![0]).toBeLessThan(0.5 * history[0]![0]!);
    expect(history.at(-1)![1]).toBeLessThan(0.8 * history[0]![1]!);
  });

  // XNNPACK computes with packed copies of weights. A step that changed the weights in place would leave them behind.
  test("kernels see the new values of a weight in a product and in a convolution", () => {
    const weight = variable<tf.Rank.R4>([3, 3, 1, 2]);
    const image = variableOf<tf.Rank.R4>(waves(64, 1), [1, 8, 8, 1], false);
    const rows = variableOf<tf.Rank.R2>(waves(36, 2), [4, 9], false);
    const outputs = () =>
      tf.tidy(() => {
        const results = [
          tf.conv2d(image, weight, 1, "valid"),
          tf.matMul(rows, tf.reshape<tf.Rank.R2>(weight, [9, 2])),
        ];
        return results.map((tensor) => [...tensor.dataSync()]);
      });
    const optimizer = new MTAdamOptimizer({ lr: 0.1 });
    const before = outputs();
    for (let step = 0; step < 3; ++step) {
      optimizer.minimizeTerms({ loss: () => tf.sum(tf.square(weight)) });
      const actual = outputs();
      // The same values in a tensor of their own.
      const original = weight.dataId;
      const copy = tf.tensor4d(weight.dataSync().slice(), [3, 3, 1, 2]);
      weight.assign(copy);
      copy.dispose();
      expect(weight.dataId).not.toBe(original);
      expect(actual).toEqual(outputs());
      expect(actual).not.toEqual(before);
    }
  });

  test("a term that does not reach a variable is absent there", async () => {
    const shared = variable<tf.Rank.R1>([4]);
    const head = variable<tf.Rank.R1>([4], 1);
    const optimizer = new MTAdamOptimizer({ terms: ["both", "one"] });
    const { value, grads } = optimizer.computeTermGradients({
      both: () => tf.sum(tf.mul(shared, head)),
      one: () => tf.sum(tf.square(shared)),
    });
    expect(Object.keys(grads.one!)).toEqual([shared.name]);
    optimizer.applyTermGradients({ both: grads.both!, one: { ...grads.one!, [head.name]: null } });
    tf.dispose([value, grads]);
    const inner = optimizer.inner!;
    expect(inner.layers).toEqual([shared.name, head.name]);
    const norms = [...(await inner.norms())];
    expect(norms.map(Number.isNaN)).toEqual([false, false, false, true]);
  });

  test("a term that is left out is absent", async () => {
    const { losses } = problem();
    const optimizer = new MTAdamOptimizer({ terms: ["square", "absolute"] });
    optimizer.minimizeTerms({ absolute: losses.absolute });
    const { value, grads } = optimizer.computeTermGradients({ absolute: losses.absolute });
    optimizer.applyTermGradients({ square: null, ...grads });
    tf.dispose([value, grads]);
    expect(optimizer.iterations).toBe(2);
    expect([...(await optimizer.inner!.norms())].map(Number.isNaN)).toEqual([true, true, false, false]);
  });

  test("a term whose loss returns null is absent, and leaves no tensor over", async () => {
    const { weight, bias, losses } = problem();
    const optimizer = new MTAdamOptimizer({ terms: ["square", "absolute"] });
    const inner = optimizer.build([weight, bias]);
    const before = tf.memory().numTensors;
    const value = optimizer.minimizeTerms({ ...losses, absolute: () => null }, true)!;
    expect(Object.keys(value)).toEqual(["square"]);
    tf.dispose(value.square!);
    expect(tf.memory().numTensors).toBe(before);
    const { norms } = await inner.diagnostics();
    expect(Array.from(norms, Number.isNaN)).toEqual([false, false, true, true]);
  });

  test("weights of a tf.layers model are variables, and `learningRate` is `lr`", () => {
    const model = layers.sequential({ layers: [layers.layers.dense({ units: 1, inputShape: [2] })] });
    const x = tf.ones<tf.Rank.R2>([3, 2]);
    const optimizer = new MTAdamOptimizer({ lr: 0.1 });
    const [kernel] = model.trainableWeights;
    expect(optimizer.build([kernel!]).layers).toEqual([kernel!.name]);
    const loss = () => tf.sum<tf.Scalar>(model.apply(x) as tf.Tensor);
    const [before, bias] = model.getWeights().map((each) => each.dataSync<"float32">().slice());
    optimizer.learningRate = 0.25;
    expect([optimizer.lr, optimizer.inner!.lr, optimizer.learningRate]).toEqual([0.25, 0.25, 0.25]);
    optimizer.minimizeTerms({ loss }, false, [kernel!]);
    const [after, biasAfter] = model.getWeights().map((each) => each.dataSync<"float32">());
    expect(Array.from(after!, (value, k) => Math.round((before![k]! - value) * 1e4) / 1e4)).toEqual([
      0.25, 0.25,
    ]);
    expect(biasAfter).toEqual(bias);
    x.dispose();
  });

  test("values that are assigned between steps are trained on", () => {
    const w = variable<tf.Rank.R1>([2]);
    const optimizer = new MTAdamOptimizer({ lr: 0.5 });
    const loss = () => tf.sum<tf.Scalar>(w);
    optimizer.minimizeTerms({ loss });
    const values = tf.tensor1d([10, 20]);
    w.assign(values);
    optimizer.minimizeTerms({ loss });
    expect([...w.dataSync()].map((value) => value.toFixed(4))).toEqual(["9.5000", "19.5000"]);
    expect([...values.dataSync()]).toEqual([10, 20]);
    values.dispose();
  });

  test("copies of a variable, and arrays that it was made of or read into, stay as they are", () => {
    const array = Float32Array.of(1, 2);
    const values = tf.tensor1d(array);
    const w = tf.variable(values, true);
    const copy = w.clone();
    const read = w.dataSync();
    new MTAdamOptimizer({ lr: 0.5 }).minimizeTerms({ loss: () => tf.sum(w) });
    expect([...w.dataSync()]).not.toEqual([1, 2]);
    for (const kept of [array, read, values.dataSync(), copy.dataSync()]) expect([...kept]).toEqual([1, 2]);
    tf.dispose([values, copy]);
  });

  test("varList chooses the variables, and others stay", () => {
    const { weight, bias, losses } = problem();
    const before = [...weight.dataSync()];
    const optimizer = new MTAdamOptimizer({ terms: ["square", "absolute"] });
    optimizer.minimizeTerms(losses, false, [bias]);
    expect([...weight.dataSync()]).toEqual(before);
    expect(optimizer.inner!.layers).toEqual([bias.name]);
  });

  test("a variable that comes later joins, with the options of the moment", () => {
    const first = variable<tf.Rank.R1>([2]);
    const optimizer = new MTAdamOptimizer({ lr: 0.5 });
    optimizer.minimizeTerms({ loss: () => tf.sum(first) });
    optimizer.lr = 0.25;
    const second = variable<tf.Rank.R1>([2], 1);
    const before = second.dataSync().map((value) => value - 0.25);
    const kept = first.dataSync().map((value) => value - 0.25);
    optimizer.minimizeTerms({ loss: () => tf.add(tf.sum(first), tf.sum(second)) });
    expect([...second.dataSync()]).toEqual([...before].map((value) => expect.closeTo(value, 5) as number));
    expect([...first.dataSync()]).toEqual([...kept].map((value) => expect.closeTo(value, 5) as number));
    expect(optimizer.inner!.paramGroups.map(({ lr, parameters }) => [lr, parameters])).toEqual([
      [0.25, [first.name]],
      [0.25, [second.name]],
    ]);
    expect(optimizer.iterations).toBe(2);
  });

  test("a variable that was disposed of stays away, and one of its name takes its place", async () => {
    const first = variable<tf.Rank.R1>([2]);
    const second = variable<tf.Rank.R1>([2], 1);
    const optimizer = new MTAdamOptimizer({ lr: 0.5 });
    optimizer.minimizeTerms({ loss: () => tf.add(tf.sum(first), tf.sum(second)) });
    const { name } = first;
    first.dispose();
    optimizer.minimizeTerms({ loss: () => tf.sum(second) });
    const again = tf.tidy(() => tf.variable(tf.tensor1d([7, 8]), true, name));
    optimizer.minimizeTerms({ loss: () => tf.add(tf.sum(again), tf.sum(second)) });
    expect([...again.dataSync()].map((value) => value.toFixed(4))).toEqual(["6.5000", "7.5000"]);
    again.dispose();
    const other = tf.tidy(() => tf.variable(tf.zeros([3]), true, name));
    const kept = [...second.dataSync()];
    const step = () => optimizer.minimizeTerms({ loss: () => tf.add(tf.sum(other), tf.sum(second)) });
    expect(await caught(step)).toMatchObject({
      code: "ERR_MTADAM_LENGTH",
      message: `\`${name}\` must keep its shape [2]; got a variable of that name of shape [3].`,
    });
    expect([...second.dataSync()]).toEqual(kept);
  });

  test("a tag balances variables as one layer", () => {
    const { weight, bias, losses } = problem();
    const optimizer = new MTAdamOptimizer({ terms: ["square", "absolute"], layer: () => "dense" });
    const inner = optimizer.build([weight, bias]);
    expect(inner.layers).toEqual(["dense"]);
    optimizer.minimizeTerms(losses);
    expect(optimizer.inner).toBe(inner);
  });

  test("a loss that throws changes nothing", () => {
    const { weight, losses } = problem();
    const before = [...weight.dataSync()];
    const optimizer = new MTAdamOptimizer({ terms: ["square", "absolute"] });
    const failing = () => {
      throw new Error("no loss");
    };
    expect(() => optimizer.minimizeTerms({ ...losses, absolute: failing })).toThrow("no loss");
    expect([...weight.dataSync()]).toEqual(before);
    expect(optimizer.iterations).toBe(0);
  });

  test("it is a tf.Optimizer, which minimizes one loss", () => {
    const { losses } = problem();
    const optimizer = new MTAdamOptimizer({ lr: 0.01 });
    expect(optimizer).toBeInstanceOf(tf.Optimizer);
    const first = optimizer.minimize(losses.square, true)!;
    const second = optimizer.minimize(losses.square, true)!;
    expect(second.dataSync()[0]).toBeLessThan(first.dataSync()[0]!);
    tf.dispose([first, second]);
    expect(optimizer.terms).toEqual(["loss"]);
    expect(optimizer.iterations).toBe(2);
  });

  test("model.compile takes it, and model.fit trains", async () => {
    const model = layers.sequential({
      layers: [
        layers.layers.dense({ units: 8, activation: "relu", inputShape: [10] }),
        layers.layers.dense({ units: 3 }),
      ],
    });
    const optimizer = new MTAdamOptimizer({ lr: 0.01 });
    model.compile({ optimizer, loss: "meanSquaredError" });
    const x = tf.tensor(waves(320, 2), [32, 10]);
    const y = tf.tensor(waves(96, 3), [32, 3]);
    const { history } = await model.fit(x, y, { epochs: 5 });
    expect(history["loss"]!.at(-1)).toBeLessThan(history["loss"]![0] as number);
    expect(optimizer.iterations).toBe(5);
    tf.dispose([x, y]);
    model.dispose();
  });
});
