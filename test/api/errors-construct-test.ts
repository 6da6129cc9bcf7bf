/**
 * Errors of `new MTAdam`: options, groups and the list of parameters. Group options are also tested when they are set
 * later.
 */

import { MTAdam, openDevice, type GroupOptions, type MTAdamOptions } from "../../lib";
import {
  array,
  buffer,
  checkError,
  notNumbers,
  onDevice,
  refusal,
  refuses,
  type Subject,
  thrownBy,
  withOptions,
  withParameters,
  write,
} from "../support/refusals";

describe("a group option out of range", () => {
  const outOfRange: Record<keyof GroupOptions, readonly unknown[]> = {
    lr: [-1, -1e-30, 1e39, ...notNumbers],
    betas: [
      ...[1, -0.1, 1.1, NaN, Infinity, "0.9", 1n, null, undefined].flatMap((beta) => [
        [beta, 0.999, 0.9],
        [0.9, beta, 0.9],
      ]),
      ...[-0.1, 1.1, NaN, "0.9", null].map((beta) => [0.9, 0.999, beta]),
      ...[[], [0.9, 0.999], [0.9, 0.999, 0.9, 0.9], new Array(3)],
      ...[0.9, "0.9", null, {}, { 0: 0.9, 1: 0.999, 2: 0.9, length: 3 }, Float64Array.of(0.9, 0.999, 0.9)],
    ],
    eps: [0, -0, -1e-8, 1e-46, 1e39, ...notNumbers],
    weightDecay: [-1e-3, 1e39, ...notNumbers],
    decoupledWeightDecay: [0, 1, "true", null, {}],
    maximize: [0, 1, "false", null, []],
  };
  const cases = Object.entries(outOfRange).flatMap(([option, values]) =>
    values.map((value) => ({ option, value, says: new RegExp(`^\`${option}\` must .*; got .*\\.$`) })),
  );

  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    cases.map(({ option, value, says }) =>
      refusal(`the optimizer's ${option} ${write(value)}`, says, () => withOptions({ [option]: value })),
    ),
  );

  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    cases.map(({ option, value, says }) =>
      refusal(`a group's ${option} ${write(value)}`, says, () =>
        withParameters([{ parameters: [buffer(1)], [option]: value }]),
      ),
    ),
  );

  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    [
      ...cases,
      ...Object.keys(outOfRange).map((option) => ({ option, value: undefined, says: new RegExp(option) })),
    ].map(({ option, value, says }) =>
      refusal(
        `${option} ${write(value)}, set through paramGroups, at the next step`,
        says,
        ({ optimizer, g }) => optimizer.step([g, g]),
        ({ optimizer }) => Object.assign(optimizer.paramGroups[0] as object, { [option]: value }),
      ),
    ),
  );

  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    outOfRange.lr.map((value) =>
      refusal(
        `lr ${write(value)}, set for all groups`,
        /^`lr` must /,
        ({ optimizer }) => (optimizer.lr = value as number),
      ),
    ),
  );

  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    [-1, 1e39, ...notNumbers, undefined, () => 1, Promise.resolve(1)].map((value) =>
      refusal(
        `lr as a function that returns ${write(value)}`,
        /^`lr` must return /,
        ({ optimizer, g }) => optimizer.accumulate(0, g),
        ({ optimizer }) => (optimizer.lr = () => value as number),
      ),
    ),
  );

  test.each([
    ["lr", [0, -0, 1e3, 3e37, 1e-300, () => 0]],
    [
      "betas",
      [
        [0, 0, 0],
        [0.999, 0.9999, 1],
      ],
    ],
    ["eps", [1e-30, 1, 3e38]],
    ["weightDecay", [0, 10, 3e38]],
    ["decoupledWeightDecay", [true, false]],
    ["maximize", [true, false]],
  ])("the ends of the range of %s are in it", (option, values) => {
    for (const value of values as unknown[]) {
      const optimizer = withOptions({ [option]: value });
      optimizer.step([[buffer(1)], null]);
      expect(optimizer.iterations).toBe(1);
    }
  });
});

