import path from "node:path";
import { MTAdam } from "../../lib";
import { MTAdamOptimizer } from "../../lib/tfjs";
import type { NamedTensor } from "../../lib/tfjs/weights";
import { caught } from "../support/caught";
import { temporaryFolder } from "../support/folder";
import { layers, onBackends, saveAndLoad, tf, variable, waves } from "../support/tfjs";

const bitsOf = (tensor: tf.Tensor): number[] => [
  ...new Uint32Array(tensor.dataSync<"float32">().slice().buffer),
];

/** Steps of two losses of two variables; the second is absent in every second step. */
function train(optimizer: MTAdamOptimizer, [a, b]: tf.Variable[], steps: number): void {
  for (let step = 0; step < steps; ++step) {
    const near = () => tf.sum<tf.Scalar>(tf.add(tf.square(tf.sub(a!, b!)), tf.square(a!)));
    const far = () => tf.sum<tf.Scalar>(tf.square(tf.sub(b!, 30)));
    optimizer.minimizeTerms(optimizer.iterations % 2 === 0 ? { near_by: near, Far: far } : { near_by: near });
  }
}

const variables = (): tf.Variable[] => [variable<tf.Rank.R1>([5]), variable<tf.Rank.R2>([2, 3], 1)];
const trained = (): tf.Variable[] => [variable<tf.Rank.R1>([6]), variable<tf.Rank.R1>([6], 1)];

const temporary = temporaryFolder();

