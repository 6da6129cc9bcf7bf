import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { MTAdam, type DeviceBuffer, type MTAdamOptions, type StateDict } from "../../lib";
import type { PreparedGradients } from "../../lib/prepared-gradients";
import { caught } from "../support/caught";
import { onCuda, testDevice } from "../support/device";
import { executor, MACHINE } from "../support/executor";

onCuda("a step in a graph of the user's", () => {
  if (testDeviceKind !== "executor") {
    test.todo("needs someone to capture a stream");
    return;
  }

  const LENGTHS = [5000, 3, 70];
  const values = (length: number, scale: number): Float32Array =>
    Float32Array.from({ length }, (_, k) => scale * Math.sin(k + 1));

  interface Scene {
    optimizer: MTAdam;
    theta: DeviceBuffer<"float32">[];
    gradients: (DeviceBuffer<"float32"> | null)[][];
    prepared: PreparedGradients;
    /** The source from which a graph's first node copies gradients[0][0]. */
    batch: DeviceBuffer<"float32">;
    stream: bigint;
  }

  const graphs: bigint[] = [];

  function scene(options: Partial<MTAdamOptions> = {}, blocking = false): Scene {
    const device = testDevice();
    const theta = LENGTHS.map((length) => device.buffer(values(length, 0.3)));
    const gradients = [1, -20].map((scale, term) =>
      LENGTHS.map((length, k) => (term === 1 && k === 2 ? null : device.buffer(values(length, scale)))),
    );
    const optimizer = new MTAdam(theta, { terms: ["a", "b"], device, ...options });
    const batch = device.buffer(values(LENGTHS[0]!, 1));
    const stream = executor().createStream(!blocking, 0);
    return { theta, gradients, optimizer, prepared: optimizer.prepare(gradients), batch, stream };
  }

  /** Captures [gradient write → step]. */
  function capture({ optimizer, prepared, gradients, batch, stream }: Scene): bigint {
    prepared.upload();
    optimizer.refresh({ stream });
    executor().beginCapture(stream);
    executor().copy(gradients[0]![0]!.ptr, batch.ptr, batch.byteLength, stream);
    optimizer.step(prepared, { stream });
    const graph = executor().instantiateCapture(stream);
    graphs.push(graph);
    return graph;
  }

  /** One step with this batch, by a launch of the graph if there is one. */
  function step(one: Scene, graph: bigint | undefined, scale: number): void {
    const batch = values(LENGTHS[0]!, scale);
    if (graph === undefined) {
      one.gradients[0]![0]!.upload(batch);
      one.optimizer.step(one.prepared);
    } else {
      one.batch.upload(batch, { stream: one.stream });
      one.optimizer.refresh({ stream: one.stream });
      executor().launchGraph(graph, one.stream);
    }
  }

  async function state(one: Scene): Promise<{ theta: Float32Array[]; state: StateDict }> {
    executor().synchronizeStream(one.stream);
    const theta = await Promise.all(one.theta.map((tensor) => tensor.download()));
    return { theta, state: await one.optimizer.stateDict() };
  }

  beforeEach(() => {
    executor().reset(MACHINE);
  });

  afterEach(() => {
    for (const graph of graphs.splice(0)) executor().destroyGraph(graph);
  });

  const forms: [string, Partial<MTAdamOptions>][] = [
    ["first moments per term", {}],
    ["first moments summed", { firstMoment: "summed", amsgrad: true }],
    ["both moments summed", { firstMoment: "summed", secondMoment: "summed", weightDecay: 0.1 }],
    ["steps skipped as a whole", { nonFinite: "skipStep", cosines: true }],
    ["a schedule", { lr: (iterations) => 1e-2 / (1 + iterations), weightDecay: 0.1 }],
  ];
  test.each(forms)("launched n times is n steps, with %s", async (_, options) => {
    for (const execution of ["eager", "lazy", "random"] as const) {
      executor().setExecution(execution, 7);
      const [right, left] = [scene(options), scene(options)];
      const graph = capture(left);
      expect(left.optimizer.iterations).toBe(0);
      const turns: ((one: Scene) => void)[] = [
        () => undefined,
        ({ optimizer }) => (optimizer.weights = [1, 3]),
        ({ optimizer }) => (optimizer.paramGroups[0]!.betas = [0.5, 0.9, 0.1]),
        ({ optimizer }) => (optimizer.weights = { b: 0 }),
        ({ optimizer }) => (typeof options.lr === "function" ? undefined : (optimizer.lr = 0.5)),
      ];
      for (const [k, turn] of turns.entries()) {
        for (const [one, launched] of [[right, undefined] as const, [left, graph] as const]) {
          turn(one);
          step(one, launched, k === 1 ? NaN : k + 1);
        }
      }
      expect(await state(left)).toEqual(await state(right));
      expect(left.optimizer.iterations).toBe(turns.length);
      expect((await left.optimizer.diagnostics()).cosines).toEqual(
        (await right.optimizer.diagnostics()).cosines,
      );
    }
    executor().setExecution("eager");
  });

  test("uses the weights and the gradientScale that were sent last", async () => {
    const [right, left] = [scene(), scene()];
    const graph = capture(left);
    right.optimizer.step(right.prepared, { gradientScale: 8, weights: [2, 1] });
    left.optimizer.refresh({ gradientScale: 8, weights: [2, 1], stream: left.stream });
    executor().launchGraph(graph, left.stream);
    expect(await state(left)).toEqual(await state(right));
  });

  test("is counted when the state is read, and not when it is captured", async () => {
    const own = scene();
    const graph = capture(own);
    own.optimizer.step(own.prepared, { stream: own.stream });
    for (let launch = 0; launch < 3; ++launch) step(own, graph, 1);
    expect(own.optimizer.iterations).toBe(1);
    expect((await state(own)).state.metadata.iterations).toBe(4);
    expect(own.optimizer.iterations).toBe(4);
    step(own, graph, 1);
    executor().synchronizeStream(own.stream);
    const folder = await mkdtemp(path.join(tmpdir(), "mtadam-"));
    const file = path.join(folder, "state.safetensors");
    await own.optimizer.save(file);
    expect(own.optimizer.iterations).toBe(5);
    const loaded = scene();
    await loaded.optimizer.load(file);
    await rm(folder, { recursive: true });
    expect(loaded.optimizer.iterations).toBe(5);
    expect((await loaded.optimizer.stateDict()).metadata.iterations).toBe(5);
  });

  const LAGGED: Partial<MTAdamOptions> = { scales: "lagged", betas: [0.9, 0.999, 0.999] };
  test.each<[string, Partial<MTAdamOptions>]>([
    ["first moments per term", {}],
    ["moments in bfloat16", { stateDtype: "bfloat16" }],
    ["both moments summed", { firstMoment: "summed", secondMoment: "summed" }],
    ["lagged scales", LAGGED],
    ["lagged scales in 8 bits", { ...LAGGED, stateDtype: "8bit" }],
  ])("that is launched while a step is open reads no missing gradient, with %s", async (_, options) => {
    const own = scene(options);
    own.optimizer.step(own.prepared, { stream: own.stream });
    const graph = capture(own);
    // The graph has no gradient of this term for the last tensor.
    const all = LENGTHS.map((length) => testDevice().buffer(values(length, 2)));
    own.optimizer.accumulate("b", all, { stream: own.stream });
    executor().launchGraph(graph, own.stream);
    executor().synchronizeStream(own.stream);
    const theta = await Promise.all(own.theta.map((tensor) => tensor.download()));
    expect(theta.every((tensor) => tensor.every(Number.isFinite))).toBe(true);
  });

  test("is counted when a parameter group is added", () => {
    const own = scene();
    const graph = capture(own);
    step(own, graph, 1);
    step(own, graph, 1);
    executor().synchronizeStream(own.stream);
    own.optimizer.addParamGroup({ parameters: [{ name: "more", data: testDevice().buffer(4) }] });
    expect(own.optimizer.iterations).toBe(2);
  });

  test("resumes exactly from the state, in the same graph and in another optimizer's", async () => {
    const own = scene({ lr: (iterations) => 1e-2 / (1 + iterations) });
    const graph = capture(own);
    step(own, graph, 1);
    step(own, graph, 2);
    const { state: saved, theta } = await state(own);
    step(own, graph, 3);
    const expected = await state(own);

    const other = scene({ lr: (iterations) => 1e-2 / (1 + iterations) });
    const otherGraph = capture(other);
    step(other, otherGraph, 9);
    executor().synchronizeStream(other.stream);
    for (const [optimizer, graphOf] of [
      [own, graph],
      [other, otherGraph],
    ] as const) {
      await optimizer.optimizer.loadStateDict(saved);
      optimizer.theta.forEach((tensor, k) => tensor.upload(theta[k]!));
      step(optimizer, graphOf, 3);
      expect(await state(optimizer)).toEqual(expected);
    }
  });

  test("leaves no cosines of before in a state that was loaded", async () => {
    const own = scene({ cosines: true });
    const graph = capture(own);
    const { state: start } = await state(own);
    step(own, graph, 1);
    executor().synchronizeStream(own.stream);
    const cosines = async (): Promise<number[]> => [...((await own.optimizer.diagnostics()).cosines ?? [])];
    const before = await cosines();
    expect(before.some(Number.isFinite)).toBe(true);
    await own.optimizer.loadStateDict(start);
    expect((await cosines()).every(Number.isNaN)).toBe(true);
    step(own, graph, 1);
    executor().synchronizeStream(own.stream);
    expect(await cosines()).toEqual(before);
  });

  test("calls the runtime for launches only, not to allocate or wait", () => {
    for (const cosines of [false, true]) {
      const own = scene({ cosines });
      own.prepared.upload();
      own.optimizer.refresh();
      executor().beginCapture(own.stream);
      executor().resetCounters();
      own.optimizer.step(own.prepared, { stream: own.stream });
      const { calls } = executor().counters();
      executor().endCapture(own.stream);
      expect(Object.keys(calls).sort()).toEqual([
        "cudaLaunchKernel",
        "cudaStreamIsCapturing",
        "cudaThreadExchangeStreamCaptureMode",
      ]);
      expect(calls["cudaLaunchKernel"]).toBe(cosines ? 3 : 2);
    }
  });

  test.each<[string, RegExp, (one: Scene) => void, (one: Scene) => void]>([
    ["no options on the device", /^`refresh`/, () => undefined, ({ optimizer }) => optimizer.refresh()],
    [
      "a learning rate that was not sent",
      /^`refresh`/,
      ({ optimizer }) => {
        optimizer.refresh();
        optimizer.lr = 0.5;
      },
      ({ optimizer }) => optimizer.refresh(),
    ],
    [
      "weights that were not sent",
      /^`refresh`/,
      ({ optimizer }) => {
        optimizer.refresh();
        optimizer.weights = [1, 2];
      },
      ({ optimizer }) => optimizer.refresh(),
    ],
    [
      "a gradient that was replaced",
      /^`upload` of the prepared gradients/,
      ({ optimizer, prepared }) => {
        optimizer.refresh();
        prepared.set("a", 1, null);
      },
      ({ prepared }) => prepared.upload(),
    ],
  ])("is refused with %s, and the capture goes on", async (_, message, prepare, mend) => {
    const [right, own] = [scene(), scene()];
    own.prepared.upload();
    prepare(own);
    const before = await own.optimizer.stateDict();
    const { stream } = own;
    executor().beginCapture(stream);
    const error = await caught(() => own.optimizer.step(own.prepared, { stream }));
    expect(error).toMatchObject({
      code: "ERR_MTADAM_STATE",
      message: expect.stringMatching(message) as string,
    });
    executor().endCapture(stream);
    expect(await own.optimizer.stateDict()).toEqual(before);
    mend(own);
    const graph = capture(own);
    executor().launchGraph(graph, stream);
    right.optimizer.weights = own.optimizer.weights;
    right.optimizer.lr = own.optimizer.lr;
    if (message.source.includes("upload")) right.prepared.set("a", 1, null);
    right.optimizer.step(right.prepared);
    expect(await state(own)).toEqual(await state(right));
  });

  test("is refused with gradients that are not prepared, and so are other calls, and the capture goes on", async () => {
    const own = scene();
    const { optimizer, prepared, gradients, stream } = own;
    optimizer.step(gradients);
    capture(own);
    const iterations = optimizer.iterations;
    executor().beginCapture(stream);
    const calls: (() => void)[] = [
      () => optimizer.step(gradients, { stream }),
      () => optimizer.accumulate("a", gradients[0], { stream }),
      () => optimizer.update({ stream }),
      () => optimizer.refresh({ stream }),
    ];
    for (const call of calls) {
      expect(await caught(call)).toMatchObject({
        code: "ERR_MTADAM_STATE",
        message: expect.stringMatching(/^`stream` must not be capturing/) as string,
      });
    }
    optimizer.step(prepared, { stream });
    executor().endCapture(stream);
    expect(optimizer.iterations).toBe(iterations);
  });

  test("can be captured on a stream that orders itself with the default one", async () => {
    const [right, left] = [scene({}, true), scene({}, true)];
    const graph = capture(left);
    for (const scale of [1, 2, 3]) {
      step(right, undefined, scale);
      step(left, graph, scale);
    }
    expect(await state(left)).toEqual(await state(right));
  });

  test("keeps the order of calls on other streams, also while it is captured", async () => {
    const [right, left] = [scene(), scene()];
    const other = executor().createStream(true, 0);
    executor().setExecution("lazy");
    left.optimizer.step(left.prepared, { stream: left.stream });
    left.optimizer.refresh({ stream: left.stream });
    executor().beginCapture(left.stream);
    left.optimizer.step(left.prepared, { stream: left.stream });
    left.optimizer.step(left.prepared, { stream: other });
    const graph = executor().instantiateCapture(left.stream);
    graphs.push(graph);
    left.optimizer.synchronizeSync();
    executor().launchGraph(graph, left.stream);
    left.optimizer.step(left.prepared, { stream: left.stream });
    left.optimizer.step(left.prepared, { stream: other });
    left.optimizer.step(left.prepared);
    for (let turn = 0; turn < 6; ++turn) right.optimizer.step(right.prepared);
    expect(await state(left)).toEqual(await state(right));
    executor().setExecution("eager");
  });

  test("that could not be captured leaves the optimizer as it was", async () => {
    const [right, own] = [scene(), scene()];
    own.prepared.upload();
    own.optimizer.refresh();
    for (const nth of [1, 2]) {
      executor().beginCapture(own.stream);
      executor().failCall("cudaLaunchKernel", nth);
      expect(await caught(() => own.optimizer.step(own.prepared, { stream: own.stream }))).toMatchObject({
        code: "ERR_MTADAM_CUDA",
      });
      executor().endCapture(own.stream);
    }
    expect(own.optimizer.iterations).toBe(0);
    step(own, capture(own), 2);
    step(right, undefined, 2);
    expect(await state(own)).toEqual(await state(right));
  });

  test("is refused while a step is open, as is refresh", async () => {
    const { optimizer, prepared, gradients } = scene();
    optimizer.accumulate(0, gradients[0]);
    for (const call of [() => optimizer.step(prepared), () => optimizer.refresh()]) {
      expect(await caught(call)).toMatchObject({ code: "ERR_MTADAM_STATE" });
    }
  });
});
