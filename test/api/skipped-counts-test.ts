/** The counts of skipped gradients are part of the state and continue after it is moved. */

import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { MTAdam, type DeviceBuffer, type StateDict } from "../../lib";
import { testDevice } from "../support/device";
import { temporaryFolder } from "../support/folder";
import { joinSafetensors, splitSafetensors } from "../support/safetensors";

const device = testDevice();
const file = path.join(temporaryFolder(), "state.safetensors");
const buffer = (...values: number[]): DeviceBuffer<"float32"> => device.buffer(Float32Array.from(values));

const make = (names = ["w", "b"], terms = ["one", "two"]): MTAdam =>
  new MTAdam(
    names.map((name) => ({ name, data: device.buffer(2) })),
    { terms },
  );

/** Term one skips w twice and b once, term two skips b once. */
function train(optimizer: MTAdam): MTAdam {
  const [good, bad] = [buffer(1, 2), buffer(1, NaN)];
  for (const [one, two] of [
    [
      { w: bad, b: bad },
      { w: good, b: good },
    ],
    [
      { w: bad, b: good },
      { w: good, b: bad },
    ],
  ] as const) {
    optimizer.step({ one, two });
  }
  return optimizer;
}

const skipped = async (optimizer: MTAdam): Promise<number[]> => [...(await optimizer.diagnostics()).skipped];

describe("counts of skipped norms", () => {
  test("are saved in a state and restored", async () => {
    const state = await train(make()).stateDict();
    expect(state["skipped"]).toEqual(BigInt64Array.of(2n, 1n, 0n, 1n));
    const resumed = make(["b", "w"]);
    await resumed.loadStateDict(state);
    expect(await skipped(resumed)).toEqual([1, 2, 1, 0]);
    resumed.step({ one: { w: buffer(Infinity, 0) } });
    expect(await skipped(resumed)).toEqual([1, 3, 1, 0]);
  });

  test("are saved in a file and restored", async () => {
    await train(make()).save(file);
    const resumed = make();
    await resumed.load(file);
    expect(await skipped(resumed)).toEqual([2, 1, 0, 1]);
  });

  test("are 0 after loading a state or file without them", async () => {
    const saved = train(make());
    const old: Record<string, unknown> = { ...(await saved.stateDict()) };
    delete old["skipped"];
    const resumed = train(make());
    await resumed.loadStateDict(old as unknown as StateDict);
    expect(await skipped(resumed)).toEqual([0, 0, 0, 0]);
    expect(await resumed.norms()).toEqual(await saved.norms());

    await saved.save(file);
    const { header, data } = splitSafetensors(readFileSync(file));
    const [begin, end] = header["skipped"]!.data_offsets;
    delete (header as Partial<typeof header>)["skipped"];
    for (const tensor of Object.values(header)) {
      const offsets = (tensor as { data_offsets?: [number, number] }).data_offsets;
      if (offsets === undefined || offsets[0] < end) continue;
      offsets[0] -= end - begin;
      offsets[1] -= end - begin;
    }
    writeFileSync(
      file,
      joinSafetensors(header, Buffer.concat([data.subarray(0, begin), data.subarray(end)])),
    );
    const fromFile = train(make());
    await fromFile.load(file);
    expect(await skipped(fromFile)).toEqual([0, 0, 0, 0]);
    expect(await fromFile.norms()).toEqual(await saved.norms());
  });

  test("stay if `strict: false` finds no match", async () => {
    const target = train(make(["w", "b"], ["one", "two"]));
    await target.loadStateDict(await make(["b"], ["two"]).stateDict(), { strict: false });
    expect(await skipped(target)).toEqual([2, 1, 0, 0]);
  });

  test("stay when terms and parameters are added or removed", async () => {
    const optimizer = train(make());
    optimizer.addTerm("three");
    expect(await skipped(optimizer)).toEqual([2, 1, 0, 1, 0, 0]);
    optimizer.addParamGroup({ parameters: [{ name: "new", data: device.buffer(2) }] });
    expect(await skipped(optimizer)).toEqual([2, 1, 0, 0, 1, 0, 0, 0, 0]);
    optimizer.removeTerm("one");
    expect(await skipped(optimizer)).toEqual([0, 1, 0, 0, 0, 0]);
  });
});
