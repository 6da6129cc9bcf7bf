import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { caught } from "../support/caught";
import { onCuda, testDevice } from "../support/device";
import { executor, MACHINE } from "../support/executor";

onCuda("a captured step", () => {
  beforeEach(() => {
    if (testDeviceKind === "executor") executor().reset(MACHINE);
  });

  const LENGTHS = [5000, 3, 0, 70];
  const values = (length: number, scale: number): Float32Array =>
    Float32Array.from({ length }, (_, k) => scale * Math.sin(k + 1));

  interface Scene {
    optimizer: MTAdam;
    theta: DeviceBuffer<"float32">[];
    gradients: (DeviceBuffer<"float32"> | null)[][];
  }

  function scene(options: Partial<MTAdamOptions> = {}): Scene {
    const device = testDevice();
    const theta = LENGTHS.map((length) => device.buffer(values(length, 0.3)));
    const gradients = [1, -20, 0.01].map((scale, term) =>
      LENGTHS.map((length, k) => (term === 1 && k === 3 ? null : device.buffer(values(length, scale)))),
    );
    return { theta, gradients, optimizer: new MTAdam(theta, { terms: 3, device, ...options }) };
  }

  const download = (theta: DeviceBuffer<"float32">[]): Promise<Float32Array[]> =>
    Promise.all(theta.map((tensor) => tensor.download()));

  const forms: [string, Partial<MTAdamOptions>][] = [
    ["first moments per term", {}],
    ["first moments summed", { firstMoment: "summed", amsgrad: true }],
    ["both moments summed", { firstMoment: "summed", secondMoment: "summed", weightDecay: 0.1 }],
    ["decoupled decay", { weightDecay: 0.1, decoupledWeightDecay: true }],
    ["the network as one unit", { preset: "recommended" }],
    ["lagged scales", { scales: "lagged", betas: [0.9, 0.999, 0.99] }],
    ["both", { preset: "recommended", scales: "lagged" }],
  ];
  test.each(forms)("replayed n times is n steps, with %s", async (_, options) => {
    const right = scene(options);
    for (let step = 0; step < 5; ++step) right.optimizer.step(right.gradients);

    const { optimizer, theta, gradients } = scene(options);
    optimizer.step(gradients);
    const captured = optimizer.captureStep(optimizer.prepare(gradients));
    for (let step = 0; step < 4; ++step) captured.replay();
    expect(optimizer.iterations).toBe(5);
    expect(await download(theta)).toEqual(await download(right.theta));
    expect(await optimizer.stateDict()).toEqual(await right.optimizer.stateDict());
  });

  test("takes no step when it is captured", async () => {
    const { optimizer, theta, gradients } = scene();
    const before = await download(theta);
    optimizer.captureStep(optimizer.prepare(gradients));
    expect(await download(theta)).toEqual(before);
    expect(optimizer.iterations).toBe(0);
  });

  test("follows lr, schedules, weights, gradientScale and gradients that change in place", async () => {
    const right = scene();
    const left = scene();
    const captured = left.optimizer.captureStep(left.optimizer.prepare(left.gradients));
    const schedule = (iterations: number): number => 1e-3 / (1 + iterations);
    for (const { optimizer } of [right, left]) optimizer.lr = schedule;
    const turns: ((one: Scene) => void)[] = [
      () => undefined,
      ({ optimizer }) => (optimizer.lr = 0.5),
      ({ optimizer }) => (optimizer.weights = [1, 0, 3]),
      ({ gradients }) => gradients[0]?.[0]?.fill(2),
      ({ optimizer }) => (optimizer.paramGroups[0]!.betas = [0.5, 0.9, 0.1]),
    ];
    for (const turn of turns) {
      turn(right);
      right.optimizer.step(right.gradients);
      turn(left);
      captured.replay();
    }
    right.optimizer.step(right.gradients, { gradientScale: 8, weights: [2, 2, 1] });
    captured.replay({ gradientScale: 8, weights: [2, 2, 1] });
    expect(await download(left.theta)).toEqual(await download(right.theta));
  });

  test("keeps the addresses and the presence it was captured with", async () => {
    const right = scene();
    right.optimizer.step(right.gradients);
    const { optimizer, theta, gradients } = scene();
    const prepared = optimizer.prepare(gradients);
    const captured = optimizer.captureStep(prepared);
    prepared.set(0, 0, null);
    prepared.set(1, 1, testDevice().buffer(values(3, 7)));
    captured.replay();
    expect(await download(theta)).toEqual(await download(right.theta));
  });

  test("mixes with other steps and continues from a loaded state", async () => {
    const right = scene();
    for (let step = 0; step < 4; ++step) right.optimizer.step(right.gradients);
    const { optimizer, theta, gradients } = scene();
    const captured = optimizer.captureStep(optimizer.prepare(gradients));
    captured.replay();
    optimizer.step(gradients);
    await optimizer.loadStateDict(await optimizer.stateDict());
    captured.replay();
    for (const [term, ofTerm] of gradients.entries()) optimizer.accumulate(term, ofTerm);
    optimizer.update();
    expect(await download(theta)).toEqual(await download(right.theta));
  });

  test("is refused while a step is open", async () => {
    const { optimizer, gradients } = scene();
    const prepared = optimizer.prepare(gradients);
    const captured = optimizer.captureStep(prepared);
    optimizer.accumulate(0, gradients[0]);
    expect(await caught(() => captured.replay())).toMatchObject({ code: "ERR_MTADAM_STATE" });
    expect(await caught(() => optimizer.captureStep(prepared))).toMatchObject({ code: "ERR_MTADAM_STATE" });
  });

  test("needs gradients prepared by the same optimizer", async () => {
    const { optimizer, gradients } = scene();
    expect(await caught(() => optimizer.captureStep(gradients as never))).toMatchObject({
      code: "ERR_MTADAM_OPTION",
    });
    const foreign = scene().optimizer.prepare([null, null, null]);
    expect(await caught(() => optimizer.captureStep(foreign))).toMatchObject({ code: "ERR_MTADAM_OPTION" });
  });

  test.each<[string, (scene: Scene) => void]>([
    ["the optimizer", ({ optimizer }) => optimizer.dispose()],
    ["a parameter", ({ theta }) => theta[1]?.dispose()],
    ["a gradient", ({ gradients }) => gradients[2]?.[3]?.dispose()],
  ])("is refused once %s has been disposed of", async (_, dispose) => {
    const own = scene();
    const captured = own.optimizer.captureStep(own.optimizer.prepare(own.gradients));
    captured.replay();
    dispose(own);
    expect(await caught(() => captured.replay())).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
    expect(own.optimizer.iterations).toBe(1);
  });

  test("is refused after its own dispose, which may be repeated", async () => {
    const { optimizer, gradients } = scene();
    const captured = optimizer.captureStep(optimizer.prepare(gradients));
    expect(captured.disposed).toBe(false);
    captured.dispose();
    captured[Symbol.dispose]();
    expect(captured.disposed).toBe(true);
    expect(await caught(() => captured.replay())).toMatchObject({
      code: "ERR_MTADAM_DISPOSED",
      message: "The captured step has been disposed of.",
    });
    optimizer.step(gradients);
  });

  if (testDeviceKind !== "executor") return;

  test("is one launch of a graph, with no copy while nothing changes", () => {
    const { optimizer, gradients } = scene();
    const captured = optimizer.captureStep(optimizer.prepare(gradients));
    captured.replay();
    executor().resetCounters();
    captured.replay();
    const { launches, copies, calls } = executor().counters();
    expect({ launches, copies, graphs: calls["cudaGraphLaunch"] }).toEqual({
      launches: 2,
      copies: 0,
      graphs: 1,
    });
    optimizer.lr = 0.5;
    captured.replay();
    expect(executor().counters().copies).toBe(1);
  });

  test("runs on the default stream or on one that was created", async () => {
    const right = scene();
    right.optimizer.step(right.gradients);
    const streams = [executor().createStream(true, 0), executor().createStream(false, 0), null, 0, 1n];
    for (const stream of streams) {
      const { optimizer, theta, gradients } = scene();
      optimizer.captureStep(optimizer.prepare(gradients), { stream }).replay();
      expect(await download(theta)).toEqual(await download(right.theta));
    }
  });

  test("is refused while its stream is being captured, and the capture goes on", async () => {
    const right = scene();
    right.optimizer.step(right.gradients);
    for (const stream of [executor().createStream(true, 0), null]) {
      const { optimizer, theta, gradients } = scene();
      const captured = optimizer.captureStep(optimizer.prepare(gradients), { stream });
      const busy = stream ?? executor().createStream(false, 0);
      executor().beginCapture(busy);
      expect(await caught(() => captured.replay())).toMatchObject({
        code: "ERR_MTADAM_STATE",
        message: expect.stringMatching(/^`stream` must not be/) as string,
      });
      executor().endCapture(busy);
      captured.replay();
      expect(await download(theta)).toEqual(await download(right.theta));
    }
  });

  test("can be captured while a download is pending", async () => {
    const { optimizer, theta, gradients } = scene();
    const prepared = optimizer.prepare(gradients);
    for (let round = 0; round < 200; ++round) {
      const pending = theta[0]!.download();
      optimizer.captureStep(prepared).dispose();
      await pending;
    }
  });

  test("that could not be captured leaks nothing", async () => {
    const { optimizer, gradients } = scene();
    const prepared = optimizer.prepare(gradients);
    const before = executor().live();
    for (const call of [
      "cudaLaunchKernel",
      "cudaGraphInstantiate",
      "cudaStreamEndCapture",
      "cudaStreamBeginCapture",
    ]) {
      executor().failCall(call);
      expect(await caught(() => optimizer.captureStep(prepared))).toMatchObject({
        code: "ERR_MTADAM_CUDA",
        cudaError: "cudaErrorUnknown",
      });
      expect({ call, ...executor().live() }).toEqual({ call, ...before });
    }
    optimizer.captureStep(prepared).replay();
  });
});
