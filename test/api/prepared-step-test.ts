import { DeviceBuffer, MTAdam } from "../../lib";
import { caught } from "../support/caught";
import { testDevice } from "../support/device";

// The host cost of a step with prepared gradients: nothing per tensor.

const device = testDevice();

function model(tensors: number): { optimizer: MTAdam; gradients: DeviceBuffer<"float32">[][] } {
  const buffers = (): DeviceBuffer<"float32">[] => Array.from({ length: tensors }, () => device.buffer(2));
  const optimizer = new MTAdam(buffers(), { terms: 2 });
  return { optimizer, gradients: [buffers(), buffers()] };
}

describe("a step with unchanged prepared gradients", () => {
  let looks: jest.SpyInstance;
  beforeEach(() => (looks = jest.spyOn(DeviceBuffer.prototype, "disposed", "get")));
  afterEach(() => looks.mockRestore());

  test("is the same with addresses that were uploaded before", async () => {
    const [right, left] = [model(5), model(5)];
    right.optimizer.step(right.gradients);
    const prepared = left.optimizer.prepare(left.gradients);
    prepared.upload();
    left.optimizer.step(prepared);
    expect(await left.optimizer.stateDict()).toEqual(await right.optimizer.stateDict());
    left.optimizer.addTerm("more");
    expect(await caught(() => prepared.upload())).toMatchObject({ code: "ERR_MTADAM_STATE" });
  });

  test("has options that can be sent before it if the device has graphs", async () => {
    const { optimizer, gradients } = model(1);
    const refresh = (): void => optimizer.refresh({ weights: [1, 2] });
    if (testDeviceKind !== "cpu") refresh();
    else {
      expect(await caught(refresh)).toMatchObject({
        code: "ERR_MTADAM_OPTION",
        message: "`refresh` must be called on a CUDA device; got the CPU, which has no graphs.",
      });
    }
    optimizer.step(gradients);
    expect(optimizer.weights).toEqual([1, 1]);
  });

  test("checks no buffer again", () => {
    const { optimizer, gradients } = model(5);
    const prepared = optimizer.prepare(gradients);
    looks.mockClear();
    optimizer.step(prepared);
    expect(looks).toHaveBeenCalledTimes(5); // the parameters, once
    looks.mockClear();
    optimizer.step(prepared);
    optimizer.step(prepared);
    expect(looks).not.toHaveBeenCalled();
    optimizer.step(gradients);
    looks.mockClear();
    optimizer.step(gradients);
    for (const term of [0, 1]) optimizer.accumulate(term, gradients[term]);
    optimizer.update();
    expect(looks).not.toHaveBeenCalled();
  });

  test("checks all buffers again after any buffer was disposed of", () => {
    const { optimizer, gradients } = model(5);
    const prepared = optimizer.prepare(gradients);
    device.buffer(1).dispose();
    looks.mockClear();
    optimizer.step(prepared);
    expect(looks).toHaveBeenCalledTimes(15);
    optimizer.step(prepared);
    expect(looks).toHaveBeenCalledTimes(15);
  });

  test("finds the disposed buffer at every step", async () => {
    const { optimizer, gradients } = model(5);
    const prepared = optimizer.prepare(gradients);
    optimizer.step(prepared);
    gradients[1]![3]!.dispose();
    for (let k = 0; k < 3; ++k) {
      expect((await caught(() => optimizer.step(prepared))).code).toBe("ERR_MTADAM_DISPOSED");
    }
    prepared.set(1, 3, device.buffer(2));
    optimizer.step(prepared);
    expect(optimizer.iterations).toBe(2);
  });
});
