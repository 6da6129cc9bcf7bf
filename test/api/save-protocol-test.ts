/** `save` and `load` while they run and when they end early: progress, other calls, disposal and errors. */

import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { MTAdam, type CheckpointProgress, type StateDict } from "../../lib";
import { caught } from "../support/caught";
import { testDevice } from "../support/device";
import { emptiedFolder } from "../support/folder";
import { NAMES, Trained } from "../support/trained";

const TERMS = ["a", "b"];
const device = testDevice();
const folder = emptiedFolder();
const file = path.join(folder, "state.safetensors");
const make = (): Trained => new Trained(NAMES, { terms: TERMS });

/** An optimizer after `steps` steps. */
const after = (steps: number): MTAdam => make().train(0, steps, TERMS).optimizer;

/** An optimizer whose state takes several chunks of a file. */
const large = (): MTAdam => new MTAdam([device.buffer(2 ** 21)], { terms: 1 });

const OPERATIONS = ["save", "load"] as const;

/** The file of an optimizer after three steps; alone in its folder. */
let saved: StateDict;
beforeEach(async () => {
  const optimizer = after(3);
  await optimizer.save(file);
  saved = await optimizer.stateDict();
});

/** Whether the file is as it was. */
async function expectOldFile(): Promise<void> {
  expect(readdirSync(folder)).toEqual([path.basename(file)]);
  const { optimizer } = make();
  await optimizer.load(file);
  expect(await optimizer.stateDict()).toEqual(saved);
}

async function countReports(operation: (typeof OPERATIONS)[number]): Promise<number> {
  let count = 0;
  await after(1)[operation](file, { onProgress: () => ++count });
  return count;
}

describe.each(OPERATIONS)("the progress of %s", (operation) => {
  test("grows from report to report and ends with all bytes of the file", async () => {
    const reports: CheckpointProgress[] = [];
    const optimizer = large();
    await optimizer.save(file);
    await optimizer[operation](file, { onProgress: (progress) => reports.push(progress) });
    const total = statSync(file).size;
    // One report for each chunk of 4 MiB, and one at the end.
    expect(reports.length).toBeGreaterThan(total / 2 ** 22);
    for (const [k, report] of reports.entries()) {
      expect(report.total).toBe(total);
      if (k > 0) expect(report.bytes).toBeGreaterThanOrEqual(reports[k - 1]!.bytes);
    }
    expect(reports.at(-1)!.bytes).toBe(total);
    expect(reports.filter(({ bytes }) => bytes === total)).toHaveLength(1);
  });
});

test("the progress of a load ends with all bytes of the file, also if only some are needed", async () => {
  const reports: CheckpointProgress[] = [];
  const { optimizer } = new Trained(["bias"], { terms: ["b"] });
  await optimizer.load(file, { strict: false, onProgress: (progress) => reports.push(progress) });
  expect(reports.at(-1)).toEqual({ bytes: statSync(file).size, total: statSync(file).size });
});

