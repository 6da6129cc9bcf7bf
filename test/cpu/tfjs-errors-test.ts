import { MTAdamOptimizer } from "../../lib/tfjs";
import { caught } from "../support/caught";
import { readFileSync } from "node:fs";
import { builtAddon, install, LOCAL } from "../support/installed";
import { onBackends, tf, variable, variableOf } from "../support/tfjs";

onBackends(() => {
  test.each([
    ["OPTION", '`options` has no option "learningRate"', { learningRate: 1 }],
    ["OPTION", "`lr` must be", { lr: -1 }],
    ["OPTION", '`layer` must be a function of a variable; got "dense".', { layer: "dense" }],
    ["OPTION", "`terms` must", { terms: [] }],
  ])("an option is refused at once: %s %s", async (code, message, options) => {
    const error = await caught(() => new MTAdamOptimizer(options as object));
    expect(error.code).toBe(`ERR_MTADAM_${code}`);
    expect(error.message).toContain(message);
  });

  test("several terms need minimizeTerms", async () => {
    const w = variable<tf.Rank.R1>([2]);
    const optimizer = new MTAdamOptimizer({ terms: ["a", "b"] });
    const { code, message } = await caught(() => optimizer.minimize(() => tf.sum(w)));
    expect(code).toBe("ERR_MTADAM_TERM");
    expect(message).toBe(
      "`minimize`, `model.fit` and `applyGradients` have one loss; this optimizer has the terms a, b: call " +
        "`minimizeTerms` or `applyTermGradients`.",
    );
  });

  test("an unknown term is refused before a loss is computed", async () => {
    const optimizer = new MTAdamOptimizer({ terms: ["content", "style"] });
    const loss = jest.fn(() => tf.scalar(0));
    // @ts-expect-error a misspelled term
    const error = await caught(() => optimizer.minimizeTerms({ contents: loss }));
    expect(error.code).toBe("ERR_MTADAM_TERM");
    expect(loss).not.toHaveBeenCalled();
    // @ts-expect-error a misspelled term
    expect((await caught(() => optimizer.applyTermGradients({ contents: {} }))).code).toBe("ERR_MTADAM_TERM");
  });

  test("a loss must be a function", async () => {
    const optimizer = new MTAdamOptimizer({ terms: ["content"] });
    // @ts-expect-error not a function
    expect((await caught(() => optimizer.minimizeTerms({ content: 3 }))).message).toBe(
      "`losses.content` must be a function; got 3.",
    );
  });

  test.each([
    [
      "a vector",
      () => tf.tensor1d([1, 2]),
      /^`losses\.style` must return a scalar or null; got a tensor of shape \[2\]\.$/,
    ],
    ["a number", () => 3, /^`losses\.style` must return a scalar or null; got 3\.$/],
    ["nothing", () => undefined, /^`losses\.style` must return a scalar or null; got undefined\.$/],
    [
      "a constant",
      () => tf.scalar(0),
      /^`losses\.style` must have a gradient, or return null where the term is absent: Cannot find/,
    ],
  ])(
    "a loss that returns %s is refused with its term, and nothing is left over",
    async (_, style, message) => {
      const w = variable<tf.Rank.R1>([2]);
      const optimizer = new MTAdamOptimizer({ terms: ["content", "style"] });
      const before = tf.memory().numTensors;
      const error = await caught(() =>
        optimizer.minimizeTerms({ content: () => tf.sum(w), style: style as never }),
      );
      expect(error.code).toBe("ERR_MTADAM_OPTION");
      expect(error.message).toMatch(message);
      expect(tf.memory().numTensors).toBe(before);
      expect(optimizer.iterations).toBe(0);
    },
  );

  test("the first step must reach a variable", async () => {
    const message = "`gradients` must reach a variable in the first step; got an object.";
    for (const call of [
      () => new MTAdamOptimizer().minimizeTerms({}),
      () => {
        new MTAdamOptimizer().applyTermGradients({ loss: {} });
      },
    ]) {
      expect(await caught(call)).toMatchObject({ code: "ERR_MTADAM_OPTION", message });
    }
  });

  test("gradients must be of variables of float32", async () => {
    const optimizer = new MTAdamOptimizer();
    const gradient = tf.tensor1d([1]);
    expect((await caught(() => optimizer.applyTermGradients({ loss: { nobody: gradient } }))).message).toBe(
      '`gradients` must be of variables; got "nobody".',
    );
    expect((await caught(() => optimizer.build([gradient as never]))).message).toMatch(
      /^`variables` must be a list of variables; got /,
    );
    const whole = tf.tidy(() => tf.variable(tf.tensor1d([1], "int32"), true));
    expect(await caught(() => optimizer.build([whole]))).toMatchObject({
      code: "ERR_MTADAM_DTYPE",
      message: `\`${whole.name}\` must be float32; got a variable of int32.`,
    });
    gradient.dispose();
  });

  test("gradients of another shape and of no variable change nothing", async () => {
    const w = variableOf<tf.Rank.R1>(Float32Array.of(1, 2), [2]);
    const optimizer = new MTAdamOptimizer();
    const gradient = tf.tensor1d([1]);
    const error = await caught(() => optimizer.applyTermGradients({ loss: { [w.name]: gradient } }));
    expect(error.code).toBe("ERR_MTADAM_LENGTH");
    expect([...w.dataSync()]).toEqual([1, 2]);
    gradient.dispose();
  });

  test("gradients that are transposed, or no gradients, change nothing", async () => {
    const w = variableOf<tf.Rank.R2>(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
    const optimizer = new MTAdamOptimizer();
    const gradient = tf.ones([3, 2]);
    const error = await caught(() => optimizer.applyTermGradients({ loss: { [w.name]: gradient } }));
    expect(error).toMatchObject({
      code: "ERR_MTADAM_LENGTH",
      message: `\`gradients["loss"]["${w.name}"]\` must have the shape [2, 3]; got [3, 2].`,
    });
    for (const wrong of [5, "x", true]) {
      const { code } = await caught(() => optimizer.applyTermGradients({ loss: wrong as never }));
      expect(code).toBe("ERR_MTADAM_OPTION");
    }
    expect([...w.dataSync()]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(optimizer.iterations).toBe(0);
    gradient.dispose();
  });

  test("an optimizer that was disposed of takes no step", async () => {
    const w = variable<tf.Rank.R1>([2]);
    const optimizer = new MTAdamOptimizer();
    optimizer.minimize(() => tf.sum(w));
    optimizer.dispose();
    expect((await caught(() => optimizer.minimize(() => tf.sum(w)))).code).toBe("ERR_MTADAM_DISPOSED");
  });
});

describe("without @tensorflow/tfjs-core", () => {
  const SAID = "npm install @tensorflow/tfjs-core@4";

  test.each([
    [
      "require",
      ["-e", 'try { require("mtadam/tfjs") } catch (error) { console.log(error.code, error.message) }'],
    ],
    [
      "import",
      [
        "--input-type=module",
        "-e",
        'await import("mtadam/tfjs").catch((error) => console.log(error.code, error.message))',
      ],
    ],
  ])("%s says what to install", (_, args) => {
    const installed = install();
    installed.plant(LOCAL, readFileSync(builtAddon));
    const { stdout, stderr } = installed.node(args);
    expect(stderr).toBe("");
    expect(stdout).toContain("ERR_MTADAM_LOAD");
    expect(stdout).toContain(SAID);
  });
});
