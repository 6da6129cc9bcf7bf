/** Hostile input that could crash the process: each case runs in a separate process. */

import { spawn } from "node:child_process";
import path from "node:path";
import type * as mtadam from "../../lib";

type Library = typeof mtadam;

/** Runs a function in a separate process; it must not refer to anything outside itself. */
function isolated(scenario: (library: Library) => unknown, ...flags: string[]): Promise<string> {
  const root = JSON.stringify(path.join(__dirname, "../.."));
  const source = `
    const library = require(${root});
    Promise.resolve(library).then(${scenario.toString()}).then(
      () => console.log("works"),
      (error) => console.log(error instanceof library.MTAdamError ? error.code : String(error)),
    );`;
  const child = spawn(process.execPath, [...flags, "-e", source], {
    timeout: 60_000, // all of them start at once, on a machine that may be slow
    stdio: ["ignore", "pipe", "ignore"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve(code === 0 ? output.trim() : `ended by ${signal ?? `code ${String(code)}`}`);
    });
  });
}

describe("in a separate process", () => {
  const small = "--max-old-space-size=64";
  const scenarios: [
    what: string,
    expected: RegExp,
    scenario: (library: Library) => unknown,
    ...flags: string[],
  ][] = [
    [
      "a buffer disposed of while upload looks at the length",
      /^(works|ERR_MTADAM_\w+)$/,
      ({ openDevice }) => {
        const buffer = openDevice("cpu").buffer(0);
        const array = new Float32Array(0);
        Object.defineProperty(array, "length", { get: () => (buffer.dispose(), 0) });
        buffer.upload(array);
      },
    ],
    [
      "a buffer disposed of while download looks at the length",
      /^(works|ERR_MTADAM_\w+)$/,
      ({ openDevice }) => {
        const buffer = openDevice("cpu").buffer(0);
        const array = new Float32Array(0);
        Object.defineProperty(array, "length", { get: () => (buffer.dispose(), 0) });
        return buffer.download(array);
      },
    ],
    [
      "betas that take a parameter away when they become numbers",
      /^(works|ERR_MTADAM_\w+)$/,
      ({ MTAdam, openDevice }) => {
        const data = openDevice("cpu").buffer(1000);
        const optimizer = new MTAdam([data], { terms: 1 });
        const beta = { valueOf: () => (data.dispose(), 0.9) };
        const betas = Object.assign([0.9, 0.999, 0.9], {
          every: () => true,
          [Symbol.iterator]: () => [beta, 0.999, 0.9][Symbol.iterator](),
        });
        Object.assign(optimizer.paramGroups[0] as object, { betas });
        optimizer.step([[new Float32Array(1000)]]);
      },
    ],
    [
      "a shape of four billion holes",
      /^ERR_MTADAM_OPTION$/,
      ({ MTAdam }) =>
        new MTAdam([{ data: new Float32Array(1), shape: new Array<number>(2 ** 32 - 1) }], { terms: 1 }),
    ],
    [
      "a list of parameters of four billion holes",
      /^ERR_MTADAM_\w+$/,
      ({ MTAdam }) => new MTAdam(new Array<Float32Array>(2 ** 32 - 1), { terms: 1 }),
    ],
    [
      "a group with four billion holes",
      /^ERR_MTADAM_\w+$/,
      ({ MTAdam }) => new MTAdam([{ parameters: new Array<Float32Array>(2 ** 32 - 1) }], { terms: 1 }),
    ],
    [
      "terms, weights, gradients and callbacks of four billion holes",
      /^works$/,
      async ({ MTAdam }) => {
        const holes = new Array<never>(2 ** 32 - 1);
        const data = new Float32Array(1);
        const optimizer = new MTAdam([data], { terms: 2 });
        const calls: (() => unknown)[] = [
          () => new MTAdam([data], { terms: holes }),
          () => new MTAdam([data], { terms: 2, weights: holes }),
          () => new MTAdam([data], { terms: 2, betas: holes as never }),
          () => optimizer.step(holes),
          () => optimizer.accumulate(0, holes),
          () => optimizer.stepEach(holes),
          () => optimizer.addGradients(holes, holes),
          () => optimizer.step([null, null], { weights: holes }),
        ];
        for (const call of calls) {
          const error: unknown = await Promise.resolve()
            .then(call)
            .catch((reason: unknown) => reason);
          if (!(error as { code: string }).code.startsWith("ERR_MTADAM_")) throw error;
        }
      },
    ],
    // Gradients in place of options, as after a misplaced comma: each element would become a property.
    [
      "a long array as the options of step",
      /^ERR_MTADAM_OPTION$/,
      ({ MTAdam }) =>
        new MTAdam([new Float32Array(1)], { terms: 1 }).step([null], new Float32Array(2 ** 23) as object),
      small,
    ],
    [
      "a long array as the optimizer's options",
      /^ERR_MTADAM_OPTION$/,
      ({ MTAdam }) => new MTAdam([new Float32Array(1)], new Float32Array(2 ** 23) as never),
      small,
    ],
    [
      "a long typed array as weights",
      /^ERR_MTADAM_(OPTION|LENGTH|TERM)$/,
      ({ MTAdam }) =>
        new MTAdam([new Float32Array(1)], { terms: 2, weights: new Float32Array(2 ** 23) as never }),
      small,
    ],
    [
      "long arrays to addGradients",
      /^ERR_MTADAM_(OPTION|LENGTH)$/,
      ({ MTAdam }) => {
        const data = new Float32Array(2 ** 23);
        new MTAdam([data], { terms: 1 }).addGradients(data.slice() as never, data.slice() as never);
      },
      small,
    ],
    [
      "a long array as callbacks",
      /^ERR_MTADAM_(OPTION|LENGTH|TERM)$/,
      ({ MTAdam }) =>
        new MTAdam([new Float32Array(1)], { terms: 1 }).stepEach(new Float32Array(2 ** 23) as never),
      small,
    ],
    [
      "an option with a name of sixteen million letters",
      /^ERR_MTADAM_OPTION$/,
      ({ MTAdam }) => new MTAdam([new Float32Array(1)], { terms: 1, ["x".repeat(2 ** 24)]: 1 }),
    ],
    [
      "names and messages of ten million letters",
      /^ERR_MTADAM_\w+$/,
      ({ MTAdam }) => {
        const name = "x".repeat(1e7);
        new MTAdam([{ name, data: new Float32Array(1), layer: name }], { terms: [name], lr: name as never });
      },
    ],
  ];
  test.concurrent.each(scenarios)("%s", async (_, expected, scenario, ...flags) => {
    expect(await isolated(scenario, ...flags)).toMatch(expected);
  });
});