describe.each(OPERATIONS)("until %s has settled", (operation) => {
  const others: [string, (optimizer: MTAdam) => unknown][] = [
    ["step", (optimizer) => optimizer.step([null, null])],
    ["accumulate", (optimizer) => optimizer.accumulate(0, null)],
    ["update", (optimizer) => optimizer.update()],
    ["stepEach", (optimizer) => optimizer.stepEach([null, null])],
    ["prepare", (optimizer) => optimizer.prepare([null, null])],
    ["norms", (optimizer) => optimizer.norms()],
    ["stateDict", (optimizer) => optimizer.stateDict()],
    ["loadStateDict", (optimizer) => optimizer.loadStateDict(saved)],
    ["save", (optimizer) => optimizer.save(file)],
    ["load", (optimizer) => optimizer.load(file)],
  ];
  test.each(others)("%s is refused, and allowed afterwards", async (_, call) => {
    const optimizer = after(1);
    const attempts: Promise<string>[] = [];
    const attempt = (): void => {
      attempts.push(caught(() => call(optimizer)).then(({ code }) => code));
    };
    const running = optimizer[operation](file, { onProgress: attempt });
    attempt();
    await running;
    const codes = await Promise.all(attempts);
    expect(codes.length).toBeGreaterThan(2);
    expect(new Set(codes)).toEqual(new Set(["ERR_MTADAM_BUSY"]));
    await call(optimizer);
  });

  test("dispose is allowed at any moment and ends it", async () => {
    const count = await countReports(operation);
    const bytes = readFileSync(file);
    for (let moment = 0; moment <= count; ++moment) {
      const optimizer = after(1);
      let reports = 0;
      const running = optimizer[operation](file, {
        onProgress() {
          if (++reports === moment) optimizer.dispose();
        },
      });
      if (moment === 0) optimizer.dispose();
      expect(await caught(() => running)).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
      expect(readdirSync(folder)).toEqual([path.basename(file)]);
      expect(readFileSync(file)).toEqual(bytes);
    }
  });

  test("dispose between reports ends it", async () => {
    const optimizer = after(1);
    const running = optimizer[operation](file, {
      onProgress: () => {
        queueMicrotask(() => {
          optimizer.dispose();
        });
      },
    });
    expect(await caught(() => running)).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
    expect(readdirSync(folder)).toEqual([path.basename(file)]);
  });
});

describe("a listener that throws", () => {
  test("ends a save at any moment, and the old file stays", async () => {
    const count = await countReports("save");
    const bytes = readFileSync(file);
    const optimizer = after(5);
    const state = await optimizer.stateDict();
    for (let moment = 1; moment <= count; ++moment) {
      const error = new Error("enough");
      let reports = 0;
      const onProgress = (): void => {
        if (++reports === moment) throw error;
      };
      await expect(optimizer.save(file, { onProgress })).rejects.toBe(error);
      expect(reports).toBe(moment);
      expect(readdirSync(folder)).toEqual([path.basename(file)]);
      expect(readFileSync(file)).toEqual(bytes);
    }
    expect(await optimizer.stateDict()).toEqual(state);
  });

  test("does not interrupt a load, and is not called again", async () => {
    const count = await countReports("load");
    for (let moment = 1; moment <= count; ++moment) {
      const optimizer = after(1);
      const error = new Error("enough");
      let reports = 0;
      const onProgress = (): void => {
        if (++reports === moment) throw error;
      };
      await expect(optimizer.load(file, { onProgress })).rejects.toBe(error);
      expect(reports).toBe(moment);
      expect(await optimizer.stateDict()).toEqual(saved);
    }
  });
});

describe("a listener whose promise rejects", () => {
  const later = (then: () => void) => async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    then();
  };

  test("ends a save at any moment, and the old file stays", async () => {
    const bytes = readFileSync(file);
    for (const last of [1, 2]) {
      const error = new Error("enough");
      let reports = 0;
      const onProgress = later(() => {
        if (++reports === last) throw error;
      });
      await expect(after(5).save(file, { onProgress })).rejects.toBe(error);
      expect(reports).toBe(last);
      expect(readdirSync(folder)).toEqual([path.basename(file)]);
      expect(readFileSync(file)).toEqual(bytes);
    }
  });

  test("does not interrupt a load, which rejects at its end", async () => {
    for (const last of [1, 2]) {
      const optimizer = after(1);
      const error = new Error("enough");
      let reports = 0;
      const onProgress = later(() => {
        if (++reports === last) throw error;
      });
      await expect(optimizer.load(file, { onProgress })).rejects.toBe(error);
      expect(reports).toBe(last);
      expect(await optimizer.stateDict()).toEqual(saved);
    }
  });
});

