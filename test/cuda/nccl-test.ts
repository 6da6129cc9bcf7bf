import { spawn } from "node:child_process";
import { createServer, type AddressInfo } from "node:net";
import path from "node:path";
import { endOf, type Ended } from "../support/process";
import { caught } from "../support/caught";
import { connectNccl, ncclId } from "../../lib/distributed";
import { MTAdam } from "../../lib";
import { onCuda, onExecutor, otherDevice, testDevice } from "../support/device";
import { executor, MACHINE } from "../support/executor";

const STAND_IN = path.resolve("build/cmake-executor/Release/libnccl_stand_in.so");

/** A port that nobody listens at. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => {
        resolve(port);
      });
    });
  });
}

/** When rank 0 ends, the others are killed, as a launcher does where it fails. */
async function runRanks(ranks: number, values: string[], env: Record<string, string> = {}): Promise<Ended[]> {
  const port = await freePort();
  const file = path.resolve(__dirname, "../support/ranks/nccl.mjs");
  const children = Array.from({ length: ranks }, (_, rank) =>
    spawn(process.execPath, [file, ...values], {
      timeout: 90_000,
      killSignal: "SIGKILL",
      env: {
        ...process.env,
        RANK: String(rank),
        WORLD_SIZE: String(ranks),
        MASTER_ADDR: "127.0.0.1",
        MASTER_PORT: String(port),
        NO_COLOR: "1",
        ...env,
      },
    }),
  );
  const ends = children.map(endOf);
  const zero = await ends[0]!;
  if (zero.code !== 0) for (const child of children) child.kill("SIGKILL");
  return Promise.all(ends);
}

onCuda("several ranks over NCCL", () => {
  if (testDeviceKind !== "executor") {
    test.todo("need several GPUs");
    return;
  }

  test("have the bits of one process on 1, 2 and 4 ranks, in several forms", async () => {
    const digests = new Set<string>();
    for (const [ranks, execution] of [
      [1, "random"],
      [2, "lazy"],
      [4, "random"],
    ] as const) {
      for (const { code, stdout, stderr } of await runRanks(ranks, ["trials", execution])) {
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
        const line = JSON.parse(stdout) as { size: number; digest: string };
        expect(line.size).toBe(ranks);
        digests.add(line.digest);
      }
    }
    expect(digests.size).toBe(1);
  });

  const GONE = /Rank 0 cannot go on with `step`: remote process exited or there was a network error\./;
  const failures: [way: string, sentence: RegExp][] = [
    ["throw", GONE],
    ["kill", GONE],
    ["midway", GONE],
    ["exit", GONE],
    ["hang", /Rank 0 waited 3 s for the other ranks in `step`/],
    ["order", /All ranks must make the same calls in the same order; got rank 0 `step` and rank 1 `barrier`/],
  ];
  test.each(failures)("an error ends what rank 0 waits for: %s", async (way, sentence) => {
    const [zero] = await runRanks(2, [way]);
    expect(zero).toMatchObject({ code: 3, stdout: expect.stringMatching(sentence) as unknown });
  });

  test.each(["ncclCommInitRankConfig:1", "ncclAllGather:1", "ncclAllGather:3", "ncclReduceScatter:1"])(
    "a call that fails: %s",
    async (call) => {
      const [zero] = await runRanks(1, ["hang"], { NCCL_STAND_IN_FAIL: call });
      expect(zero?.code).not.toBe(0);
      expect(`${zero?.stdout}${zero?.stderr}`).toContain(
        `${call.split(":")[0]} failed: unhandled cuda error.`,
      );
    },
  );

  test("a library that is too old", async () => {
    const [zero] = await runRanks(1, ["hang"], { NCCL_STAND_IN_VERSION: "21212" });
    expect(zero?.stderr).toContain("NCCL 2.14 or newer is needed; got NCCL 2.12.12.");
  });
});

