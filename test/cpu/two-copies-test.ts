/** Two copies of the package in one process, as two versions in node_modules are. */

import * as own from "../../lib";
import { caught } from "../support/caught";

let other!: typeof own;
jest.isolateModules(() => {
  other = jest.requireActual<typeof own>("../../lib");
});

const gradient = (): Float32Array => Float32Array.of(1, 2);

test("each trains by itself", () => {
  expect(other.MTAdam).not.toBe(own.MTAdam);
  const [a, b] = [own, other].map(({ MTAdam, openDevice }) => {
    const parameter = Float32Array.of(1, 1);
    new MTAdam([parameter], { terms: 1, device: openDevice("cpu") }).step([[gradient()]]);
    return parameter;
  });
  expect(a).toEqual(b);
  expect(a).not.toEqual(Float32Array.of(1, 1));
});

const device = own.openDevice("cpu");
const foreign = other.openDevice("cpu");

test.each<[string, string, own.MTAdamErrorCode, () => unknown]>([
  [
    "a bare parameter",
    "DeviceBuffer",
    "ERR_MTADAM_INVALID_POINTER",
    () => new own.MTAdam([foreign.buffer(2)], { terms: 1 }),
  ],
  [
    "a parameter",
    "DeviceBuffer",
    "ERR_MTADAM_INVALID_POINTER",
    () => new own.MTAdam([{ name: "w", data: foreign.buffer(2) }], { terms: 1 }),
  ],
  [
    "a gradient",
    "DeviceBuffer",
    "ERR_MTADAM_INVALID_POINTER",
    () => {
      new own.MTAdam([device.buffer(2)], { terms: 1 }).step([[foreign.buffer(2)]]);
    },
  ],
  [
    "the optimizer's device",
    "Device",
    "ERR_MTADAM_OPTION",
    () => new own.MTAdam([gradient()], { terms: 1, device: foreign }),
  ],
  [
    "the device of a new buffer",
    "Device",
    "ERR_MTADAM_OPTION",
    () => own.DeviceBuffer.from(gradient(), foreign),
  ],
])("%s of the other copy is named as that", async (_, name, code, call) => {
  const error = await caught(call);
  expect(error.code).toBe(code);
  expect(error.message).toMatch(new RegExp(`; got a ${name} of another copy of mtadam\\.$`));
});

test("what this copy has made is named by its class", async () => {
  const given = { terms: 1, device: device.buffer(1) as unknown as own.Device };
  const error = await caught(() => new own.MTAdam([gradient()], given));
  expect(error.message).toMatch(/; got a DeviceBuffer\.$/);
});
