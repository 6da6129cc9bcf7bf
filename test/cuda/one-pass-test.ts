import { MTAdam, openDevice, type Device, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { onCuda } from "../support/device";
import { executor, MACHINE, openExecutor } from "../support/executor";

onCuda("a device that takes steps in one launch", () => {
  beforeEach(() => {
    if (testDeviceKind === "executor") executor().reset(MACHINE);
  });

  const open = (onePass: boolean): Device =>
    testDeviceKind === "executor" ? openExecutor(0, onePass) : openDevice("cuda", { onePass });

  const LENGTHS = [9000, 3, 0, 70, 4097, 20000];
  const values = (length: number, scale: number): Float32Array =>
    Float32Array.from({ length }, (_, k) => scale * Math.sin(k + 1));

  /** How a few steps end, some of them recorded, and what they launch. */
  async function trained(onePass: boolean, options: MTAdamOptions): Promise<unknown> {
    const device = open(onePass);
    const theta = LENGTHS.map((length) => device.buffer(values(length, 0.3)));
    const terms = Number(options.terms);
    const gradients = Array.from({ length: terms }, (_, term) =>
      LENGTHS.map((length, k): DeviceBuffer | null =>
        term === 1 && k === 3 ? null : device.buffer(values(length, 10 ** (term - 1))),
      ),
    );
    const parameters = theta.map((data, k) => ({ name: `p${k}`, data, layer: k < 2 ? "shared" : `l${k}` }));
    const optimizer = new MTAdam(parameters, { device, ...options });
    optimizer.step(gradients);
    const captured = optimizer.captureStep(optimizer.prepare(gradients));
    captured.replay();
    optimizer.accumulate(0, gradients[0]);
    optimizer.update();
    optimizer.step([...gradients].reverse());
    captured.replay();
    return {
      theta: await Promise.all(theta.map((one) => one.download())),
      state: await optimizer.stateDict(),
    };
  }

  test.each<[string, MTAdamOptions]>([
    ["one term", { terms: 1 }],
    ["three terms", { terms: 3 }],
    ["three terms, first moments summed", { terms: 3, firstMoment: "summed" }],
    ["the mean of four terms' steps, decay", { terms: 4, stepScale: "mean", weightDecay: 0.1 }],
    ["what takes two launches", { terms: 3, amsgrad: true }],
  ])("ends where any other does: %s", async (_, options) => {
    expect(await trained(true, options)).toEqual(await trained(false, options));
  });

  if (testDeviceKind !== "executor") return;

  test("launches once a step, and copies nothing for it", () => {
    const device = open(true);
    const buffers = (): DeviceBuffer[] => LENGTHS.map((length) => device.buffer(length));
    const optimizer = new MTAdam(buffers(), { terms: 2 });
    const prepared = optimizer.prepare([buffers(), buffers()]);
    optimizer.step(prepared);
    executor().resetCounters();
    optimizer.step(prepared);
    const { launches, copies } = executor().counters();
    expect({ launches, copies }).toEqual({ launches: 1, copies: 0 });
  });
});
