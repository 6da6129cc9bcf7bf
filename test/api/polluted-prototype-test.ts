/** Properties of Object.prototype are not options, and loading a state adds none. */

import { MTAdam, openDevice, type DeviceBuffer, type StateDict } from "../../lib";
import { caught } from "../support/caught";
import { device } from "../support/scene";

const pollution: [string, unknown][] = [
  ["terms", 5],
  ["weights", [9, 9]],
  ["lr", 0.5],
  ["betas", [0, 0, 0]],
  ["eps", 1],
  ["weightDecay", 1],
  ["maximize", true],
  ["amsgrad", true],
  ["firstMoment", "summed"],
  ["secondMoment", "summed"],
  ["anchor", "max"],
  ["device", 3],
  ["stream", 5n],
  ["gradientScale", 4],
  ["strict", 0],
  ["onProgress", 1],
  ["every", 0],
  ["threads", -1],
  ["parameters", []],
  ["data", 1],
  ["name", "polluted"],
  ["length", 7],
  ["shape", [7]],
  ["dtype", "float16"],
  ["layer", "polluted"],
  ["ptr", 1],
  ["buffer", { ptr: 1 }],
  ["byteOffset", 4],
  ["byteLength", 4],
  ["__cuda_array_interface__", {}],
  ["content", null],
  ["w", null],
  ["error", "polluted"],
  ["diagnostics", 1],
  ["propagates", true],
  ["stateDtype", "bfloat16"],
];

const buffer = (...values: number[]): DeviceBuffer => device.buffer(Float32Array.from(values));

/** Calls that take an object, or leave one out. */
async function use(): Promise<[number[], StateDict, string]> {
  const w = device.buffer(Float32Array.of(1, 2));
  const optimizer = new MTAdam([{ name: "w", data: w }], { terms: ["content", "style"] });
  const gradients = [buffer(1, 3), buffer(2, -1)].map((gradient) => ({ w: gradient }));
  optimizer.step({ content: gradients[0], style: gradients[1] });
  optimizer.step(gradients, {});
  optimizer.step([null, gradients[1]!]);
  optimizer.accumulate("style", gradients[0]);
  optimizer.update({});
  await optimizer.stepEach({ style: () => gradients[1] }, {});
  optimizer.onStats(() => undefined, {});
  optimizer.addParamGroup({ parameters: [buffer(1)] });
  await optimizer.loadStateDict(await optimizer.stateDict(), {});
  w.upload(await w.download(), {});
  optimizer.lr = 0.25;
  optimizer.paramGroups[1]!.lr = (iterations) => 1 / (1 + iterations);
  await optimizer.loadStateDict(await optimizer.stateDict());
  openDevice("cpu", {}).dispose();
  const bare = new MTAdam([device.buffer(5000)], { terms: 1 });
  bare.step([[device.buffer(5000)]]);
  const state = await bare.stateDict();
  await bare.loadStateDict(state);
  const spoilt = { ...state, "m.0.0": new Float32Array(5000).fill(NaN) };
  const refused = (await caught(() => bare.loadStateDict(spoilt))).message;
  return [[...(await w.download()), ...(await optimizer.norms())], await optimizer.stateDict(), refused];
}

const everyWay = pollution.flatMap(([key, value]) =>
  [false, true].map((listed) => [key, listed, value] as const),
);

test.each(everyWay)("Object.prototype.%s, enumerable: %s", async (key, enumerable, value) => {
  const expected = await use();
  Object.defineProperty(Object.prototype, key, { value, configurable: true, enumerable, writable: true });
  let actual;
  try {
    actual = await use();
  } finally {
    Reflect.deleteProperty(Object.prototype, key);
  }
  expect(actual).toEqual(expected);
});

test("a class may have a pointer's properties", async () => {
  class Supplier {
    readonly #ptr = 3n;
    get ptr(): bigint {
      return this.#ptr;
    }
  }
  // The error is about a pointer (misaligned, or on the CPU), so the object was taken for one.
  const made = (): MTAdam => new MTAdam([{ data: new Supplier(), length: 1 }], { terms: 1, device });
  expect((await caught(made)).code).toBe("ERR_MTADAM_INVALID_POINTER");
});

test("a state with __proto__ in it pollutes nothing", async () => {
  const { metadata, ...tensors } = (await use())[1];
  const spoilt = JSON.parse(
    JSON.stringify(metadata).replaceAll("{", '{"__proto__":{"polluted":1},'),
  ) as StateDict["metadata"];
  const optimizer = new MTAdam([{ name: "w", data: buffer(1, 2) }], { terms: ["content", "style"] });
  await optimizer.loadStateDict({ metadata: spoilt, ...tensors }, { strict: false });
  expect("polluted" in {}).toBe(false);
  expect("polluted" in optimizer.paramGroups[0]!).toBe(false);
});