onBackends(() => {
  test.each([
    { what: "the defaults", options: {} },
    {
      what: "other options",
      options: { amsgrad: true, lr: 0.02, weights: { near_by: 2 }, anchor: "near_by" },
    },
    {
      what: "the recommended preset and summed moments",
      options: { preset: "recommended", firstMoment: "summed", secondMoment: "summed" },
    },
  ] as const)("a saved state continues with the same bits: $what", async ({ options }) => {
    const terms = ["near_by", "Far"];
    const whole = new MTAdamOptimizer({ terms, ...options });
    const expected = trained();
    train(whole, expected, 7);

    const first = new MTAdamOptimizer({ terms, ...options });
    const before = trained();
    train(first, before, 4);
    const config = JSON.parse(JSON.stringify(first.getConfig())) as tf.serialization.ConfigDict;
    const second = MTAdamOptimizer.fromConfig<MTAdamOptimizer>(MTAdamOptimizer, config);
    // Other names, as those of a model that is loaded beside the first one.
    const after = before.map((values) => tf.variable(values));
    await second.setWeights(await first.getWeights());
    first.dispose();
    expect(second.iterations).toBe(4);
    train(second, after, 3);
    expect(second.iterations).toBe(7);
    expect(after.map(bitsOf)).toEqual(expected.map(bitsOf));
  });

  test.each(["bfloat16", "8bit"] as const)("a state in %s is restored, of any length", async (stateDtype) => {
    for (const length of [4096, 4097, 4098, 4099]) {
      const options = { terms: ["near_by", "Far"], stateDtype, seed: 2n ** 63n, lr: 0.02 };
      const own = [variable<tf.Rank.R1>([length]), variable<tf.Rank.R1>([length], 1)];
      const first = new MTAdamOptimizer(options);
      train(first, own, 2);
      const config = JSON.parse(JSON.stringify(first.getConfig())) as tf.serialization.ConfigDict;
      const second = MTAdamOptimizer.fromConfig<MTAdamOptimizer>(MTAdamOptimizer, config);
      await second.setWeights(await first.getWeights());
      const before = own.map((values) => values.clone());
      train(first, own, 2);
      const expected = own.map(bitsOf);
      own.forEach((values, k) => {
        values.assign(before[k]!);
      });
      train(second, own, 2);
      expect(own.map(bitsOf)).toEqual(expected);
      tf.dispose(before);
      first.dispose();
    }
  });

  test("values that are not the weights of an optimizer are refused", async () => {
    const weights = (name: string): NamedTensor[] => [{ name, tensor: tf.tensor1d([123, 125], "int32") }];
    const odd = [
      { name: "mtadam/metadata", tensor: tf.tensor1d([123, 125], "int32") },
      { name: "mtadam/norms:Float64Array", tensor: tf.tensor1d([1], "int32") },
    ];
    for (const wrong of [
      null,
      {},
      weights("m.0"),
      weights("mtadam/m.0.0:Map"),
      weights("mtadam/metadata"),
      odd,
    ]) {
      const error = await caught(() => new MTAdamOptimizer().setWeights(wrong as never));
      expect(error.code).toBe("ERR_MTADAM_CHECKPOINT");
      tf.dispose(wrong ?? []);
    }
    expect((await caught(() => new MTAdamOptimizer(null as never))).code).toBe("ERR_MTADAM_OPTION");
    const notTensor = { loss: { [variable([2]).name]: Float32Array.of(1, 2) } } as never;
    const error = await caught(() => new MTAdamOptimizer().applyTermGradients(notTensor));
    expect(error.code).toBe("ERR_MTADAM_OPTION");
  });

  test("a rate that is set after loading holds from the first step on", async () => {
    const first = new MTAdamOptimizer({ terms: ["near_by", "Far"], lr: 0.02 });
    train(first, trained(), 1);
    for (const lr of [1e-5, () => 1e-5]) {
      const second = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
      await second.setWeights(await first.getWeights());
      second.lr = lr;
      train(second, trained(), 1);
      expect(second.lr).toBe(lr);
      expect(second.inner!.currentLr).toBe(1e-5);
      second.dispose();
    }
    first.dispose();
  });

  test("a state is found by name where not all variables have a gradient", async () => {
    const first = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
    const own = trained();
    train(first, own, 3);
    const second = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
    await second.setWeights(await first.getWeights());
    second.minimizeTerms({ Far: () => tf.sum(own[1]!) });
    expect(second.inner!.layers).toEqual(own.map(({ name }) => name));
    expect([...(await second.inner!.norms())].every(Number.isFinite)).toBe(false);
    const [near] = await Promise.all([first, second].map((optimizer) => optimizer.inner!.norms()));
    expect((await second.inner!.norms())[0]).toBe(near![0]);
    first.dispose();
  });

  test("variables that came later keep their group", async () => {
    const first = new MTAdamOptimizer();
    const [a, b] = variables();
    first.minimizeTerms({ loss: () => tf.sum(a!) });
    first.minimizeTerms({ loss: () => tf.add(tf.sum(a!), tf.sum(b!)) });
    first.inner!.paramGroups[1]!.lr = 0.5;
    const second = new MTAdamOptimizer();
    await second.setWeights(await first.getWeights());
    const inner = second.build([a!, b!]);
    expect(inner.paramGroups.map(({ lr, parameters }) => [lr, parameters])).toEqual([
      [0.001, [a!.name]],
      [0.5, [b!.name]],
    ]);
    first.dispose();
  });

  test("a state is loaded into an optimizer that has its variables", async () => {
    const first = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
    train(first, trained(), 3);
    const second = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
    const own = trained();
    train(second, own, 1);
    await second.setWeights(await first.getWeights());
    expect(second.iterations).toBe(3);
    expect(await second.inner!.norms()).toEqual(await first.inner!.norms());
    first.dispose();
  });

  test("model.save keeps the optimizer, and training continues with the same bits", async () => {
    const model = layers.sequential({
      layers: [
        layers.layers.dense({ units: 4, inputShape: [10], kernelInitializer: "ones" }),
        layers.layers.dense({ units: 3, kernelInitializer: "ones" }),
      ],
    });
    const x = tf.tensor(waves(320, 2), [32, 10]);
    const y = tf.tensor(waves(96, 3), [32, 3]);
    const fit = (own: layers.LayersModel) => own.fit(x, y, { epochs: 2, shuffle: false });
    const optimizer = new MTAdamOptimizer({ terms: ["my_Loss"], lr: 0.01 });
    model.compile({ optimizer, loss: "meanSquaredError" });
    await fit(model);
    const loaded = await saveAndLoad(model);
    expect(loaded.optimizer.getClassName()).toBe("MTAdam");
    expect((loaded.optimizer as unknown as MTAdamOptimizer).terms).toEqual(["my_Loss"]);
    await fit(model);
    await fit(loaded);
    expect(loaded.optimizer.iterations).toBe(4);
    expect(loaded.getWeights().map(bitsOf)).toEqual(model.getWeights().map(bitsOf));
    tf.dispose([x, y]);
    model.dispose();
    loaded.dispose();
  });

  test("saving often keeps no tensors", async () => {
    const optimizer = new MTAdamOptimizer();
    const [a] = variables();
    optimizer.minimizeTerms({ loss: () => tf.sum(a!) });
    const before = tf.memory().numTensors;
    await optimizer.getWeights();
    const after = tf.memory().numTensors;
    await optimizer.getWeights();
    expect(tf.memory().numTensors).toBe(after);
    optimizer.minimizeTerms({ loss: () => tf.sum(a!) });
    expect(tf.memory().numTensors).toBe(before);
  });

  test("inner.save and inner.load keep a state in a file", async () => {
    const file = path.join(temporary, "state.safetensors");
    const first = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
    const own = trained();
    train(first, own, 3);
    await first.inner!.save(file);
    const second = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
    const inner = second.build(own);
    expect(inner).toBeInstanceOf(MTAdam);
    await inner.load(file);
    expect(second.iterations).toBe(3);
    expect(await inner.norms()).toEqual(await first.inner!.norms());
  });

  test("weights before the first step are the number of steps", async () => {
    const optimizer = new MTAdamOptimizer();
    const weights = await optimizer.getWeights();
    expect(weights.map(({ name }) => name)).toEqual(["iter"]);
    const other = new MTAdamOptimizer();
    await other.setWeights(weights);
    expect(other.iterations).toBe(0);
    optimizer.dispose();
  });

  test("other weights are refused", async () => {
    const optimizer = new MTAdamOptimizer();
    const tensor = tf.tensor1d([1]);
    const weights = [{ name: "dense/kernel/m", tensor }];
    expect(await caught(() => optimizer.setWeights(weights))).toMatchObject({
      code: "ERR_MTADAM_CHECKPOINT",
      message:
        'The weights must be those that `getWeights` of an MTAdamOptimizer gave; got "dense/kernel/m".',
    });
    const metadata = [{ name: "mtadam/metadata", tensor: tf.tensor1d([65], "int32") }];
    expect(await caught(() => optimizer.setWeights(metadata))).toMatchObject({
      code: "ERR_MTADAM_CHECKPOINT",
      message: "The weights must have the metadata of a state; got other bytes.",
    });
    tf.dispose([tensor, metadata[0]!.tensor]);
  });

  test("a state of other variables is refused", async () => {
    const first = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
    train(first, trained(), 1);
    const second = new MTAdamOptimizer({ terms: ["near_by", "Far"] });
    await second.setWeights(await first.getWeights());
    const own = variables();
    const { message, code } = await caught(() => second.build(own));
    expect(code).toBe("ERR_MTADAM_CHECKPOINT");
    expect(message).toBe(
      `The state must have the variable "${own[0]!.name}", or as many as are trained, of the same shapes in the same ` +
        "order; got 2.",
    );
    first.dispose();
  });
});