describe("group options whose product float32 cannot hold", () => {
  const cases: [name: string, options: Partial<GroupOptions> & { lr: number }][] = [
    ["lr * weightDecay", { lr: 1e20, weightDecay: 1e20, decoupledWeightDecay: true }],
    ["lr / (1 - betas[0])", { lr: 1e37, betas: [0.99, 0.999, 0.9] }],
  ];
  const each = (
    what: string,
    call: (options: Partial<GroupOptions> & { lr: number }, subject: Subject) => unknown,
    given?: (options: Partial<GroupOptions> & { lr: number }, subject: Subject) => unknown,
  ): void => {
    refuses(
      "ERR_MTADAM_OPTION",
      onDevice,
      cases.map(([name, options]) =>
        refusal(
          `${name}, ${what}`,
          new RegExp(`^\`${name.replaceAll(/[()[\]*]/g, "\\$&")}\` must be finite, .*; got .*\\.$`),
          (subject) => call(options, subject),
          given && ((subject) => given(options, subject)),
        ),
      ),
    );
  };
  const step = (_: unknown, { optimizer, g }: Subject): void => optimizer.step([g, g]);

  each("of the optimizer", (options) => withOptions(options));
  each("of a group", (options) => withParameters([{ parameters: [buffer(1)], ...options }]));
  each("of a group that inherits the learning rate", ({ lr, ...options }) => {
    new MTAdam([{ parameters: [buffer(1)], ...options }], { terms: 1, lr });
  });
  each("set through paramGroups, at the next step", step, (options, { optimizer }) =>
    Object.assign(optimizer.paramGroups[0]!, options),
  );
  each("returned by a schedule", step, ({ lr, ...options }, { optimizer }) =>
    Object.assign(optimizer.paramGroups[0]!, { ...options, lr: () => lr }),
  );

  test("the coupled decay has no product with the learning rate", () => {
    expect(withOptions({ lr: 1e20, weightDecay: 1e20 }).lr).toBe(1e20);
  });
});

describe("an option of the optimizer out of range", () => {
  const outOfRange: Record<string, readonly unknown[]> = {
    terms: [
      ...[0, -1, 1.5, NaN, Infinity, 2 ** 20, "2", 1n, undefined, null, {}, [], new Array(2)],
      ...[[""], ["a", "a"], ["first"], ["b", "max"], ["mean"], [1], [null], [["a"]]],
    ],
    weights: [
      [1, -1],
      [1, NaN],
      [1, Infinity],
      [1, 1e39],
      [1, "1"],
      [1, null],
      new Array(2),
      { a: -1 },
      { a: "1" },
      "12",
      5,
      null,
    ],
    amsgrad: [0, 1, "true", null],
    firstMoment: ["both", "", 1, null],
    secondMoment: ["both", "summed", "", 1, null],
    initialNorm: [0, -0, -1, 1e39, 1e-46, "last", ...notNumbers],
    anchor: ["", "c", "First", 0, 1, null, {}, ["first"]],
    balance: [-0.1, 1.1, "0.5", ...notNumbers],
    stepScale: ["max", "Mean", 1, null],
    nonFinite: ["ignore", "skip", true, null],
    cosines: [0, 1, "true", null],
    device: ["cpu", 0, {}, null],
  };
  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    Object.entries(outOfRange).flatMap(([option, values]) =>
      values.map((value) =>
        refusal(`${option} ${write(value)}`, new RegExp(`^\`${option}\` must .*; got .*\\.$`), () =>
          withOptions({ [option]: value }),
        ),
      ),
    ),
  );
  refuses("ERR_MTADAM_LENGTH", onDevice, [
    refusal("a weight too few", /^`weights` must have 2 /, () => withOptions({ weights: [1] })),
    refusal("a weight too many", /^`weights` must have 2 /, () => withOptions({ weights: [1, 1, 1] })),
  ]);
  refuses("ERR_MTADAM_TERM", onDevice, [
    refusal("a weight for an unknown term", /"c"/, () => withOptions({ weights: { a: 1, c: 1 } })),
  ]);
});

