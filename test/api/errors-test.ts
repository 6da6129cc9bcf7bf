/**
 * What a wrong argument gives: an MTAdamError with its code and one sentence, thrown before anything has changed.
 */

import { inspect } from "node:util";
import {
  DeviceBuffer,
  MTAdam,
  MTAdamError,
  openDevice,
  type GroupOptions,
  type MTAdamErrorCode,
  type MTAdamOptions,
  type StateDict,
} from "../../lib";
import { onCpu, testDevice } from "../support/device";
import {
  contents,
  device,
  inArray,
  inBuffer,
  Scene,
  type Buffer32,
  type Make,
  type Tensor,
} from "../support/scene";

const buffer = inBuffer;
const array = inArray;

/** A scene that has made a step, so that a refused call has something to lose. */
class Subject<T extends Tensor = Buffer32> extends Scene<T> {
  readonly g = this.gradients();

  constructor(make: Make<T>) {
    super(make);
    this.optimizer.step([this.g, [this.g[0], null]]);
  }
}

const onDevice = (): Subject => new Subject(inBuffer);
const inArrays = (): Subject<Float32Array> => new Subject(inArray);

/** Everything that a call can change; the error's code if the state cannot be read. */
async function everything({ optimizer, w, b, g }: Subject<Tensor>): Promise<unknown> {
  return {
    tensors: await Promise.all([w, b, ...g].map(contents)),
    state: await optimizer.stateDict().catch((error: unknown) => (error as MTAdamError).code),
    iterations: optimizer.iterations,
    weights: [...optimizer.weights],
    groups: inspect(optimizer.paramGroups),
  };
}

