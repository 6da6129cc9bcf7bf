import { readdirSync } from "node:fs";
import path from "node:path";
import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { caught } from "../support/caught";
import { onCuda, testDevice } from "../support/device";
import { executor, MACHINE, openExecutor } from "../support/executor";
import { temporaryFolder } from "../support/folder";

// Faults of a machine: each gives a coded error, leaves the process alive and the state unchanged.

onCuda("a machine", () => {
  if (testDeviceKind !== "executor") {
    test.todo("must be made to fail");
    return;
  }
  const machine = executor();
  const folder = temporaryFolder();
  beforeEach(() => {
    machine.reset(MACHINE);
  });

  interface Scene {
    optimizer: MTAdam;
    theta: DeviceBuffer;
    gradients: DeviceBuffer[][];
  }

  function scene(options: Partial<MTAdamOptions> = {}): Scene {
    const device = testDevice();
    const theta = device.buffer(new Float32Array(500).fill(1));
    const gradients = [1, -20].map((scale) => [device.buffer(new Float32Array(500).fill(scale))]);
    return { theta, gradients, optimizer: new MTAdam([theta], { terms: 2, device, ...options }) };
  }

  test.each([
    ["driver=0", "DRIVER", "No NVIDIA driver is installed."],
    [
      "driver_version=11080",
      "DRIVER",
      "The NVIDIA driver serves CUDA 11.8, but this build of mtadam uses CUDA 13.0, which needs a driver that serves " +
        "13.0 or newer.",
    ],
    ["devices=0", "NO_DEVICE", "There is no CUDA device on this machine."],
    [
      "devices=1",
      "NO_DEVICE",
      "`cuda:1` must be one of the 1 CUDA devices of this machine, numbered from 0.",
    ],
  ])("with %s says so", async (words, code, message) => {
    machine.reset(`${words} hide_device_memory=0`);
    expect(await caught(() => openExecutor(1))).toMatchObject({ code: `ERR_MTADAM_${code}`, message });
  });

  test("without enough memory leaves nothing behind", async () => {
    machine.reset(`${MACHINE} memory=1`);
    const device = testDevice();
    const before = machine.live().deviceBytes;
    expect(await caught(() => device.buffer(1 << 20))).toMatchObject({
      code: "ERR_MTADAM_OUT_OF_MEMORY",
      message: "There is not enough memory on the CUDA device.",
      cudaError: "cudaErrorMemoryAllocation",
      operation: "cudaMallocFromPoolAsync",
    });
    expect(machine.live().deviceBytes).toBe(before);
    device.buffer(100).dispose();
  });

  test("an allocation failure anywhere in the constructor frees the earlier allocations", async () => {
    const { theta } = scene();
    const before = machine.live();
    let failed = 0;
    for (let n = 1; ; ++n, ++failed) {
      machine.failAllocation(n);
      try {
        new MTAdam([theta], { terms: 2 }).dispose();
        break;
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_MTADAM_OUT_OF_MEMORY" });
      }
      // The ring of pinned slots belongs to the device and stays.
      expect(machine.live().deviceBytes).toBe(before.deviceBytes);
      expect(machine.live().events).toBeLessThanOrEqual(before.events + 16);
    }
    expect(failed).toBeGreaterThan(8);
  });

  test.each<[string, (optimizer: MTAdam) => void]>([
    ["addTerm", (optimizer) => optimizer.addTerm("new")],
    ["removeTerm", (optimizer) => optimizer.removeTerm(1)],
    [
      "addParamGroup",
      (optimizer) => optimizer.addParamGroup({ parameters: [{ name: "new", data: testDevice().buffer(3) }] }),
    ],
  ])("an allocation failure anywhere in %s changes nothing", async (_, call) => {
    let failed = 0;
    for (let n = 1; ; ++n, ++failed) {
      const { optimizer, gradients } = scene();
      optimizer.step(gradients);
      const before = [await optimizer.stateDict(), optimizer.terms, optimizer.paramGroups.length];
      machine.failAllocation(n);
      try {
        call(optimizer);
        break;
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_MTADAM_OUT_OF_MEMORY" });
      }
      expect([await optimizer.stateDict(), optimizer.terms, optimizer.paramGroups.length]).toEqual(before);
      optimizer.step(gradients);
      call(optimizer);
      optimizer.step(optimizer.terms.map(() => optimizer.paramGroups.map(() => null)));
    }
    expect(failed).toBeGreaterThan(1);
  });

  test("without memory for the sum of the terms changes nothing, and `step` still works", async () => {
    const { optimizer, theta, gradients } = scene({ firstMoment: "summed", secondMoment: "summed" });
    optimizer.step(gradients);
    const before = [await theta.download(), await optimizer.stateDict()];
    machine.failAllocation(1);
    expect(await caught(() => optimizer.accumulate(0, gradients[0]))).toMatchObject({
      code: "ERR_MTADAM_OUT_OF_MEMORY",
    });
    expect([await theta.download(), await optimizer.stateDict()]).toEqual(before);
    optimizer.step(gradients);
    for (const term of [0, 1]) optimizer.accumulate(term, gradients[term]);
    optimizer.update();
    expect(optimizer.iterations).toBe(3);
  });

  test("that refuses a call changes nothing, and the next one works", async () => {
    const { optimizer, theta, gradients } = scene();
    optimizer.step(gradients);
    const before = [await theta.download(), await optimizer.stateDict()];
    for (const [call, step] of [
      ["cudaLaunchKernel", () => optimizer.step(gradients)],
      ["cudaMemcpyAsync", () => optimizer.step(gradients, { weights: [2, 1] })],
    ] as const) {
      machine.failCall(call);
      const error = await caught(step);
      expect(error).toMatchObject({ code: "ERR_MTADAM_CUDA", cudaError: "cudaErrorUnknown" });
      expect([await theta.download(), await optimizer.stateDict()]).toEqual(before);
      expect(optimizer.iterations).toBe(1);
    }
    optimizer.step(gradients);
    expect(optimizer.iterations).toBe(2);
  });

  test("a step that does not begin has no cosines", async () => {
    const { theta, gradients } = scene();
    const optimizer = new MTAdam([theta], { terms: 2, cosines: true });
    machine.failCall("cudaLaunchKernel");
    expect((await caught(() => optimizer.step(gradients))).code).toBe("ERR_MTADAM_CUDA");
    expect([...(await optimizer.diagnostics()).cosines!]).toEqual([NaN, NaN, NaN, NaN]);
    optimizer.step(gradients);
    expect([...(await optimizer.diagnostics()).cosines!]).toEqual([1, -1, -1, 1]);
  });

  test("that fails diagnostics keeps the order of the others", async () => {
    const { optimizer, gradients } = scene();
    optimizer.step(gradients);
    for (let round = 0; round < 50; ++round) {
      const settled: string[] = [];
      const ask = (name: string): Promise<unknown> =>
        optimizer.diagnostics().then(
          () => settled.push(name),
          () => settled.push(`${name} fails`),
        );
      const first = ask("first");
      machine.failCall("cudaMemcpyAsync");
      await Promise.all([first, ask("second"), ask("third")]);
      expect(settled).toEqual(["first", "second fails", "third"]);
    }
  });

  test("that fails a report of onStats is warned of; the step is taken, and the other reports arrive", async () => {
    const warn = jest.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    const { optimizer, gradients } = scene();
    const told: number[] = [];
    optimizer.onStats(({ iteration }) => told.push(iteration), { every: 1 });
    optimizer.step(gradients);
    machine.failCall("cudaMemcpyAsync");
    optimizer.step(gradients);
    optimizer.step(gradients);
    await optimizer.diagnostics();
    expect(told).toEqual([1, 3]);
    expect(warn.mock.calls).toEqual([
      [
        expect.stringMatching(/^The diagnostics of iteration 2 could not be read for `onStats`: ./),
        { code: "MTADAM_STATS_LOST" },
      ],
    ]);
    warn.mockRestore();
  });

  test("that fails in the middle of a step must reload the state, and then continues from it", async () => {
    const { optimizer, theta, gradients } = scene();
    optimizer.step(gradients);
    const state = await optimizer.stateDict();
    const values = (await theta.download()) as Float32Array<ArrayBuffer>;
    // Fails the launch after that of the norms.
    machine.failCall("cudaLaunchKernel", 2);
    expect(await caught(() => optimizer.step(gradients))).toMatchObject({ code: "ERR_MTADAM_CUDA" });
    expect(optimizer.iterations).toBe(1);
    for (const call of [
      () => optimizer.step(gradients),
      () => optimizer.accumulate(0, gradients[0]),
      () => optimizer.update(),
      () => optimizer.discard(),
      () => optimizer.stepEach([null, null]),
      () => optimizer.refresh(),
      () => optimizer.norms(),
      () => optimizer.diagnostics(),
      () => optimizer.stateDict(),
      () => optimizer.save(path.join(folder, "half.safetensors")),
      () => optimizer.addTerm("new"),
      () => optimizer.removeTerm(1),
      () => optimizer.addParamGroup({ parameters: [{ name: "new", data: testDevice().buffer(3) }] }),
      () => optimizer.prepare(gradients),
      () => optimizer.addGradients(null, null),
    ]) {
      expect(await caught(call)).toMatchObject({
        code: "ERR_MTADAM_STATE",
        message:
          "`load` or `loadStateDict` must restore the whole state first: an earlier call ended midway.",
      });
    }
    expect(readdirSync(folder)).toEqual([]);
    // Parts of a state do not make it whole.
    await optimizer.loadStateDict(state, { strict: false });
    expect((await caught(() => optimizer.step(gradients))).code).toBe("ERR_MTADAM_STATE");
    await optimizer.loadStateDict(state);
    theta.upload(values);
    optimizer.step(gradients);
    const right = scene();
    for (let step = 0; step < 2; ++step) right.optimizer.step(right.gradients);
    expect(await theta.download()).toEqual(await right.theta.download());
  });

  test.each([
    {},
    { stepScale: "mean" as const },
    { firstMoment: "summed" as const },
    { firstMoment: "summed" as const, secondMoment: "summed" as const },
  ])("that fails in the middle of an accumulate must reload the state, with %p", async (options) => {
    const train = async (fails: boolean): Promise<Float32Array> => {
      const theta = testDevice().buffer(new Float32Array(500).fill(1));
      const gradients = [1, -20].map((scale) => [testDevice().buffer(new Float32Array(500).fill(scale))]);
      const optimizer = new MTAdam([theta], { terms: 2, weights: [1, 3], ...options });
      optimizer.step(gradients);
      const state = await optimizer.stateDict();
      if (fails) {
        optimizer.accumulate(1, gradients[1]);
        machine.failCall("cudaLaunchKernel", 2);
        expect((await caught(() => optimizer.accumulate(0, gradients[0]))).code).toBe("ERR_MTADAM_CUDA");
        expect((await caught(() => optimizer.discard())).code).toBe("ERR_MTADAM_STATE");
        await optimizer.loadStateDict(state);
      }
      for (let step = 0; step < 2; ++step) optimizer.step([gradients[0], null]);
      expect(optimizer.iterations).toBe(3);
      return theta.download();
    };
    expect(await train(true)).toEqual(await train(false));
  });

  test("that fails to describe a pointer reports the failure, not a bad pointer", async () => {
    const { theta } = scene();
    machine.failCall("cudaPointerGetAttributes");
    const error = await caught(
      () => new MTAdam([{ data: theta.ptr, length: 500 }], { terms: 1, device: testDevice() }),
    );
    expect(error).toMatchObject({
      code: "ERR_MTADAM_CUDA",
      cudaError: "cudaErrorUnknown",
      operation: "cudaPointerGetAttributes",
    });
  });

  const sticky = {
    code: "ERR_MTADAM_CUDA",
    cudaError: "cudaErrorIllegalAddress",
    message: expect.stringMatching(
      /a kernel faulted, most likely on memory freed after it was given to the optimizer/,
    ) as string,
  };

  test("whose kernel faults reports it in synchronize and later calls, and the process survives", async () => {
    const { optimizer, theta, gradients } = scene();
    await optimizer.synchronize();
    machine.setExecution("lazy");
    machine.failLaunch(1);
    optimizer.step(gradients);
    expect(await caught(() => optimizer.synchronize())).toMatchObject(sticky);
    expect(await caught(() => optimizer.synchronizeSync())).toMatchObject(sticky);
    expect(await caught(() => optimizer.step(gradients))).toMatchObject(sticky);
    expect(await caught(() => theta.download())).toMatchObject(sticky);
    expect(await caught(() => optimizer.norms())).toMatchObject(sticky);
    expect(await caught(() => testDevice().buffer(5))).toMatchObject(sticky);
    for (const disposable of [optimizer, theta, ...gradients.flat()]) disposable.dispose();
  });

  test("frees all memory, in any order of disposal", async () => {
    const empty = machine.live();
    const { optimizer, theta, gradients } = scene();
    const captured = optimizer.captureStep(optimizer.prepare(gradients));
    captured.replay();
    const pending = theta.download();
    for (const disposable of [theta, ...gradients.flat(), optimizer, captured]) disposable.dispose();
    expect([...(await pending)]).toHaveLength(500);
    const left = machine.live();
    // The device itself has a ring of pinned slots and a stream.
    expect({ ...left, pinnedBytes: 0, events: 0, streams: 0 }).toEqual(empty);
  });

  test("keeps the memory of a pending download", async () => {
    const { theta } = scene();
    machine.setExecution("lazy");
    const target = new Float32Array(500);
    const detached = new Float32Array(500);
    const downloads = [theta.download(target), theta.download(detached)];
    structuredClone(detached, { transfer: [detached.buffer] });
    theta.dispose();
    // Either of the two may settle first.
    const [kept, lost] = await Promise.allSettled(downloads);
    expect(kept?.status === "fulfilled" && kept.value === target).toBe(true);
    expect(target[499]).toBe(1);
    expect(lost).toMatchObject({
      status: "rejected",
      reason: {
        code: "ERR_MTADAM_LENGTH",
        message: "`target` must keep its elements; got an array that was detached.",
      },
    });
  });
});
