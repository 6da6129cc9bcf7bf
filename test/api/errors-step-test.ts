/** Errors of step, accumulate, stepEach, update and prepare: options of a call, lengths, terms, gradients. */

import { DeviceBuffer } from "../../lib";
import { onCpu } from "../support/device";
import {
  array,
  buffer,
  notNumbers,
  onDevice,
  type Refusal,
  refusal,
  refuses,
  type Subject,
  withOptions,
  withParameters,
  write,
} from "../support/refusals";

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
    ...each(
      "gradientScale",
      [0, -0, -1, 5e-324, 1e-39, 1e39, 1e60, ...notNumbers],
      /^`gradientScale` must .*; got .*\.$/,
    ),
    ...each(
      "weights",
      [[1, -1], [NaN, 1], [1, 1e39], { content: -1 }, 5, "12", null],
      /^`weights` must .*; got .*\.$/,
    ),
  ]);
  refuses(
    "ERR_MTADAM_OPTION",
    onDevice,
    calls.flatMap(([what, call]) => {
      const says = /^`weights \/ gradientScale` must be finite, .*; got 1e\+40\.$/;
      return [
        refusal(`${what}, weights of the call that gradientScale brings out of float32`, says, (subject) =>
          call({ weights: [1, 1e20], gradientScale: 1e-20 }, subject),
        ),
        refusal(
          `${what}, the optimizer's weights`,
          says,
          (subject) => call({ gradientScale: 1e-20 }, subject),
          ({ optimizer }) => (optimizer.weights = [1, 1e20]),
        ),
      ];
    }),
  );
  test("the ends of the range of gradientScale are in it", () => {
    for (const gradientScale of [1e-38, 3e38]) {
      const { optimizer, g } = onDevice();
      optimizer.step([g, g], { gradientScale });
      expect(optimizer.iterations).toBe(2);
    }
  });
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

describe("a step that names no term", () => {
  const says = (what: string): RegExp =>
    new RegExp(`^\`${what}\` must name at least 1 of the terms \\(content, style\\); got 0\\.$`);
  refuses("ERR_MTADAM_TERM", onDevice, [
    refusal("step", says("gradients"), ({ optimizer }) => optimizer.step({})),
    refusal("stepEach", says("callbacks"), ({ optimizer }) => optimizer.stepEach({})),
  ]);

  test.each([null, undefined])("one term that is %p: a step in which all are absent", async (content) => {
    const { optimizer, w } = onDevice();
    const before = await w.download();
    optimizer.step({ content });
    await optimizer.stepEach({ content });
    expect(optimizer.iterations).toBe(3);
    expect(await w.download()).toEqual(before);
  });

  test("prepare, whose gradients may be set later", () => {
    const { optimizer, g } = onDevice();
    const prepared = optimizer.prepare({});
    prepared.set("content", "w", g[0]);
    optimizer.step(prepared);
    expect(optimizer.iterations).toBe(2);
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
        /^`gradients\["style"\]` must have 2 entries, one per parameter/,
        ({ optimizer }: Subject) => optimizer.step([null, list]),
      ),
      refusal(
        `of prepare's list of terms: ${list.length}`,
        /^`gradients` must have 2 entries, one per term/,
        ({ optimizer }: Subject) => optimizer.prepare(list),
      ),
      refusal(
        `of accumulate's list: ${list.length}`,
        /^`gradients\["content"\]` must have 2 entries, one per parameter/,
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
    refusal("step by name", /^`gradients` must have names of terms .*"nobody"/, ({ optimizer, g }) =>
      optimizer.step({ content: g, nobody: g }),
    ),
    refusal("prepare by name, though it is absent", /^`gradients` must .*"nobody"/, ({ optimizer, g }) =>
      optimizer.prepare({ content: g, nobody: null }),
    ),
    refusal("stepEach by name", /^`callbacks` must .*"nobody"/, ({ optimizer, g }) =>
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
        /^`parameter` must be one of the parameters \(w, b\) or its index; got /,
        ({ optimizer, g }: Subject) => optimizer.prepare([g, g]).set(0, parameter as string, null),
      ),
    ),
  ]);
});

describe("gradients that are neither an array nor an object", () => {
  // Otherwise, an object such as a promise without its `await` would be a container in which every gradient is absent.
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
        // A callback may return a promise.
        .filter((value) => what !== "a callback's" || !(value instanceof Promise))
        .map((value) =>
          refusal(
            `${what}: ${value instanceof DeviceBuffer ? "a buffer" : write(value).slice(0, 40)}`,
            /^`(gradients(\["\w+"\])?|target|source)` must .*; got /,
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