async function thrownBy(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

function checkError(error: unknown, code: MTAdamErrorCode): asserts error is MTAdamError {
  expect(error).toBeInstanceOf(MTAdamError);
  const { name, message, code: actual } = error as MTAdamError;
  expect({ name, code: actual, message }).toEqual({ name: "MTAdamError", code, message });
  // One sentence: it ends in a period, and no other sentence ends before.
  expect(message).toMatch(/[^.]\.$/);
  expect(message).not.toMatch(/[.?!]\s/);
  // No address, in hexadecimal or in decimal.
  expect(message).not.toMatch(/0x[0-9a-f]+|\d{9,}/i);
}

interface Refusal<S> {
  what: string;
  /** In the message. */
  says: RegExp;
  /** Runs before the call: a misuse that only the next step can detect. */
  given?: (subject: S) => unknown;
  call: (subject: S) => unknown;
  /** Where only the system can tell: an error from below, with a cause. */
  fromBelow?: boolean;
}

function refusal<S extends Subject<Tensor> = Subject>(
  what: string,
  says: RegExp,
  call: (subject: S) => unknown,
  given?: (subject: S) => unknown,
): Refusal<S> {
  return { what, says, call, ...(given === undefined ? {} : { given }) };
}

/** A test per case. */
function refuses<S extends Subject<Tensor>>(
  code: MTAdamErrorCode,
  make: () => S,
  cases: readonly Refusal<S>[],
): void {
  test.each(cases.map((one) => [one.what, one] as const))(`${code}: %s`, async (_, one) => {
    const subject = make();
    await one.given?.(subject);
    const before = await everything(subject);
    const error = await thrownBy(() => one.call(subject));
    expect(await everything(subject)).toEqual(before);
    checkError(error, code);
    expect(error.message).toMatch(one.says);
    // Checked in TypeScript: an error of native code would be the cause.
    if (one.fromBelow !== true) expect(error.cause).toBeUndefined();
  });
}

const write = (value: unknown): string => inspect(value, { breakLength: Infinity, depth: 2 });

/** An optimizer with these options, of whatever type. */
const withOptions = (options: object): MTAdam => new MTAdam([buffer(1)], { terms: ["a", "b"], ...options });

const withParameters = (parameters: unknown): MTAdam => new MTAdam(parameters as Buffer32[], { terms: 1 });

const notNumbers = [NaN, Infinity, -Infinity, "1", 1n, null, true, [], {}, Symbol("one")];

describe("a group option out of range", () => {
  const outOfRange: Record<keyof GroupOptions, readonly unknown[]> = {
    lr: [-1, -1e-30, ...notNumbers],
    betas: [
      ...[1, -0.1, 1.1, NaN, Infinity, "0.9", 1n, null, undefined].flatMap((beta) => [
        [beta, 0.999, 0.9],
        [0.9, beta, 0.9],
      ]),
      ...[-0.1, 1.1, NaN, "0.9", null].map((beta) => [0.9, 0.999, beta]),
      ...[[], [0.9, 0.999], [0.9, 0.999, 0.9, 0.9], new Array(3)],
      ...[0.9, "0.9", null, {}, { 0: 0.9, 1: 0.999, 2: 0.9, length: 3 }, Float64Array.of(0.9, 0.999, 0.9)],
    ],
    eps: [0, -0, -1e-8, ...notNumbers],
    weightDecay: [-1e-3, ...notNumbers],
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
    [-1, ...notNumbers, undefined, () => 1, Promise.resolve(1)].map((value) =>
      refusal(
        `lr as a function that returns ${write(value)}`,
        /^`lr` must return /,
        ({ optimizer, g }) => optimizer.accumulate(0, g),
        ({ optimizer }) => (optimizer.lr = () => value as number),
      ),
    ),
  );

  test.each([
    ["lr", [0, -0, 1e3, 1e-300, () => 0]],
    [
      "betas",
      [
        [0, 0, 0],
        [0.999, 0.9999, 1],
      ],
    ],
    ["eps", [1e-30, 1]],
    ["weightDecay", [0, 10]],
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
    initialNorm: [0, -0, -1, "last", ...notNumbers],
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

describe("a key that is not known", () => {
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

  test("set in a parameter group, it is an error of the language", () => {
    const [group] = onDevice().optimizer.paramGroups as unknown as Record<string, unknown>[];
    expect(() => Object.assign(group as object, { learningRate: 1 })).toThrow(/learningRate/);
  });
});

describe("options that are no object", () => {
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

describe("an option of one call out of range", () => {
  const calls: [what: string, call: (options: object, subject: Subject) => unknown][] = [
    ["step", (options, { optimizer, g }) => optimizer.step([g, g], options)],
    ["accumulate", (options, { optimizer, g }) => optimizer.accumulate("content", g, options)],
    ["stepEach", (options, { optimizer, g }) => optimizer.stepEach([() => g, () => g], options)],
    ["stepEach without a callback", (options, { optimizer }) => optimizer.stepEach([null, null], options)],
  ];
  const each = (option: string, values: readonly unknown[], says: RegExp): Refusal<Subject>[] =>
    calls.flatMap(([what, call]) =>
      values.map((value) =>
        refusal(`${what}, ${option} ${write(value)}`, says, (subject) => call({ [option]: value }, subject)),
      ),
    );
  refuses("ERR_MTADAM_OPTION", onDevice, [
    ...each("gradientScale", [0, -0, -1, ...notNumbers], /^`gradientScale` must .*; got .*\.$/),
    ...each("weights", [[1, -1], [NaN, 1], { content: -1 }, 5, "12", null], /^`weights` must .*; got .*\.$/),
  ]);
  refuses("ERR_MTADAM_LENGTH", onDevice, each("weights", [[], [1], [1, 1, 1]], /^`weights` must have 2 /));
  refuses("ERR_MTADAM_TERM", onDevice, each("weights", [{ nobody: 1 }], /"nobody"/));
  refuses("ERR_MTADAM_OPTION", onDevice, [
    refusal("loadStateDict, strict", /^`strict` must be true or false; got /, async ({ optimizer }) =>
      optimizer.loadStateDict(await optimizer.stateDict(), { strict: 0 } as object),
    ),
  ]);
});

onCpu("a stream", () => {
  const calls: [what: string, call: (options: object, subject: Subject) => unknown][] = [
    ["the optimizer", (options) => withOptions(options)],
    ["step", (options, { optimizer, g }) => optimizer.step([g, g], options)],
    ["accumulate", (options, { optimizer, g }) => optimizer.accumulate(0, g, options)],
    ["stepEach", (options, { optimizer, g }) => optimizer.stepEach([() => g, null], options)],
    ["update", (options, { optimizer }) => optimizer.update(options)],
    ["upload", (options, { w }) => w.upload(array(1, 2, 3), options)],
  ];
  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    calls.flatMap(([what, call]) =>
      ["s", {}, -1, 0.5, 2n ** 64n].map((stream) =>
        refusal(`${write(stream)} for ${what}`, /^`stream` must be the handle .*; got /, (subject) =>
          call({ stream }, subject),
        ),
      ),
    ),
  );
  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    calls.flatMap(([what, call]) =>
      [5, 5n, { ptr: 5n }].map((stream) => ({
        what: `${write(stream)} for ${what}`,
        says: /^`stream` must be left out on the CPU/,
        call: (subject: Subject) => call({ stream }, subject),
        fromBelow: true,
      })),
    ),
  );
});

describe("the weights, set", () => {
  const set =
    (weights: unknown) =>
    ({ optimizer }: Subject): void => {
      optimizer.weights = weights as number[];
    };
  refuses("ERR_MTADAM_OPTION", onDevice, [
    ...[[1, -1], [1, NaN], [1n, 1], { style: Infinity }, 5, null, undefined].map((weights) =>
      refusal(write(weights), /^`weights` must .*; got .*\.$/, set(weights)),
    ),
  ]);
  refuses("ERR_MTADAM_LENGTH", onDevice, [
    refusal("too few", /^`weights` must have 2 /, set([1])),
    refusal("too many", /^`weights` must have 2 /, set([1, 1, 1])),
  ]);
  refuses("ERR_MTADAM_TERM", onDevice, [refusal("of no term", /"nobody"/, set({ nobody: 1 }))]);
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

  test("a tag may be the name of a parameter that has one, and β₃ may differ between layers", () => {
    const optimizer = withParameters([
      groupOf([{ name: "w", data: buffer(1), layer: "b" }]),
      groupOf([{ name: "b", data: buffer(1), layer: "c" }], { betas: [0.9, 0.999, 0.5] }),
    ]);
    expect(optimizer.layers).toEqual(["b", "c"]);
  });

  test("a β₃ that is made to differ inside a layer is noticed at the next step", async () => {
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

describe("a wrong length", () => {
  refuses("ERR_MTADAM_LENGTH", onDevice, [
    refusal("of a parameter's data", /`w\.length` must .*3.*; got 4/, () =>
      withParameters([{ name: "w", data: buffer(1, 2, 3), length: 4 }]),
    ),
    ...[-1, 0.5, NaN, Infinity, "3", 3n, null].map((length) =>
      refusal(`of a parameter: ${write(length)}`, /`w\.length` must /, () =>
        withParameters([{ name: "w", data: buffer(1, 2, 3), length }]),
      ),
    ),
    refusal("of a parameter's shape", /`w\.shape` must .*3.*\[2, 2\]/, () =>
      withParameters([{ name: "w", data: buffer(1, 2, 3), shape: [2, 2] }]),
    ),
    ...[[], [null], [null, null, null]].flatMap((list) => [
      refusal(
        `of step's list of terms: ${list.length}`,
        /^`gradients` must have 2 entries, one per term/,
        ({ optimizer }: Subject) => optimizer.step(list),
      ),
      refusal(
        `of step's list of parameters: ${list.length}`,
        /^`gradients` must have 2 entries, one per parameter/,
        ({ optimizer }: Subject) => optimizer.step([null, list]),
      ),
      refusal(
        `of prepare's list of terms: ${list.length}`,
        /^`gradients` must have 2 entries, one per term/,
        ({ optimizer }: Subject) => optimizer.prepare(list),
      ),
      refusal(
        `of accumulate's list: ${list.length}`,
        /^`gradients` must have 2 entries, one per parameter/,
        ({ optimizer }: Subject) => optimizer.accumulate(0, list),
      ),
      refusal(
        `of stepEach's list: ${list.length}`,
        /^`callbacks` must have 2 entries, one per term/,
        ({ optimizer }: Subject) => optimizer.stepEach(list),
      ),
      refusal(
        `of addGradients's target: ${list.length}`,
        /^`target` must have 2 entries, one per parameter/,
        ({ optimizer, g }: Subject) => optimizer.addGradients(list, g),
      ),
      refusal(
        `of addGradients's source: ${list.length}`,
        /^`source` must have 2 entries, one per parameter/,
        ({ optimizer, g }: Subject) => optimizer.addGradients(g, list),
      ),
    ]),
    ...[buffer(), buffer(1, 2), buffer(1, 2, 3, 4)].flatMap((gradient) => [
      refusal(
        `of a gradient in step: ${gradient.length}`,
        /^`gradients\["style"\]\["w"\]` must have 3 elements/,
        ({ optimizer, g }: Subject) => optimizer.step([g, [gradient, null]]),
      ),
      refusal(
        `of a gradient in accumulate: ${gradient.length}`,
        /^`gradients\["content"\]\["w"\]` must have 3 elements/,
        ({ optimizer }: Subject) => optimizer.accumulate("content", { w: gradient }),
      ),
      refusal(
        `of a gradient in prepared.set: ${gradient.length}`,
        /^`gradients\["content"\]\["w"\]` must have 3 elements/,
        ({ optimizer, g }: Subject) => optimizer.prepare([g, g]).set("content", "w", gradient),
      ),
      refusal(
        `of a gradient in addGradients: ${gradient.length}`,
        /must have 3 elements/,
        ({ optimizer, g }: Subject) => optimizer.addGradients(g, [gradient, g[1]]),
      ),
    ]),
  ]);
});

describe("a term or a parameter that does not exist", () => {
  const noTerms = [
    "nobody",
    "",
    "0",
    2,
    -1,
    0.5,
    NaN,
    "constructor",
    "__proto__",
    null,
    undefined,
    0n,
    Symbol("a"),
    [],
  ];
  refuses("ERR_MTADAM_TERM", onDevice, [
    ...noTerms.flatMap((term) => [
      refusal(
        `accumulate ${write(term)}`,
        /^`term` must be one of the terms \(content, style\) or its index; got /,
        ({ optimizer, g }: Subject) => optimizer.accumulate(term as string, g),
      ),
      refusal(
        `prepared.set ${write(term)}`,
        /^`term` must be one of the terms \(content, style\) or its index; got /,
        ({ optimizer, g }: Subject) => optimizer.prepare([g, g]).set(term as string, "w", null),
      ),
    ]),
    refusal("step by name", /^`term` must .*"nobody"/, ({ optimizer, g }) =>
      optimizer.step({ content: g, nobody: g }),
    ),
    refusal("prepare by name, though it is absent", /^`term` must .*"nobody"/, ({ optimizer, g }) =>
      optimizer.prepare({ content: g, nobody: null }),
    ),
    refusal("stepEach by name", /^`term` must .*"nobody"/, ({ optimizer, g }) =>
      optimizer.stepEach({ content: () => g, nobody: () => g }),
    ),
  ]);
  refuses("ERR_MTADAM_OPTION", onDevice, [
    refusal("step by parameter's name", /"nobody"/, ({ optimizer, g }) =>
      optimizer.step({ content: { w: g[0], nobody: g[0] } }),
    ),
    refusal("accumulate by parameter's name, though it is absent", /"nobody"/, ({ optimizer }) =>
      optimizer.accumulate(0, { nobody: null }),
    ),
    refusal("addGradients by name", /"nobody"/, ({ optimizer, g }) =>
      optimizer.addGradients({ w: g[0] }, { nobody: g[0] }),
    ),
    ...["nobody", "", "0", 2, -1, 0.5, "constructor", null, undefined, 0n, Symbol("w")].map((parameter) =>
      refusal(
        `prepared.set ${write(parameter)}`,
        /^`parameter` must be the name of a parameter or its index; got /,
        ({ optimizer, g }: Subject) => optimizer.prepare([g, g]).set(0, parameter as string, null),
      ),
    ),
  ]);
});

describe("gradients that are neither an array nor an object", () => {
  // The objects among them would otherwise be containers in which every gradient is absent: a forgotten `await`, say.
  const values = [
    ...[5, "w", true, 1n, () => null, array(1, 2, 3), Symbol("w")],
    ...[Promise.resolve([]), new Map(), new ArrayBuffer(12), new DataView(new ArrayBuffer(12))],
  ];
  const calls: [what: string, call: (value: never, subject: Subject) => unknown][] = [
    ["step", (value, { optimizer }) => optimizer.step(value)],
    ["prepare", (value, { optimizer }) => optimizer.prepare(value)],
    ["a term of step", (value, { optimizer }) => optimizer.step([value, null])],
    ["accumulate", (value, { optimizer }) => optimizer.accumulate(0, value)],
    ["a callback's", (value, { optimizer }) => optimizer.stepEach([() => value, null])],
    ["addGradients's target", (value, { optimizer, g }) => optimizer.addGradients(value, g)],
    ["addGradients's source", (value, { optimizer, g }) => optimizer.addGradients(g, value)],
  ];
  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    calls.flatMap(([what, call]) =>
      [...values, buffer(1, 2, 3)]
        // A callback may give a promise.
        .filter((value) => what !== "a callback's" || !(value instanceof Promise))
        .map((value) =>
          refusal(
            `${what}: ${value instanceof DeviceBuffer ? "a buffer" : write(value).slice(0, 40)}`,
            /^`(gradients|target|source)` must .*; got /,
            (subject) => call(value as never, subject),
          ),
        ),
    ),
  );
  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    [null, undefined].flatMap((value) =>
      calls
        .slice(0, 2)
        .map(([what, call]) =>
          refusal(`${what}: ${value}`, /^`gradients` must .*; got /, (subject) =>
            call(value as never, subject),
          ),
        ),
    ),
  );
  refuses("ERR_MTADAM_OPTION", onDevice, [
    ...[5, "f", null, undefined, () => null].map((value) =>
      refusal(`callbacks: ${write(value)}`, /^`callbacks` must /, ({ optimizer }: Subject) =>
        optimizer.stepEach(value as never),
      ),
    ),
    ...[5, "f", true, {}, array(1)].map((value) =>
      refusal(`a callback: ${write(value)}`, /^`callbacks` must be functions/, ({ optimizer, g }: Subject) =>
        optimizer.stepEach({ content: () => g, style: value as never }),
      ),
    ),
  ]);
});

onCpu("anything but a dense array of the dtype", () => {
  const values: [what: string, value: unknown][] = [
    ["a Float64Array", Float64Array.of(1, 2, 3)],
    ["an Int32Array", Int32Array.of(1, 2, 3)],
    ["a Uint16Array", Uint16Array.of(1, 2, 3)],
    ["a Node Buffer", Buffer.alloc(12)],
    ["an array of numbers", [1, 2, 3]],
    ["an empty array", []],
    ["a DataView", new DataView(new ArrayBuffer(12))],
    ["an ArrayBuffer", new ArrayBuffer(12)],
    ["a SharedArrayBuffer", new SharedArrayBuffer(12)],
    ["an object", {}],
    ["an object like an array", { 0: 1, 1: 2, 2: 3, length: 3 }],
    ["an object that says it is one", { [Symbol.toStringTag]: "Float32Array", length: 3 }],
    ["a prototype", Object.create(Float32Array.prototype)],
    ["a proxy", new Proxy(array(1, 2, 3), {})],
    ["a string", "123"],
    ["true", true],
    ["a function", (): void => undefined],
    ["a symbol", Symbol("data")],
    ["a float64 buffer", device.buffer(3, "float64")],
    ["a float16 buffer", device.buffer(3, "float16")],
    ["a bfloat16 buffer", device.buffer(3, "bfloat16")],
  ];
  refuses("ERR_MTADAM_DTYPE", onDevice, [
    ...values.flatMap(([what, value]) => [
      refusal(`${what} as a parameter`, /^`w` must /, () => withParameters([{ name: "w", data: value }])),
      refusal(`${what} as a bare parameter`, /^`0` must /, () => withParameters([value])),
      refusal(`${what} as a gradient`, /^`gradients\["style"\]\["w"\]` must /, ({ optimizer, g }: Subject) =>
        optimizer.step({ content: g, style: { w: value as Buffer32 } }),
      ),
      refusal(
        `${what} as a prepared gradient`,
        /^`gradients\["content"\]\["w"\]` must /,
        ({ optimizer, g }: Subject) => optimizer.prepare([g, g]).set(0, 0, value as Buffer32),
      ),
      refusal(`${what} as addGradients's target`, /^`target\["w"\]` must /, ({ optimizer, g }: Subject) =>
        optimizer.addGradients([value as Buffer32, g[1]], g),
      ),
      refusal(`${what} as addGradients's source`, /^`source\["b"\]` must /, ({ optimizer, g }: Subject) =>
        optimizer.addGradients(g, [g[0], value as Buffer32]),
      ),
    ]),
    ...[null, undefined].map((value) =>
      refusal(`${value} as a parameter`, /^`w` must /, () => withParameters([{ name: "w", data: value }])),
    ),
    ...["float64", "float16", "Float32", 4, null].map((dtype) =>
      refusal(`the dtype ${write(dtype)} of a parameter`, /^`w\.dtype` must be "float32"/, () =>
        withParameters([{ name: "w", data: buffer(1), dtype }]),
      ),
    ),
    refusal("a target absent where addGradients has a source", /^`target\["b"\]` must /, ({ optimizer, g }) =>
      optimizer.addGradients({ w: g[0] }, g),
    ),
  ]);
});

describe("shared memory", () => {
  // Places in one array of 8: where one tensor lies, and where the other.
  type Place = [begin: number, end: number];
  const overlapping: [what: string, one: Place, other: Place][] = [
    ["the same memory", [0, 4], [0, 4]],
    ["one at the start of the other", [0, 8], [0, 2]],
    ["one in the middle of the other", [0, 8], [3, 5]],
    ["one at the end of the other", [0, 8], [6, 8]],
    ["one that reaches into the other", [0, 4], [2, 6]],
    ["one element of both", [0, 4], [3, 7]],
  ];
  const inBothOrders = overlapping.flatMap(([what, one, other]): [string, Place, Place][] => [
    [what, one, other],
    [`${what}, the other way round`, other, one],
  ]);
  const apart: [what: string, one: Place, other: Place][] = [
    ["next to each other", [0, 4], [4, 8]],
    ["with a gap", [0, 2], [6, 8]],
    ["one empty, inside the other", [0, 8], [4, 4]],
    ["both empty, in one place", [4, 4], [4, 4]],
  ];

  refuses("ERR_MTADAM_INVALID_POINTER", onDevice, [
    refusal("by two parameters in one buffer", /"w" and "b"/, ({ w }) =>
      withParameters([
        { name: "w", data: w },
        { name: "b", data: w },
      ]),
    ),
    refusal(
      "by a gradient and its parameter",
      /^`gradients\["style"\]\["w"\]` must not overlap a parameter; .*"w"/,
      ({ optimizer, w, g }) => optimizer.step([g, [w, g[1]]]),
    ),
    refusal("by a prepared gradient and its parameter", /"b"/, ({ optimizer, b, g }) =>
      optimizer.prepare([g, g]).set("style", "b", b),
    ),
  ]);

  onCpu("arrays", () => {
    const views = (one: Place, other: Place): [Float32Array, Float32Array] => {
      const all = new Float32Array(8).fill(1);
      return [all.subarray(...one), all.subarray(...other)];
    };
    // With another parameter between them in the list: the order of addresses is what counts.
    refuses<Subject<Float32Array>>("ERR_MTADAM_INVALID_POINTER", inArrays, [
      ...inBothOrders.flatMap(([what, one, other]) => [
        refusal<Subject<Float32Array>>(
          `two parameters, ${what}`,
          /^`parameters` must not overlap; got "(w" and "b|b" and "w)"/,
          () => {
            const [w, b] = views(one, other);
            return withParameters([
              { name: "w", data: w },
              { name: "between", data: array(1) },
              { name: "b", data: b },
            ]);
          },
        ),
        refusal<Subject<Float32Array>>(
          `a gradient and a parameter, ${what}`,
          /^`gradients\["0"\]\["w"\]` must not overlap a parameter; .*"b"/,
          () => {
            const [b, gradient] = views(one, other);
            const w = new Float32Array(gradient.length);
            const optimizer = withParameters([
              { name: "between", data: array(1) },
              { name: "w", data: w },
              { name: "b", data: b },
            ]);
            try {
              optimizer.accumulate(0, { w: gradient });
            } finally {
              expect([...w, ...b].every((value, k) => value === (k < w.length ? 0 : 1))).toBe(true);
            }
          },
        ),
      ]),
    ]);

    test.each(apart)("two parameters may lie %s", (_, one, other) => {
      const [w, b] = views(one, other);
      const optimizer = withParameters([w, b]);
      optimizer.step([[new Float32Array(w.length).fill(1), new Float32Array(b.length).fill(1)]]);
      expect([...w, ...b].every((value) => value < 1)).toBe(true);
    });

    test.each(apart)("a gradient and a parameter may lie %s", (_, one, other) => {
      const [w, gradient] = views(one, other);
      const b = new Float32Array(gradient.length);
      withParameters([w, b]).step([[null, gradient]]);
      expect([...w].every((value) => value === 1)).toBe(true);
      expect([...b].every((value) => value < 0)).toBe(true);
    });
  });

  test("two terms may share a gradient", async () => {
    const { optimizer, w, g } = onDevice();
    const before = await w.download();
    optimizer.step([g, g]);
    expect(await w.download()).not.toEqual(before);
  });
});

onCpu("a bare pointer", () => {
  const pointers: [what: string, value: (w: Buffer32) => unknown][] = [
    ["a bigint", () => 4096n],
    ["a number", () => 4096],
    ["0", () => 0],
    ["the address of a buffer", (w) => w.ptr],
    ["an object with ptr", (w) => ({ ptr: w.ptr, byteLength: 12 })],
    ["a view of an object with ptr", (w) => ({ buffer: { ptr: w.ptr }, byteOffset: 0, byteLength: 12 })],
    [
      "an array interface",
      (w) => ({
        __cuda_array_interface__: { data: [w.ptr, false], shape: [3], typestr: "<f4", version: 3 },
      }),
    ],
  ];
  refuses(
    "ERR_MTADAM_INVALID_POINTER",
    onDevice,
    pointers.flatMap(([what, value]) => [
      refusal(`${what} as a parameter`, /^`w` must .*CPU/, ({ w }) =>
        withParameters([{ name: "w", data: value(w), length: 3 }]),
      ),
      refusal(`${what} as a gradient`, /^`gradients\["content"\]\["w"\]` must .*CPU/, ({ optimizer, w }) =>
        optimizer.accumulate(0, { w: value(w) as Buffer32 }),
      ),
    ]),
  );
  refuses("ERR_MTADAM_LENGTH", onDevice, [
    refusal("without its length", /^`w\.length` must .*; got undefined/, () =>
      withParameters([{ name: "w", data: 4096n }]),
    ),
  ]);
});

onCpu("an array whose memory may go away", () => {
  type Resizable<T> = new (bytes: number, options: { maxByteLength: number }) => T;
  const resizable = (): ArrayBuffer => new (ArrayBuffer as Resizable<ArrayBuffer>)(12, { maxByteLength: 24 });
  const growable = (): SharedArrayBuffer =>
    new (SharedArrayBuffer as Resizable<SharedArrayBuffer>)(12, { maxByteLength: 24 });
  const arrays: [what: string, make: () => Float32Array][] = [
    ["a resizable buffer", () => new Float32Array(resizable())],
    ["a part of a resizable buffer", () => new Float32Array(resizable(), 0, 3)],
    ["a growable shared buffer", () => new Float32Array(growable())],
    ["a part of a growable shared buffer", () => new Float32Array(growable(), 0, 3)],
  ];
  const says = /fixed size/;
  refuses(
    "ERR_MTADAM_INVALID_POINTER",
    inArrays,
    arrays.flatMap(([what, make]) => [
      refusal(`${what} as a parameter`, says, () => withParameters([make()])),
      refusal(`${what} as a gradient`, says, ({ optimizer }) => optimizer.accumulate(0, [make(), null])),
      refusal(`${what} in addGradients`, says, ({ optimizer, g }) =>
        optimizer.addGradients(g, [make(), null]),
      ),
    ]),
  );

  const detach = ({ buffer }: Float32Array): void => {
    structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
  };
  type Arrays = Subject<Float32Array>;
  const sayings = {
    parameter: /^`b` must keep its 2 elements; got 0, since its ArrayBuffer was detached/,
    gradient: /^`gradients\["content"\]\["w"\]` must keep its 3 elements; got 0, .*detached/,
  };
  const calls: [what: string, call: (subject: Arrays) => unknown, given?: (subject: Arrays) => unknown][] = [
    ["step", ({ optimizer }) => optimizer.step([[array(1, 1, 1), null], null])],
    ["accumulate", ({ optimizer }) => optimizer.accumulate(0, [array(1, 1, 1), null])],
    ["update", ({ optimizer }) => optimizer.update()],
    [
      "update of an open step",
      ({ optimizer }) => optimizer.update(),
      ({ optimizer, g }) => optimizer.accumulate(0, g),
    ],
    ["stepEach", ({ optimizer }) => optimizer.stepEach([() => [array(1, 1, 1), null], null])],
    ["stepEach of nothing", ({ optimizer }) => optimizer.stepEach({})],
  ];
  refuses("ERR_MTADAM_LENGTH", inArrays, [
    ...calls.map(([what, call, given]) =>
      refusal(`a parameter detached before ${what}`, sayings.parameter, call, (subject: Arrays) => {
        given?.(subject);
        detach(subject.b);
      }),
    ),
    refusal(
      "a parameter detached before the optimizer is made",
      /^`w/,
      ({ g }) => withParameters([{ name: "w", data: g[0], length: 3 }]),
      ({ g }) => detach(g[0]),
    ),
    refusal(
      "a gradient that step had last time, detached since",
      sayings.gradient,
      ({ optimizer, g }) => optimizer.step([g, null]),
      ({ g }) => detach(g[0]),
    ),
    refusal(
      "a gradient that accumulate had last time, detached since",
      sayings.gradient,
      ({ optimizer, g }) => optimizer.accumulate(0, g),
      ({ g }) => detach(g[0]),
    ),
    refusal(
      "a new gradient, detached already",
      /^`gradients\["content"\]\["w"\]` must have 3 elements/,
      ({ optimizer }) => {
        const gradient = array(1, 1, 1);
        detach(gradient);
        optimizer.step([[gradient, null], null]);
      },
    ),
  ]);

  test("a prepared gradient that was detached is noticed by step and by zero", async () => {
    const subject = inArrays();
    const [gradient, other] = [array(1, 1, 1), array(1, 1)];
    const prepared = subject.optimizer.prepare([[gradient, other], null]);
    detach(gradient);
    const before = await everything(subject);
    for (const call of [() => subject.optimizer.step(prepared), () => prepared.zero()]) {
      const error = await thrownBy(call);
      checkError(error, "ERR_MTADAM_LENGTH");
      expect(error.message).toMatch(sayings.gradient);
    }
    expect(await everything(subject)).toEqual(before);
    expect(other).toEqual(array(1, 1));
    prepared.set(0, 0, array(1, 1, 1));
    subject.optimizer.step(prepared);
    expect(subject.optimizer.iterations).toBe(2);
  });
});

describe("use after dispose", () => {
  const calls: [what: string, call: (subject: Subject) => unknown][] = [
    ["step", ({ optimizer, g }) => optimizer.step([g, g])],
    ["accumulate", ({ optimizer, g }) => optimizer.accumulate(0, g)],
    ["update", ({ optimizer }) => optimizer.update()],
    ["stepEach", ({ optimizer, g }) => optimizer.stepEach([() => g, null])],
    ["prepare", ({ optimizer, g }) => optimizer.prepare([g, g])],
    ["addGradients", ({ optimizer, g }) => optimizer.addGradients(g, g)],
    ["norms", ({ optimizer }) => optimizer.norms()],
    ["stateDict", ({ optimizer }) => optimizer.stateDict()],
    ["loadStateDict", ({ optimizer }) => optimizer.loadStateDict({} as StateDict)],
    ["synchronize", ({ optimizer }) => optimizer.synchronize()],
    ["synchronizeSync", ({ optimizer }) => optimizer.synchronizeSync()],
  ];
  refuses(
    "ERR_MTADAM_DISPOSED",
    onDevice,
    calls.map(([what, call]) =>
      refusal(`of the optimizer: ${what}`, /optimizer has been disposed of/, call, ({ optimizer }) =>
        optimizer.dispose(),
      ),
    ),
  );
  refuses("ERR_MTADAM_DISPOSED", onDevice, [
    ...calls
      .slice(0, 4)
      .map(([what, call]) =>
        refusal(`of a parameter's buffer: ${what}`, /^`b` must be a live buffer/, call, ({ b }: Subject) =>
          b.dispose(),
        ),
      ),
    ...[calls[0], calls[1], calls[3], calls[4]].flatMap((one) =>
      one === undefined
        ? []
        : refusal(
            `of a gradient's buffer: ${one[0]}`,
            /^`gradients\["(content|style)"\]\["b"\]` must be a live buffer/,
            one[1],
            ({ g }: Subject) => g[1].dispose(),
          ),
    ),
    refusal(
      "of a gradient's buffer: addGradients",
      /^`source\["b"\]` must be a live buffer/,
      ({ optimizer, g }) => optimizer.addGradients([buffer(1, 1, 1), buffer(1, 1)], g),
      ({ g }) => g[1].dispose(),
    ),
    refusal(
      "of a buffer that becomes a parameter",
      /^`0` must be a live buffer/,
      ({ g }) => withParameters([g[1]]),
      ({ g }) => g[1].dispose(),
    ),
    ...(
      [
        ["ptr", (one) => one.ptr],
        ["upload", (one) => one.upload(array(1, -1))],
        ["download", (one) => one.download()],
        ["fill", (one) => one.fill(0)],
      ] as [string, (one: Buffer32) => unknown][]
    ).map(([what, call]) =>
      refusal(
        `of a buffer: ${what}`,
        /buffer has been disposed of/,
        ({ g }: Subject) => call(g[1]),
        ({ g }: Subject) => g[1].dispose(),
      ),
    ),
  ]);

  test("of a prepared gradient's buffer: noticed by step and by zero", async () => {
    const subject = onDevice();
    const gradient = buffer(1, 1, 1);
    const prepared = subject.optimizer.prepare([[gradient, null], null]);
    gradient.dispose();
    const before = await everything(subject);
    for (const call of [() => subject.optimizer.step(prepared), () => prepared.zero()]) {
      checkError(await thrownBy(call), "ERR_MTADAM_DISPOSED");
    }
    expect(await everything(subject)).toEqual(before);
  });

  test("of a device: nothing new is made on it", async () => {
    const own = testDevice({ threads: 1 });
    const data = own.buffer(1);
    own.dispose();
    for (const call of [
      () => own.buffer(1),
      () => DeviceBuffer.from(array(1), own),
      () => new MTAdam([data], { terms: 1 }),
      () => new MTAdam([data], { terms: 1, device: own }),
    ]) {
      checkError(await thrownBy(call), "ERR_MTADAM_DISPOSED");
    }
  });

  test("a second dispose does nothing", () => {
    const { optimizer, w } = onDevice();
    const own = testDevice({ threads: 1 });
    for (const one of [optimizer, w, own]) {
      one.dispose();
      one.dispose();
      one[Symbol.dispose]();
    }
  });
});

describe("a state that does not fit", () => {
  const changed =
    (change: (state: StateDict) => unknown) =>
    async ({ optimizer }: Subject): Promise<void> => {
      const state = await optimizer.stateDict();
      change(state);
      await optimizer.loadStateDict(state);
    };
  refuses("ERR_MTADAM_CHECKPOINT", onDevice, [
    ...[undefined, null, 5, "state", [], {}, { metadata: null }, { metadata: {} }].map((value) =>
      refusal(write(value), /^The state must /, ({ optimizer }) => optimizer.loadStateDict(value as never)),
    ),
    refusal(
      "another version",
      /version 1; got 2/,
      changed(({ metadata }) => Object.assign(metadata, { version: 2 })),
    ),
    refusal(
      "another term",
      /term "style"/,
      changed(({ metadata }) => (metadata.terms[1] = "other")),
    ),
    refusal(
      "a last tensor too short",
      /`v\.1\.1`, a Float32Array of 2; got a Float32Array of 1/,
      changed((state) => (state["v.1.1"] = array(1))),
    ),
    refusal(
      "no last tensor",
      /`v\.1\.1`/,
      changed((state) => Reflect.deleteProperty(state, "v.1.1")),
    ),
    refusal(
      "a tensor of another type",
      /`m\.0\.0`, a Float32Array of 3; got an array of 3/,
      changed((state) => Object.assign(state, { "m.0.0": [1, 2, 3] })),
    ),
  ]);
});

describe("a device that does not exist", () => {
  refuses("ERR_MTADAM_OPTION", onDevice, [
    ...["gpu", "", "CPU", "cuda:", "cuda:x", "cuda:-1", " cpu", 0, null, {}, Symbol("cpu")].map((name) =>
      refusal(write(name), /^`device` must be .*; got /, () => openDevice(name as string)),
    ),
    ...[0, -1, 1.5, NaN, Infinity, 1025, "4", 4n, true].map((threads) =>
      refusal(
        `with threads ${write(threads)}`,
        /^`threads` must be a whole number from 1 to 1024; got /,
        () => openDevice("cpu", { threads: threads as number }),
      ),
    ),
    refusal("with an instruction set that is no string", /^`instructionSet` must be a string; got 5/, () =>
      openDevice("cpu", { instructionSet: 5 as never }),
    ),
    refusal(
      "with an option, of which CUDA has none",
      /^`options` has no option "threads" \(it knows none\)/,
      () => (openDevice as (name: string, options: object) => unknown)("cuda", { threads: 1 }),
    ),
    {
      what: "with an instruction set that there is none of",
      says: /^`instructionSet` must .*; got "mmx"/,
      call: () => openDevice("cpu", { instructionSet: "mmx" }),
      fromBelow: true,
    },
  ]);
  test("on any machine", () => {
    // Which it is, the machine decides: no CUDA in the build, no driver, no such device.
    const error = expect.objectContaining({
      code: expect.stringMatching(/^ERR_MTADAM_(NO_DEVICE|DRIVER)$/) as string,
    }) as Error;
    expect(() => openDevice("cuda:4095")).toThrow(error);
  });
});

describe("asynchronous calls", () =>
  test.each<[string, (subject: Subject) => unknown]>([
    ["stepEach", ({ optimizer }) => optimizer.stepEach(5 as never)],
    ["norms", ({ optimizer }) => optimizer.norms()],
    ["stateDict", ({ optimizer }) => optimizer.stateDict()],
    ["loadStateDict", ({ optimizer }) => optimizer.loadStateDict(5 as never)],
    ["synchronize", ({ optimizer }) => optimizer.synchronize()],
    ["download", ({ w }) => w.download()],
  ])("%s rejects instead of throwing", async (_, call) => {
    const subject = onDevice();
    subject.optimizer.dispose();
    subject.w.dispose();
    await expect(call(subject)).rejects.toBeInstanceOf(MTAdamError);
  }));
