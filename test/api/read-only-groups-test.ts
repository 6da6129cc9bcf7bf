/** Frozen groups and read-only options: setting `lr` and loading change all groups or none. */

import path from "node:path";
import { MTAdam, type ParamGroup, type StateDict } from "../../lib";
import { caught } from "../support/caught";
import { temporaryFolder } from "../support/folder";
import { inBuffer } from "../support/scene";

const file = path.join(temporaryFolder(), "state.safetensors");
const gradients = [inBuffer(1, 2), inBuffer(3)];

function make(): MTAdam {
  const optimizer = new MTAdam(
    [
      { parameters: [inBuffer(1, 2)], lr: 0.1 },
      { parameters: [inBuffer(3)], lr: 0.2 },
    ],
    { terms: 1 },
  );
  optimizer.step([gradients]);
  return optimizer;
}

/** What a refused call must leave as it was. */
async function everything(optimizer: MTAdam): Promise<[StateDict, unknown, readonly number[]]> {
  return [await optimizer.stateDict(), structuredClone(optimizer.paramGroups), optimizer.weights];
}

let saved: StateDict;
beforeAll(async () => {
  const optimizer = make();
  optimizer.step([gradients]);
  optimizer.lr = 0.5;
  optimizer.weights = [3];
  saved = await optimizer.stateDict();
  await optimizer.save(file);
});

const calls: [string, (optimizer: MTAdam) => unknown][] = [
  ["lr", (optimizer) => (optimizer.lr = 0.5)],
  ["loadStateDict", (optimizer) => optimizer.loadStateDict(saved)],
  ["load", (optimizer) => optimizer.load(file)],
];
const obstacles: [string, (group: ParamGroup) => void][] = [
  ["a frozen group", (group) => Object.freeze(group)],
  ["a read-only option", (group) => Object.defineProperty(group, "lr", { writable: false })],
];
const cases = calls.flatMap(([what, call]) =>
  obstacles.map(([obstacle, block]) => [what, obstacle, call, block] as const),
);

test.each(cases)("%s with %s changes nothing and says so", async (_, __, call, block) => {
  const optimizer = make();
  block(optimizer.paramGroups[1]!);
  const before = await everything(optimizer);
  expect(await caught(() => call(optimizer))).toMatchObject({
    code: "ERR_MTADAM_OPTION",
    message: "`paramGroups[1].lr` must be writable; got a read-only one, perhaps of a frozen group.",
  });
  expect(await everything(optimizer)).toEqual(before);
  optimizer.step([gradients]);
  expect(optimizer.iterations).toBe(2);
});

test("a group that is frozen while a file is read", async () => {
  const optimizer = make();
  const before = await everything(optimizer);
  const loading = optimizer.load(file);
  Object.freeze(optimizer.paramGroups[0]);
  expect((await caught(() => loading)).message).toMatch(/^`paramGroups\[0\]\.lr` must be writable/);
  expect(await everything(optimizer)).toEqual(before);
  optimizer.step([gradients]);
});

test("a group that is frozen after the tensors are read does no harm", async () => {
  const optimizer = make();
  await optimizer.load(file, {
    onProgress({ bytes, total }) {
      if (bytes === total) Object.freeze(optimizer.paramGroups[1]);
    },
  });
  expect(await optimizer.stateDict()).toEqual(saved);
});

test("betas that are frozen are replaced", async () => {
  const optimizer = make();
  Object.freeze(optimizer.paramGroups[0]!.betas);
  await optimizer.loadStateDict(saved);
  expect(await optimizer.stateDict()).toEqual(saved);
});

test("lr is set although another option has become invalid", () => {
  const optimizer = make();
  optimizer.paramGroups[0]!.eps = NaN;
  optimizer.lr = 0.5;
  expect(optimizer.paramGroups.map(({ lr }) => lr)).toEqual([0.5, 0.5]);
});

test("a frozen group takes part in steps, and another can be added", async () => {
  const optimizer = make();
  Object.freeze(optimizer.paramGroups[1]);
  optimizer.addParamGroup({ parameters: [{ name: "new", data: inBuffer(4) }] });
  optimizer.step([[...gradients, inBuffer(5)]]);
  expect((await optimizer.stateDict()).metadata.iterations).toBe(2);
});
