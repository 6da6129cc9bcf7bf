/** Checkpoints of very many small tensors take few reads and writes and do not block the event loop. */

import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { performance } from "node:perf_hooks";
import { MTAdam, type MTAdamOptions } from "../../lib";
import { testDevice } from "../support/device";
import { fileHandlePrototype } from "../support/file-handle";
import { temporaryFolder } from "../support/folder";
import { randomSource } from "../support/random";
import { joinSafetensors, splitSafetensors } from "../support/safetensors";

const device = testDevice();
const file = path.join(temporaryFolder(), "state.safetensors");
const TERMS = 4;
const PARAMETERS = 500;

/** Parameters of a few elements, by name. */
const names = Array.from({ length: PARAMETERS }, (_, k) => `layer${k}.weight`);
const lengthOf = (name: string): number => 1 + (Number(/\d+/.exec(name)![0]) % 7);

function make(order = names, options: Partial<MTAdamOptions> = {}): MTAdam {
  const parameters = order.map((name) => ({ name, data: device.buffer(lengthOf(name)) }));
  return new MTAdam(parameters, { terms: TERMS, ...options });
}

/** A step in which each element has a gradient of its own, and the last term is absent. */
function train(optimizer: MTAdam): MTAdam {
  const random = randomSource(5);
  const gradients = Array.from({ length: TERMS - 1 }, () =>
    names.map((name) => device.buffer(Float32Array.from({ length: lengthOf(name) }, () => random() - 0.5))),
  );
  optimizer.step([...gradients, null]);
  return optimizer;
}

/** Counts the reads and writes of all files. */
async function countCalls(): Promise<{ read: number; write: number }> {
  const prototype = await fileHandlePrototype();
  const count = { read: 0, write: 0 };
  for (const name of ["read", "write"] as const) {
    const real = prototype[name] as (...args: unknown[]) => unknown; // eslint-disable-line @typescript-eslint/unbound-method
    jest.spyOn(prototype, name).mockImplementation(function (this: unknown, ...args: unknown[]) {
      ++count[name];
      return real.apply(this, args);
    } as never);
  }
  return count;
}

afterEach(() => {
  jest.restoreAllMocks();
});

/** The file with its tensors in another order of their bytes. */
function reordered(bytes: Buffer, keys: (keys: string[]) => string[]): Buffer {
  const { header, data } = splitSafetensors(bytes);
  const { __metadata__: metadata, ...tensors } = header;
  const inOrder = keys(Object.keys(tensors));
  const changed: Record<string, unknown> = { __metadata__: metadata };
  const pieces: Buffer[] = [];
  let at = 0;
  for (const key of inOrder) {
    const {
      data_offsets: [begin, end],
      ...entry
    } = tensors[key]!;
    changed[key] = { ...entry, data_offsets: [at, (at += end - begin)] };
    pieces.push(data.subarray(begin, end));
  }
  return joinSafetensors(changed, Buffer.concat(pieces));
}

test("are written in one write, and read in a few reads", async () => {
  const optimizer = train(make());
  const count = await countCalls();
  await optimizer.save(file);
  expect(count).toEqual({ read: 0, write: 1 });
  const other = make();
  await other.load(file);
  expect(count).toEqual({ read: 3, write: 1 }); // the header's length, the header, the tensors
  jest.restoreAllMocks();
  expect(await other.stateDict()).toEqual(await optimizer.stateDict());
});

describe.each<[string, (keys: string[]) => string[]]>([
  ["reversed", (keys) => [...keys].reverse()],
  ["by name", (keys) => [...keys].sort()],
])("in a file of another order, %s", (_, order) => {
  test.each<[string, Partial<MTAdamOptions>]>([
    ["as they are", {}],
    ["to be summed", { firstMoment: "summed" }],
  ])("are read in as few, %s", async (_, options) => {
    const optimizer = train(make());
    await optimizer.save(file);
    writeFileSync(file, reordered(readFileSync(file), order));
    const shuffled = [...names].sort();
    const [fromFile, fromDict] = [make(shuffled, options), make(shuffled, options)];
    await fromDict.loadStateDict(await optimizer.stateDict());
    const count = await countCalls();
    await fromFile.load(file);
    expect(count.read).toBeLessThan(8);
    jest.restoreAllMocks();
    expect(await fromFile.stateDict()).toEqual(await fromDict.stateDict());
  });
});

test("that are far apart, together more than a chunk, are read once for the check and once for the load", async () => {
  const LENGTH = 2 ** 17;
  const makeLarge = (count: number): MTAdam =>
    new MTAdam(
      Array.from({ length: count }, (_, k) => ({ name: `p${k}`, data: device.buffer(LENGTH) })),
      { terms: 1 },
    );
  await makeLarge(12).save(file);
  const count = await countCalls();
  await makeLarge(12).load(file);
  const chunks = Math.ceil(readFileSync(file).length / 2 ** 22);
  expect(count.read).toBeLessThanOrEqual(2 + 2 * (chunks + 1));
});

describe("the event loop", () => {
  /** How often other work ran meanwhile, if the clock advances by this much at every reading. */
  async function turns(call: () => Promise<void>): Promise<number> {
    let now = 0;
    jest.spyOn(performance, "now").mockImplementation(() => (now += 1000));
    let count = 0;
    let isOver = false;
    const turn = (): void => {
      ++count;
      if (!isOver) setImmediate(turn);
    };
    turn();
    await call();
    isOver = true;
    jest.restoreAllMocks();
    return count;
  }

  test("gets a turn between any two tensors and any two pieces of a header", async () => {
    const optimizer = train(make());
    const tensors = 2 * TERMS * PARAMETERS;
    expect(await turns(() => optimizer.save(file))).toBeGreaterThan(tensors);
    // Parsed, checked against the optimizer, checked by value, loaded.
    expect(await turns(() => optimizer.load(file))).toBeGreaterThan(4 * tensors);
  });
});