onCuda("connectNccl", () => {
  const device = testDevice();
  const good = { device, rank: 0, world: 1, rendezvous: "127.0.0.1:1" };

  test.each([
    [{ device: undefined }, "`device` must be a CUDA device from `openDevice`; got undefined."],
    [{ rank: -1 }, "`rank` must be a whole number from 0, here or in the environment's RANK; got -1."],
    [{ rank: 1 }, "`rank` must be less than `world`, 1; got 1."],
    [{ world: 0 }, "`world` must be at least 1; got 0."],
    [{ id: new Uint8Array(3) }, /^`id` must be the 128 bytes that `ncclId\(\)` returned; got /],
    ...["host", "host:0", "host:65536"].map((rendezvous): [object, string] => [
      { world: 2, rendezvous },
      `\`rendezvous\` must be "host:port", here or in the environment's MASTER_ADDR and MASTER_PORT; got "${rendezvous}".`,
    ]),
    [{ timeout: 0 }, "`timeout` must be a number of seconds above 0, at most 1000000; got 0."],
  ])("%j", async (changed, message) => {
    const error = await caught(() => connectNccl({ ...good, ...changed }));
    expect(error.code).toBe("ERR_MTADAM_OPTION");
    expect(error.message).toMatch(message);
  });

  test("a library that is not there names the package", async () => {
    const error = await caught(() => connectNccl({ ...good, library: "libnone.so.2" }));
    expect(error.code).toBe("ERR_MTADAM_DISTRIBUTED");
    expect(error.message).toMatch(
      /^NCCL could not be loaded \(libnone\.so\.2: .*\)\. .*libnccl2.*nvidia-nccl-cu12/,
    );
    const ofId = await caught(() => {
      ncclId({ library: "libnone.so.2" });
    });
    expect(ofId.code).toBe(error.code);
  });

  test("a library that is another", async () => {
    const error = await caught(() => connectNccl({ ...good, library: "libm.so.6" }));
    expect(error.message).toBe("The library of NCCL has no ncclGetVersion.");
  });

  test("ranks that do not come", async () => {
    const rendezvous = `127.0.0.1:${await freePort()}`;
    const common = { device, world: 3, rendezvous, timeout: 0.3 };
    expect((await caught(() => connectNccl({ ...common, rank: 1 }))).message).toMatch(
      /^Rank 1 waited 0\.3 s for rank 0 at 127\.0\.0\.1:\d+: connect ECONNREFUSED .*\.$/,
    );
  });

  onExecutor("rank 0, whose others do not come", async () => {
    const common = { device, world: 3, rendezvous: `127.0.0.1:${await freePort()}`, timeout: 0.3 };
    expect((await caught(() => connectNccl({ ...common, rank: 0, library: STAND_IN }))).message).toMatch(
      /^Rank 0 waited 0\.3 s at 127\.0\.0\.1:\d+ for the other ranks; missing: 1, 2\.$/,
    );
  });

  onExecutor("ranks that differ", async () => {
    const rendezvous = `127.0.0.1:${await freePort()}`;
    const common = { device, rendezvous, timeout: 20, library: STAND_IN };
    const errors = await Promise.all([
      caught(() => connectNccl({ ...common, rank: 0, world: 2 })),
      caught(() => connectNccl({ ...common, rank: 1, world: 3 })),
    ]);
    for (const { code, message } of errors) {
      expect(code).toBe("ERR_MTADAM_DISTRIBUTED");
      expect(message).toBe("All ranks must have the same `world`; got 2 in rank 0 and 3 in rank 1.");
    }
  });

  onExecutor("one rank trains on its own device alone, and steps are not captured", async () => {
    executor().reset(MACHINE);
    const own = testDevice();
    executor().useNccl(STAND_IN);
    const comm = await connectNccl({ device: own, rank: 0, world: 1, library: STAND_IN });
    const make = (where: typeof own): MTAdam =>
      new MTAdam([where.buffer(Float32Array.of(1))], { terms: 1, distributed: comm });
    expect((await caught(() => make(otherDevice()))).message).toBe(
      "`distributed` must have the device of the parameters, with `connectNccl`.",
    );
    const optimizer = make(own);
    const gradients = [[own.buffer(Float32Array.of(1))]];
    optimizer.step(gradients);
    expect((await caught(() => optimizer.captureStep(optimizer.prepare(gradients)))).code).toBe(
      "ERR_MTADAM_OPTION",
    );
    await comm.close();
    expect(
      await caught(() => {
        optimizer.step(gradients);
      }),
    ).toMatchObject({
      code: "ERR_MTADAM_DISTRIBUTED",
      message: "The communicator has been closed.",
    });
  });
});