describe("an unknown key", () => {
  refuses("ERR_MTADAM_OPTION", onDevice, [
    refusal("a misspelled option", /"weigthDecay".*did you mean `weightDecay`/, () =>
      withOptions({ weigthDecay: 0.1 }),
    ),
    refusal("an option in another case", /"weightdecay".*did you mean `weightDecay`/, () =>
      withOptions({ weightdecay: 0.1 }),
    ),
    refusal("a misspelled option of a group", /"lrr".*did you mean `lr`/, () =>
      withParameters([{ parameters: [buffer(1)], lrr: 0.1 }]),
    ),
    refusal("a misspelled key of a parameter", /"lenght".*did you mean `length`/, () =>
      withParameters([{ data: buffer(1), lenght: 1 }]),
    ),
    refusal("an option unlike any known one", /"momentum"/, () => withOptions({ momentum: 0.9 })),
    refusal("the optimizer's option in a group", /"amsgrad"/, () =>
      withParameters([{ parameters: [buffer(1)], amsgrad: true }]),
    ),
    refusal(
      "a misspelled option of a step",
      /"gradientscale".*did you mean `gradientScale`/,
      ({ optimizer, g }) => optimizer.step([g, g], { gradientscale: 2 } as object),
    ),
    refusal("an option of step given to update", /"weights"/, ({ optimizer }) =>
      optimizer.update({ weights: [1, 1] } as object),
    ),
    refusal(
      "a misspelled option of loadStateDict",
      /"strickt".*did you mean `strict`/,
      async ({ optimizer }) =>
        optimizer.loadStateDict(await optimizer.stateDict(), { strickt: false } as object),
    ),
    refusal("a misspelled option of openDevice", /"thread".*did you mean `threads`/, () =>
      openDevice("cpu", { thread: 1 } as object),
    ),
    refusal("a misspelled option of upload", /"steam".*did you mean `stream`/, ({ w }) =>
      w.upload(array(1, 2, 3), { steam: null } as object),
    ),
  ]);

  test("an unknown key set in a parameter group is a TypeError of JavaScript", () => {
    const [group] = onDevice().optimizer.paramGroups as unknown as Record<string, unknown>[];
    expect(() => Object.assign(group as object, { learningRate: 1 })).toThrow(/learningRate/);
  });
});

describe("options that are not an object", () => {
  const values = [5, "lr", true, null, [], () => ({})];
  const calls: [what: string, call: (value: object, subject: Subject) => unknown][] = [
    ["the optimizer's", (value) => new MTAdam([buffer(1)], value as MTAdamOptions)],
    ["step's", (value, { optimizer, g }) => optimizer.step([g, g], value)],
    ["accumulate's", (value, { optimizer, g }) => optimizer.accumulate(0, g, value)],
    ["stepEach's", (value, { optimizer, g }) => optimizer.stepEach([() => g, null], value)],
    ["update's", (value, { optimizer }) => optimizer.update(value)],
    ["openDevice's", (value) => openDevice("cpu", value)],
    ["upload's", (value, { w }) => w.upload(array(1, 2, 3), value)],
    [
      "loadStateDict's",
      async (value, { optimizer }) => optimizer.loadStateDict(await optimizer.stateDict(), value),
    ],
  ];
  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    calls.flatMap(([what, call]) =>
      values.map((value) =>
        refusal(`${what}: ${write(value)}`, /^`options` must be an object; got /, (subject) =>
          call(value as object, subject),
        ),
      ),
    ),
  );
});

test("instances of a class with the right fields are options, groups, gradients and weights", () => {
  class Parameter {
    readonly name = "w";
    readonly data = buffer(3);
  }
  class Group {
    readonly parameters = [new Parameter()];
    readonly lr = 0.5;
  }
  class Options {
    readonly terms = ["a", "b"];
  }
  class Gradients {
    readonly w = buffer(3);
  }
  class Step {
    readonly weights = new Weights() as Record<"a", number>;
  }
  class Weights {
    readonly a = 2;
  }
  const optimizer = new MTAdam([new Group()], new Options());
  // In TypeScript, an instance has no index signature, and values by name or index need one.
  const a = new Gradients() as Record<"w", Gradients["w"]>;
  optimizer.step({ a }, new Step());
  expect([optimizer.lr, optimizer.iterations]).toEqual([0.5, 1]);
});

