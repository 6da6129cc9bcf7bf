/** Every call of the file system that a save or a load makes fails once. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import fsPromises from "node:fs/promises";
import path from "node:path";
import { MTAdam, type CheckpointProgress, type MTAdamError } from "../../lib";
import { caught, codeOf } from "../support/caught";
import { testDevice } from "../support/device";
import { fileHandlePrototype } from "../support/file-handle";
import { emptiedFolder } from "../support/folder";

const device = testDevice();
const folder = emptiedFolder();
const file = path.join(folder, "file");

afterEach(() => {
  jest.restoreAllMocks();
});

/** An optimizer that has taken so many steps. */
function after(steps: number): MTAdam {
  const optimizer = new MTAdam([device.buffer(3), device.buffer(2)], { terms: 2 });
  const gradients = [device.buffer(Float32Array.of(1, 2, 3)), device.buffer(Float32Array.of(1, 2))];
  for (let k = 0; k < steps; ++k) optimizer.step([gradients, [gradients[0]!, null]]);
  return optimizer;
}

const FUNCTIONS = ["open", "rename", "rm", "stat", "opendir", "readFile", "readlink"] as const;
const METHODS = ["read", "write", "sync", "stat", "chmod", "chown"] as const;

type Call = (this: unknown, ...given: unknown[]) => Promise<unknown>;

/** Lets the n-th call from now (0: the next) fail. @returns the name of the call, once it has failed */
async function failCall(n: number, code: string): Promise<() => string> {
  let [calls, failed] = [0, ""];
  const counted = (name: string, real: Call): Call =>
    async function (...given) {
      const fails = calls++ === n;
      // A file whose `close` fails is closed all the same.
      const result = fails && name !== "close" ? undefined : await real.apply(this, given);
      if (fails) {
        failed = name;
        throw Object.assign(new Error(`${code}: ${name}`), { code });
      }
      // Each file has a `close` of its own.
      if (name === "open")
        Object.assign(result as object, { close: counted("close", (result as { close: Call }).close) });
      return result;
    };
  const spy = (object: object, name: string): void => {
    const real = Reflect.get(object, name) as Call;
    jest.spyOn(object as Record<string, Call>, name).mockImplementation(counted(name, real));
  };
  const prototype = await fileHandlePrototype();
  for (const name of FUNCTIONS) spy(fsPromises, name);
  for (const name of METHODS) spy(prototype, name);
  return () => failed;
}

test.each(["EIO", "ENOSPC"])("a save is complete, or %s and leaves the old file", async (code) => {
  const failed = new Set<string>();
  for (let n = 0; ; ++n) {
    await after(1).save(file);
    const before = readFileSync(file);
    const optimizer = after(2);
    const state = await optimizer.stateDict();
    const fault = await failCall(n, code);
    const outcome = await codeOf(() => optimizer.save(file));
    jest.restoreAllMocks();
    if (fault() === "") break;
    failed.add(fault());
    const at = [n, fault(), outcome];
    expect([...at, readdirSync(folder)]).toEqual([...at, ["file"]]);
    expect([...at, await optimizer.stateDict()]).toEqual([...at, state]);
    if (outcome === "none") {
      const loaded = after(0);
      await loaded.load(file);
      expect([...at, await loaded.stateDict()]).toEqual([...at, state]);
    } else {
      expect(at).toEqual([n, fault(), `Error: ${code}: ${fault()}`]);
      expect([...at, readFileSync(file).equals(before)]).toEqual([...at, true]);
    }
    await optimizer.save(file);
  }
  expect([...failed].sort()).toEqual([
    ...["chmod", "close", "open", "opendir", "readFile", "readlink", "rename", "stat", "sync", "write"],
  ]);
});

test("a load is EIO and loads nothing, unless only closing the file fails", async () => {
  await after(2).save(file);
  const saved = await after(2).stateDict();
  const [failed, halfway] = [new Set<string>(), [] as string[]];
  for (let n = 0; ; ++n) {
    const optimizer = after(1);
    const before = await optimizer.stateDict();
    const fault = await failCall(n, "EIO");
    const outcome = await codeOf(() => optimizer.load(file));
    jest.restoreAllMocks();
    if (fault() === "") break;
    failed.add(fault());
    const at = [n, fault(), outcome];
    expect(at).toEqual([n, fault(), `Error: EIO: ${fault()}`]);
    const now = await optimizer.stateDict().catch((error: unknown) => (error as MTAdamError).code);
    // The last `stat`, which tells whether the file has changed meanwhile, comes after the state has been written.
    if (now === "ERR_MTADAM_STATE") halfway.push(fault());
    else expect([...at, now]).toEqual([...at, fault() === "close" ? saved : before]);
    await optimizer.load(file);
    expect(await optimizer.stateDict()).toEqual(saved);
  }
  expect([...failed].sort()).toEqual(["close", "open", "read", "stat"]);
  expect(halfway).toEqual(["stat"]);
});

test.each([0.1, 0.6])("a file that is written to after %d of a load is refused", async (part) => {
  const length = 1_500_000;
  const made = (): MTAdam => new MTAdam([device.buffer(length)], { terms: 1 });
  const [optimizer, gradient] = [made(), device.buffer(new Float32Array(length).fill(1))];
  const states: Buffer[] = [];
  for (let k = 0; k < 2; ++k) {
    optimizer.step([[gradient]], { gradientScale: 2 ** k });
    await optimizer.save(file);
    states.push(readFileSync(file));
  }
  writeFileSync(file, states[0]!);
  const loading = made();
  let isWritten = false;
  const onProgress = ({ bytes, total }: CheckpointProgress): void => {
    if (isWritten || bytes < part * total) return;
    isWritten = true;
    writeFileSync(file, states[1]!);
  };
  const { code, message } = await caught(() => loading.load(file, { onProgress }));
  expect([code, message]).toEqual([
    "ERR_MTADAM_CHECKPOINT",
    "The file must stay as it is while it is read; it has been written to.",
  ]);
  // After the check nothing has changed; during the restoration, the state must be loaded again.
  const state = await loading.stateDict().catch((error: unknown) => (error as MTAdamError).code);
  if (part > 0.5) expect(state).toBe("ERR_MTADAM_STATE");
  else expect([loading.iterations, typeof state]).toEqual([0, "object"]);
  await loading.load(file);
  expect(loading.iterations).toBe(2);
});
