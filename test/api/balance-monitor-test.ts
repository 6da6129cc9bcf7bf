import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { BalanceMonitor, MTAdam, writeReport, type MTAdamOptions } from "../../lib";
import { caught } from "../support/caught";
import { temporaryFolder } from "../support/folder";
import { device, inBuffer } from "../support/scene";

const folder = temporaryFolder();
let count = 0;
const newFile = (): string => path.join(folder, `${(count += 1)}.jsonl`);

const make = (options: Partial<MTAdamOptions> = {}): MTAdam =>
  new MTAdam(
    ["w", "b"].map((name) => ({ name, data: device.buffer(2) })),
    { terms: ["one", "two"], lr: 0.5, betas: [0.9, 0.999, 0], ...options },
  );

const gradients = (scale: number): [unknown[], unknown[]] => [
  [inBuffer(3 * scale, 0), inBuffer(0, scale)],
  [inBuffer(0, scale), null],
];
const step = (optimizer: MTAdam, scale: number): void => optimizer.step(gradients(scale) as never);

interface Line {
  iteration?: number;
  format?: string;
  values?: Record<string, number | null>;
  lr?: (number | null)[];
  terms?: string[];
}
const linesOf = (file: string): Line[] =>
  fs
    .readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);

describe("a monitor", () => {
  test("writes a header and a record of every `every` steps", async () => {
    const optimizer = make();
    const file = newFile();
    const monitor = new BalanceMonitor(optimizer, { every: 2, file });
    for (let k = 1; k <= 5; ++k) step(optimizer, k);
    await monitor.close();
    const [header, ...records] = linesOf(file);
    expect(header).toEqual({
      format: "mtadam-monitor",
      version: 1,
      terms: ["one", "two"],
      layers: ["w", "b"],
    });
    expect(records.map(({ iteration }) => iteration)).toEqual([2, 4]);
    expect(records[1]).toEqual({
      iteration: 4,
      time: expect.any(Number) as number,
      lr: [0.5],
      values: {},
      norms: [12, 4, 4, null],
      scales: [1, 1, 3, null],
      sharesBefore: [0.75, 1, 0.25, null],
      shares: [0.5, 1, 0.5, null],
      skipped: [0, 0, 0, 0],
      effectiveWeights: [1, 3],
      anchors: [0, 0],
    });
  });

  test("records every 20 steps by default, in a loop that never returns to the event loop, too", async () => {
    const optimizer = make();
    const file = pathToFileURL(newFile());
    const monitor = new BalanceMonitor(optimizer, { file });
    for (let k = 1; k <= 1600; ++k) optimizer.step([null, null]);
    await monitor.close();
    const iterations = linesOf(file.pathname)
      .slice(1)
      .map(({ iteration }) => iteration);
    expect(iterations).toEqual(Array.from({ length: 80 }, (_, k) => 20 * (k + 1)));
  });

  test("writes the means of what is recorded, the rates of a schedule and cosines", async () => {
    const optimizer = make({
      cosines: true,
      lr: (iterations) => (iterations === 3 ? NaN : 1 / (1 + iterations)),
    });
    const file = newFile();
    const monitor = new BalanceMonitor(optimizer, { every: 1, file });
    monitor.record({ loss: 1, "recall/0": 0.5 });
    monitor.record({ loss: 4, "recall/0": null, absent: null });
    step(optimizer, 1);
    monitor.record({ loss: Infinity, __proto__: null });
    step(optimizer, 1);
    await monitor.close();
    const [, first, second] = linesOf(file);
    expect(first).toMatchObject({
      values: { loss: 2.5, "recall/0": 0.5 },
      lr: [1],
      cosines: [1, 1, 0, null, 0, null, 1, null],
    });
    expect(second).toMatchObject({ values: { loss: null }, lr: [0.5] });
    expect(Object.keys(second!.values!)).toEqual(["loss"]);
  });

  test("writes what was recorded after the last record when it is closed", async () => {
    const optimizer = make();
    const file = newFile();
    const monitor = new BalanceMonitor(optimizer, { every: 2, file });
    for (let k = 0; k < 3; ++k) step(optimizer, 1);
    monitor.record({ accuracy: 0.75 });
    await monitor.close();
    expect(linesOf(file).at(-1)).toEqual({
      iteration: 3,
      time: expect.any(Number) as number,
      values: { accuracy: 0.75 },
    });
  });

  test("that is closed before its first record writes one", async () => {
    for (const [steps, lines] of [
      [0, []],
      [1, [{ terms: ["one", "two"] }, { iteration: 1, values: { loss: 2 } }]],
    ] as const) {
      const optimizer = make();
      const file = newFile();
      const monitor = new BalanceMonitor(optimizer, { file });
      monitor.record({ loss: 1 });
      monitor.record({ loss: 3 });
      for (let k = 0; k < steps; ++k) step(optimizer, 1);
      await monitor.close();
      expect(linesOf(file)).toMatchObject(lines);
      await writeReport([file], `${file}.html`);
    }
  });

  test("that is closed before its first record and after its optimizer writes none", async () => {
    const optimizer = make();
    const file = newFile();
    const monitor = new BalanceMonitor(optimizer, { file });
    monitor.record({ loss: 1 });
    step(optimizer, 1);
    optimizer.dispose();
    await monitor.close();
    expect(linesOf(file)).toEqual([]);
  });

  test("writes a new header where terms change, and appends to a file, whose last line may be cut off", async () => {
    const file = newFile();
    fs.writeFileSync(file, '{"format":"mtadam-mon');
    const optimizer = make();
    const monitor = new BalanceMonitor(optimizer, { every: 1, file });
    optimizer.step([null, null]);
    optimizer.addTerm("three");
    optimizer.step([null, null, null]);
    await monitor.close();
    const [cut, ...lines] = fs.readFileSync(file, "utf8").split("\n");
    expect(cut).toBe('{"format":"mtadam-mon');
    const parsed = lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Line);
    expect(parsed.map(({ terms, iteration }) => terms?.length ?? iteration)).toEqual([2, 1, 3, 2]);
  });

  test("ends with close, which may be called again, and with the optimizer", async () => {
    const optimizer = make();
    const file = newFile();
    const monitor = new BalanceMonitor(optimizer, { every: 1, file });
    step(optimizer, 1);
    optimizer.dispose();
    await Promise.all([monitor.close(), monitor.close()]);
    expect(linesOf(file)).toHaveLength(2);
    expect(await caught(() => monitor.record({ loss: 1 }))).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
  });

  test("does not disturb `stepEach`, and no bit of the training", async () => {
    const [plain, watched] = [make(), make()];
    const monitor = new BalanceMonitor(watched, { every: 1, file: newFile() });
    for (const optimizer of [plain, watched]) {
      for (let k = 1; k <= 3; ++k) {
        const [one, two] = gradients(k);
        await optimizer.stepEach([() => one as never, async () => two as never]);
      }
    }
    await monitor.close();
    expect(await watched.stateDict()).toEqual(await plain.stateDict());
  });

  test("stops at an error of the file system with a warning; close rejects with it, and training goes on", async () => {
    const warn = jest.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    const openFile = fs.openSync;
    const open = jest.spyOn(fs, "openSync").mockImplementation(() => openFile("/dev/full", "a"));
    const optimizer = make();
    const monitor = new BalanceMonitor(optimizer, { every: 1, file: newFile() });
    open.mockRestore();
    for (let k = 1; k <= 3; ++k) step(optimizer, k);
    await expect(monitor.close()).rejects.toMatchObject({ code: "ENOSPC" });
    await expect(monitor.close()).rejects.toMatchObject({ code: "ENOSPC" });
    expect(warn.mock.calls).toEqual([
      [expect.stringMatching(/^The balance monitor has stopped: ENOSPC/), { code: "MTADAM_MONITOR_STOPPED" }],
    ]);
    warn.mockRestore();
    expect(optimizer.iterations).toBe(3);
  });
});

