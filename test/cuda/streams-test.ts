import { MTAdam, type DeviceBuffer, type StreamLike } from "../../lib";
import { caught } from "../support/caught";
import { onCuda, testDevice } from "../support/device";
import { executor, MACHINE } from "../support/executor";

// Streams of the user's own CUDA code, simulated by the executor, which runs all work as late as is allowed.

onCuda("streams", () => {
  if (testDeviceKind !== "executor") {
    test.todo("need someone to create them");
    return;
  }
  beforeEach(() => {
    executor().reset(MACHINE);
  });

  const LENGTH = 5000;
  const values = (scale: number): Float32Array =>
    Float32Array.from({ length: LENGTH }, (_, k) => scale * Math.sin(k));

  interface Scene {
    optimizer: MTAdam;
    theta: DeviceBuffer;
    gradients: DeviceBuffer[][];
  }

  function scene(stream?: StreamLike | null): Scene {
    const device = testDevice();
    const theta = device.buffer(values(0.3));
    const gradients = [1, -20].map((scale) => [device.buffer(values(scale))]);
    return {
      theta,
      gradients,
      optimizer: new MTAdam([theta], { terms: 2, device, ...(stream && { stream }) }),
    };
  }

  async function expected(steps: number): Promise<Float32Array> {
    const { optimizer, theta, gradients } = scene();
    for (let step = 0; step < steps; ++step) optimizer.step(gradients);
    return (await theta.download()) as Float32Array;
  }

  test.each(["lazy", "random"] as const)(
    "that run %s give the same bits, however they change",
    async (how) => {
      const right = await expected(6);
      for (const seed of [1, 2, 3]) {
        const { optimizer, theta, gradients } = scene();
        const streams = [null, executor().createStream(true, 0), executor().createStream(false, 0)];
        executor().setExecution(how, seed);
        for (let step = 0; step < 6; ++step) {
          const stream = streams[step % 3] ?? null;
          if (step % 2 === 0) {
            optimizer.step(gradients, { stream });
            continue;
          }
          optimizer.accumulate(0, gradients[0], { stream });
          optimizer.accumulate(1, gradients[1], { stream: streams[(step + 1) % 3] ?? null });
          optimizer.update({ stream: streams[(step + 2) % 3] ?? null });
        }
        expect(await theta.download()).toEqual(right);
      }
    },
  );

  test("may be given as a handle, as a number, as an object and as the optimizer's own", async () => {
    const right = await expected(1);
    const handle = executor().createStream(true, 0);
    for (const stream of [handle, Number(handle), { ptr: handle }]) {
      const own = scene(stream);
      own.optimizer.step(own.gradients);
      expect(await own.theta.download()).toEqual(right);
      const perCall = scene();
      perCall.optimizer.step(perCall.gradients, { stream });
      expect(await perCall.theta.download()).toEqual(right);
    }
  });

  test("do not block: a step returns before it has run", async () => {
    const stream = executor().createStream(true, 0);
    const { optimizer, gradients } = scene(stream);
    await optimizer.synchronize();
    executor().setExecution("lazy");
    for (let step = 0; step < 4; ++step) optimizer.step(gradients);
    expect(executor().live().queued).toBeGreaterThanOrEqual(8);
    await optimizer.synchronize();
    expect(executor().live().queued).toBe(0);
  });

  test("are waited for by synchronizeSync", () => {
    const { optimizer, gradients } = scene(executor().createStream(true, 0));
    executor().setExecution("lazy");
    optimizer.step(gradients);
    optimizer.synchronizeSync();
    expect(executor().live().queued).toBe(0);
  });

  test("may be destroyed between two calls", async () => {
    const right = await expected(2);
    const { optimizer, theta, gradients } = scene();
    executor().setExecution("lazy");
    const first = executor().createStream(true, 0);
    optimizer.step(gradients, { stream: first });
    executor().destroyStream(first);
    optimizer.step(gradients, { stream: executor().createStream(true, 0) });
    expect((await optimizer.norms())[0]).toBeGreaterThan(0);
    expect(await theta.download()).toEqual(right);
  });

  test("order an upload", async () => {
    const { optimizer, theta, gradients } = scene();
    const stream = executor().createStream(true, 0);
    executor().setExecution("lazy");
    const first = gradients[0]![0]!;
    first.upload(new Float32Array(LENGTH), { stream });
    first.upload(values(1), { stream });
    optimizer.step(gradients, { stream });
    const got = await theta.download();
    expect(got).toEqual(await expected(1));
  });

  test("order addGradients and zero between steps", async () => {
    const right = scene();
    const train = ({ optimizer, gradients }: Scene): void => {
      const prepared = optimizer.prepare(gradients);
      optimizer.step(prepared);
      optimizer.addGradients(gradients[0], gradients[1]);
      optimizer.step(prepared);
      prepared.zero();
      optimizer.addGradients(gradients[0], gradients[0]);
      optimizer.step(prepared);
    };
    train(right);
    const left = scene(executor().createStream(true, 0));
    await left.optimizer.synchronize();
    executor().setExecution("lazy");
    train(left);
    left.optimizer.synchronizeSync();
    // Before anything is awaited: what the garbage collector frees meanwhile is queued as well.
    expect(executor().live().queued).toBe(0);
    expect(await left.theta.download()).toEqual(await right.theta.download());
  });

  test("are all waited for by a download", async () => {
    const right = await expected(1);
    const { optimizer, theta, gradients } = scene(executor().createStream(true, 0));
    await optimizer.synchronize();
    executor().setExecution("lazy");
    optimizer.step(gradients);
    expect(await theta.download()).toEqual(right);
    const other = executor().createStream(true, 0);
    theta.upload(values(7), { stream: other });
    expect(await theta.download()).toEqual(values(7));
  });

  test("do not block the allocation of memory", async () => {
    const { optimizer, gradients } = scene(executor().createStream(true, 0));
    await optimizer.synchronize();
    executor().setExecution("lazy");
    optimizer.step(gradients);
    const queued = executor().live().queued;
    testDevice().buffer(3);
    const prepared = optimizer.prepare(gradients);
    prepared.set(0, 0, null);
    expect(executor().live().queued).toBe(queued);
    expect((await optimizer.norms())[0]).toBeGreaterThan(0);
  });

  test("the default stream is refused while a blocking stream is captured", async () => {
    const { optimizer, theta, gradients } = scene();
    const busy = executor().createStream(false, 0);
    executor().beginCapture(busy);
    for (const call of [
      () => optimizer.step(gradients),
      () => optimizer.accumulate(0, gradients[0]),
      () => optimizer.addGradients(gradients[0], gradients[1]),
      () => theta.fill(1),
      () => theta.upload(values(1)),
    ]) {
      expect(await caught(call)).toMatchObject({
        code: "ERR_MTADAM_STATE",
        message: expect.stringMatching(/^`stream` must not be the default one while/) as string,
      });
    }
    executor().endCapture(busy);
    optimizer.step(gradients);
    expect(await theta.download()).toEqual(await expected(1));
  });

  test.each([
    ["blocking", "global"],
    ["blocking", "threadLocal"],
    ["blocking", "relaxed"],
    ["non-blocking", "global"],
    ["non-blocking", "threadLocal"],
    ["non-blocking", "relaxed"],
  ] as const)("that are %s may be captured (%s) beside all that is read", async (kind, mode) => {
    const right = scene();
    right.optimizer.step(right.gradients);
    const { optimizer, theta, gradients } = scene();
    const prepared = optimizer.prepare(gradients);
    const busy = executor().createStream(kind === "non-blocking", 0);
    executor().setExecution("lazy");
    optimizer.step(prepared);
    executor().beginCapture(busy, mode);
    expect(await optimizer.norms()).toEqual(await right.optimizer.norms());
    expect(await optimizer.diagnostics()).toEqual(await right.optimizer.diagnostics());
    expect(await optimizer.stateDict()).toEqual(await right.optimizer.stateDict());
    expect(await theta.download()).toEqual(await right.theta.download());
    await optimizer.synchronize();
    testDevice().buffer(3).dispose();
    const captured = optimizer.captureStep(prepared);
    executor().endCapture(busy);
    captured.replay();
    right.optimizer.step(right.gradients);
    expect(await theta.download()).toEqual(await right.theta.download());
  });

  test("are not waited for by onStats, whose readings take bounded memory", async () => {
    const { optimizer, gradients } = scene();
    const told: number[] = [];
    optimizer.onStats(({ iteration }) => told.push(iteration), { every: 1 });
    optimizer.step(gradients);
    await optimizer.synchronize();
    executor().setExecution("lazy");
    const { pinnedBytes } = executor().live();
    executor().resetCounters();
    for (let step = 0; step < 200; ++step) optimizer.step(gradients);
    const { calls } = executor().counters();
    expect([calls["cudaDeviceSynchronize"], calls["cudaStreamSynchronize"]]).toEqual([undefined, undefined]);
    // A page per reading and term.
    expect(executor().live().pinnedBytes - pinnedBytes).toBeLessThanOrEqual(65 * 2 * 4096);
    await optimizer.diagnostics();
    expect(told).toEqual(Array.from({ length: 201 }, (_, k) => k + 1));
  });

  test("copy nothing from pageable memory", async () => {
    const { optimizer, gradients } = scene();
    await optimizer.synchronize();
    executor().resetCounters();
    for (let step = 0; step < 3; ++step) optimizer.step(gradients, { weights: [step, 1] });
    expect(executor().counters().pageableCopies).toBe(0);
  });

  test.each<[string, (stream: StreamLike) => unknown]>([
    ["the optimizer", (stream) => scene(stream)],
    [
      "step",
      (stream) => {
        const { optimizer, gradients } = scene();
        optimizer.step(gradients, { stream });
      },
    ],
    [
      "captureStep",
      (stream) => {
        const { optimizer, gradients } = scene();
        optimizer.captureStep(optimizer.prepare(gradients), { stream });
      },
    ],
    [
      "upload",
      (stream) => {
        scene().theta.upload(values(1), { stream });
      },
    ],
  ])("of another device, or none at all, are refused by %s", async (_, call) => {
    const foreign = executor().createStream(true, 1);
    expect(await caught(() => call(foreign))).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: "`stream` must be a stream of cuda:0; got one of cuda:1.",
    });
    expect(await caught(() => call(12345n))).toMatchObject({ code: "ERR_MTADAM_OPTION" });
  });

  test("that are being captured are refused, and the capture goes on", async () => {
    const { optimizer, theta, gradients } = scene();
    const stream = executor().createStream(true, 0);
    executor().beginCapture(stream);
    expect(await caught(() => optimizer.step(gradients, { stream }))).toMatchObject({
      code: "ERR_MTADAM_STATE",
      message: expect.stringMatching(
        /^`stream` must not be capturing, except .*use `captureStep\(\)`/,
      ) as string,
    });
    executor().endCapture(stream);
    optimizer.step(gradients, { stream });
    expect(await theta.download()).toEqual(await expected(1));
  });
});