describe("the list of parameters", () => {
  const groupOf = (parameters: unknown, options: object = {}): object => ({ parameters, ...options });
  refuses("ERR_MTADAM_OPTION", onDevice, [
    ...[undefined, null, 5, "w", {}, [], array(1), new Set([array(1)])].map((value) =>
      refusal(`is ${write(value)}`, /^`parameters` must .*; got /, () => withParameters(value)),
    ),
    refusal("is one buffer", /^`parameters` must .*; got /, ({ w }) => withParameters(w)),
    refusal("mixes groups and parameters", /^`parameters` must .*either/, () =>
      withParameters([groupOf([buffer(1)]), buffer(1)]),
    ),
    refusal("has groups without a parameter", /^`parameters` must /, () =>
      withParameters([groupOf([]), groupOf([])]),
    ),
    refusal("has a group whose parameters are no list", /`group.parameters` must /, () =>
      withParameters([groupOf(buffer(1))]),
    ),
    refusal("names two parameters alike", /^`name` must be unique .*"w"/, () =>
      withParameters([
        { name: "w", data: buffer(1) },
        { name: "w", data: buffer(1) },
      ]),
    ),
    refusal("names two parameters in different groups alike", /^`name` must be unique .*"w"/, () =>
      withParameters([groupOf([{ name: "w", data: buffer(1) }]), groupOf([{ name: "w", data: buffer(1) }])]),
    ),
    refusal("names a parameter as the index of another", /^`name` must be unique .*"1"/, () =>
      withParameters([{ name: "1", data: buffer(1) }, buffer(1)]),
    ),
    ...["", 5, null, Symbol("w"), {}].map((name) =>
      refusal(`has the name ${write(name)}`, /^`name` must /, () =>
        withParameters([{ name, data: buffer(1) }]),
      ),
    ),
    ...["", 5, null, []].map((layer) =>
      refusal(`has the layer ${write(layer)}`, /^`w\.layer` must /, () =>
        withParameters([{ name: "w", data: buffer(1), layer }]),
      ),
    ),
    ...[["1"], [1.5], [-1], 1, "1", null, {}, [NaN], new Array(1)].map((shape) =>
      refusal(`has the shape ${write(shape)}`, /^`w\.shape` must /, () =>
        withParameters([{ name: "w", data: buffer(1), shape }]),
      ),
    ),
    refusal("has a tag that is the name of a parameter without one", /^`layer` must .*"w"/, () =>
      withParameters([
        { name: "w", data: buffer(1) },
        { name: "b", data: buffer(1), layer: "w" },
      ]),
    ),
    refusal("has a tag that is the index of a parameter without one", /^`layer` must .*"1"/, () =>
      withParameters([{ data: buffer(1), layer: "1" }, buffer(1)]),
    ),
    refusal("has a β₃ that differs inside a layer", /^`betas` .*layer "head".* 0\.9 and 0\.5/, () =>
      withParameters([
        groupOf([{ name: "w", data: buffer(1), layer: "head" }]),
        groupOf([{ name: "b", data: buffer(1), layer: "head" }], { betas: [0.9, 0.999, 0.5] }),
      ]),
    ),
  ]);

  test("a tag may be the name of a tagged parameter, and β₃ may differ between layers", () => {
    const optimizer = withParameters([
      groupOf([{ name: "w", data: buffer(1), layer: "b" }]),
      groupOf([{ name: "b", data: buffer(1), layer: "c" }], { betas: [0.9, 0.999, 0.5] }),
    ]);
    expect(optimizer.layers).toEqual(["b", "c"]);
  });

  test("a β₃ that was changed inside a layer is refused at the next step", async () => {
    const data = [buffer(1), buffer(2)] as const;
    const optimizer = withParameters(data.map((one) => groupOf([{ data: one, layer: "head" }])));
    Object.assign(optimizer.paramGroups[1] as object, { betas: [0.9, 0.999, 0.5] });
    const error = await thrownBy(() => optimizer.step([[buffer(1), buffer(1)]]));
    checkError(error, "ERR_MTADAM_OPTION");
    expect([...(await data[0].download()), ...(await data[1].download())]).toEqual([1, 2]);
    Object.assign(optimizer.paramGroups[1] as object, { betas: [0.9, 0.999, 0.9] });
    optimizer.step([[buffer(1), buffer(1)]]);
    expect(optimizer.iterations).toBe(1);
  });
});