test.each([
  [
    () => new BalanceMonitor({} as never, { file: newFile() }),
    "OPTION",
    /^`optimizer` must be an MTAdam; got/,
  ],
  [
    () => new BalanceMonitor(make(), {} as never),
    "OPTION",
    /^`file` must be the path of a file: a string, a file URL or a Buffer; got/,
  ],
  [
    () => new BalanceMonitor(make(), { file: folder }),
    "OPTION",
    /^`file` must be the path of a regular file; got/,
  ],
  [
    () => new BalanceMonitor(make(), { file: new URL("http://a/b") }),
    "OPTION",
    /^`file` must be the path of a file: a string, a file URL or a Buffer/,
  ],
  [
    () => new BalanceMonitor(make(), { file: newFile(), every: 0 }),
    "OPTION",
    /^`every` must be a whole number/,
  ],
  [() => new BalanceMonitor(make(), { file: newFile(), ever: 1 } as never), "OPTION", /did you mean `every`/],
] as const)("refuses %s", async (call, code, message) => {
  expect(await caught(call)).toMatchObject({
    code: `ERR_MTADAM_${code}`,
    message: expect.stringMatching(message) as string,
  });
});

test("refuses values that are not numbers, and then records none of them", async () => {
  const optimizer = make();
  const file = newFile();
  const monitor = new BalanceMonitor(optimizer, { every: 1, file });
  for (const values of [null, [1], { loss: "1" }, { fine: 1, loss: undefined }]) {
    expect(await caught(() => monitor.record(values as never))).toMatchObject({ code: "ERR_MTADAM_OPTION" });
  }
  optimizer.step([null, null]);
  await monitor.close();
  expect(linesOf(file)[1]!.values).toEqual({});
});

test("what only looks like an optimizer is refused, and no file is made", () => {
  const file = path.join(folder, "proxy.jsonl");
  for (const one of [new Proxy(make(), {}), Object.create(MTAdam.prototype) as MTAdam]) {
    expect(() => new BalanceMonitor(one, { file })).toThrow(
      expect.objectContaining({ code: "ERR_MTADAM_OPTION" }) as Error,
    );
  }
  expect(fs.existsSync(file)).toBe(false);
});

test("a folder that is missing is the file system's own error", () => {
  const file = path.join(folder, "missing", "run.jsonl");
  expect(() => new BalanceMonitor(make(), { file })).toThrow(
    expect.objectContaining({ code: "ENOENT" }) as Error,
  );
});
