/** The next save removes some of the temporary files that processes have left behind. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { MTAdam } from "../../lib";
import { Place } from "../../lib/checkpoint/path";
import { temporaryName } from "../../lib/checkpoint/temporary-file";
import { onCpu } from "../support/device";
import { emptiedFolder } from "../support/folder";

const folder = emptiedFolder();
const target = path.join(folder, "state.safetensors");
const save = (file = target): Promise<void> => new MTAdam([new Float32Array(3)], { terms: 1 }).save(file);

/** A temporary file of this process for `file`, or of one that differs from it in parts of the name. */
async function leave(
  changes: Partial<Record<"machine" | "pid" | "start", string>>,
  file = target,
): Promise<string> {
  const [mtadam, name, machine, pid, start, random] = (await temporaryName(Place.of(file))).split("-");
  const writer = { machine, pid, start, ...changes };
  const left = path.join(folder, [mtadam, name, writer.machine, writer.pid, writer.start, random].join("-"));
  writeFileSync(left, "left");
  return left;
}

/** The number of a process that has ended. */
async function deadProcess(): Promise<string> {
  const child = spawn(process.execPath, ["-e", ""]);
  await once(child, "close");
  return String(child.pid);
}

const makeOld = (file: string): void => {
  const before = Date.now() / 1000 - 2 * 3600;
  utimesSync(file, before, before);
};

onCpu("the next save to that path", () => {
  test("removes what a dead process left, and so does one through a link", async () => {
    const left = await leave({ pid: await deadProcess() });
    await save();
    expect(existsSync(left)).toBe(false);
    const again = await leave({ pid: await deadProcess() });
    symlinkSync("state.safetensors", path.join(folder, "link"));
    await save(path.join(folder, "link"));
    expect(existsSync(again)).toBe(false);
    expect(readdirSync(folder).sort()).toEqual(["link", "state.safetensors"]);
  });

  test("keeps that of a live process: this one", async () => {
    const left = await leave({});
    makeOld(left);
    await save();
    expect(existsSync(left)).toBe(true);
  });

  test("keeps that of a live process whose start could not be read when the file was named, for an hour", async () => {
    const left = await leave({ start: "0" });
    await save();
    expect(existsSync(left)).toBe(true);
    makeOld(left);
    await save();
    expect(existsSync(left)).toBe(false);
  });

  test("keeps temporary files for other targets, and files with other names", async () => {
    const pid = await deadProcess();
    const other = await leave({ pid }, path.join(folder, "other"));
    const foreign = `${target}.tmp`;
    writeFileSync(foreign, "");
    await save();
    expect([other, foreign].filter(existsSync)).toEqual([other, foreign]);
  });

  (process.platform === "linux" ? test : test.skip)(
    "removes that of an earlier process with the number of a living one, as in a container that was started again",
    async () => {
      const left = await leave({ start: "1" });
      await save();
      expect(existsSync(left)).toBe(false);
    },
  );

  test("removes that of a process on another machine only when nobody has written to it for an hour", async () => {
    const left = await leave({ machine: "0123abcd" });
    const old = await leave({ machine: "0123abcd" });
    makeOld(old);
    await save();
    expect(existsSync(left)).toBe(true);
    expect(existsSync(old)).toBe(false);
  });
});

test("a temporary name is short, whatever the target's", async () => {
  const name = await temporaryName(Place.of(path.join(folder, "n".repeat(255))));
  expect(name.length).toBeLessThan(100);
});