describe("errors of the file system are unchanged", () => {
  test("if the folder is missing", async () => {
    const optimizer = after(1);
    const nowhere = path.join(folder, "nowhere", "state.safetensors");
    await expect(optimizer.save(nowhere)).rejects.toMatchObject({ code: "ENOENT", syscall: "open" });
    await expect(optimizer.load(nowhere)).rejects.toMatchObject({ code: "ENOENT", syscall: "open" });
  });

  test("if the folder is a file", async () => {
    const below = path.join(file, "state.safetensors");
    await expect(after(1).save(below)).rejects.toMatchObject({ code: "ENOTDIR" });
    await expectOldFile();
  });
});

test("after a load that fails midway, only another load is possible", async () => {
  const optimizer = large();
  await optimizer.save(file);
  const bytes = readFileSync(file);
  const state = await optimizer.stateDict();
  let reports = 0;
  const broken = optimizer.load(file, {
    onProgress({ bytes, total }) {
      ++reports;
      // The check has read the whole file; the reads from here on load it.
      if (bytes > total / 2) truncateSync(file, 2 ** 20);
    },
  });
  expect(await caught(() => broken)).toMatchObject({ code: "ERR_MTADAM_CHECKPOINT" });
  expect(reports).toBeGreaterThan(3);
  const calls = [() => optimizer.step([[null]]), () => optimizer.save(file), () => optimizer.stateDict()];
  for (const call of calls) expect(await caught(call)).toMatchObject({ code: "ERR_MTADAM_STATE" });
  // After a partial load, the other values may belong to either state.
  await optimizer.loadStateDict(state, { strict: false });
  expect(await caught(() => optimizer.stateDict())).toMatchObject({ code: "ERR_MTADAM_STATE" });
  writeFileSync(file, bytes);
  await optimizer.load(file);
  await optimizer.save(file);
  expect(readFileSync(file).equals(bytes)).toBe(true);
});

test("a load whose file is cut short during the check changes nothing", async () => {
  const optimizer = large();
  await optimizer.save(file);
  optimizer.step([[null]]);
  const broken = optimizer.load(file, {
    onProgress: () => {
      truncateSync(file, 2 ** 20);
    },
  });
  expect(await caught(() => broken)).toMatchObject({ code: "ERR_MTADAM_CHECKPOINT" });
  expect((await optimizer.stateDict()).metadata.iterations).toBe(1);
});

describe("refused before anything happens", () => {
  test.each<[string, string, (optimizer: MTAdam) => Promise<void>]>([
    ["save to no path", "OPTION", (optimizer) => optimizer.save(undefined as never)],
    ["save to an empty path", "OPTION", (optimizer) => optimizer.save("")],
    [
      "save with a listener that is none",
      "OPTION",
      (optimizer) => optimizer.save(file, { onProgress: 5 as never }),
    ],
    [
      "save with an unknown option",
      "OPTION",
      (optimizer) => optimizer.save(file, { strict: true } as object),
    ],
    ["load from no path", "OPTION", (optimizer) => optimizer.load(5 as never)],
    ["load with `strict` no boolean", "OPTION", (optimizer) => optimizer.load(file, { strict: 0 as never })],
    [
      "save while a step is open",
      "STATE",
      (optimizer) => {
        optimizer.accumulate(0, null);
        return optimizer.save(file);
      },
    ],
    [
      "save with an option that has become invalid",
      "OPTION",
      (optimizer) => {
        optimizer.paramGroups[0]!.eps = NaN;
        return optimizer.save(file);
      },
    ],
    [
      "save after dispose",
      "DISPOSED",
      (optimizer) => {
        optimizer.dispose();
        return optimizer.save(file);
      },
    ],
  ])("%s", async (_, code, call) => {
    const optimizer = after(1);
    expect(await caught(() => call(optimizer))).toMatchObject({ code: `ERR_MTADAM_${code}` });
    await expectOldFile();
  });

  test("and the next call is allowed", async () => {
    const optimizer = after(1);
    await caught(() => optimizer.load(5 as never));
    await optimizer.load(file);
    expect(await optimizer.stateDict()).toEqual(saved);
  });
});
