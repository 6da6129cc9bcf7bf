/** The path of a checkpoint: its forms, the kinds of files that it may lead to, and the replaced file. */

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import fsPromises from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { MTAdam, type PathLike } from "../../lib";
import { caught } from "../support/caught";
import { testDevice } from "../support/device";
import { fileHandlePrototype } from "../support/file-handle";
import { emptiedFolder } from "../support/folder";

const device = testDevice();
const folder = emptiedFolder();
const start = process.cwd();
const inFolder = (...names: string[]): string => path.join(folder, ...names);

afterEach(() => {
  process.chdir(start);
  jest.restoreAllMocks();
});

/** An optimizer that has taken so many steps. */
function after(steps: number): MTAdam {
  const optimizer = new MTAdam([device.buffer(3)], { terms: 1 });
  for (let k = 0; k < steps; ++k) optimizer.step([[device.buffer(Float32Array.of(1, 2, 3))]]);
  return optimizer;
}

/** The steps of the optimizer whose checkpoint is at `file`. */
async function stepsAt(file: PathLike): Promise<number> {
  const optimizer = after(0);
  await optimizer.load(file);
  return optimizer.iterations;
}

describe("a path may be", () => {
  test.each<[string, (file: string) => PathLike]>([
    ["a string", (file) => file],
    ["a URL", (file) => pathToFileURL(file)],
    ["a Buffer", (file) => Buffer.from(file)],
    ["a Uint8Array", (file) => Uint8Array.from(Buffer.from(file))],
  ])("%s", async (_, form) => {
    const file = inFolder("näme of 50 %.st");
    await after(2).save(form(file));
    expect(readdirSync(folder)).toEqual([path.basename(file)]);
    expect(await stepsAt(form(file))).toBe(2);
  });

  test.each<[string, unknown]>([
    ["empty", ""],
    ["an empty Buffer", Buffer.alloc(0)],
    ["with a zero byte", inFolder("a\0b")],
    ["a Buffer with a zero byte", Buffer.from(inFolder("a\0b"))],
    ["a URL of the web", new URL("https://example.org/a.st")],
    ["a number", 1],
    ["null", null],
    ["an object", { path: "a" }],
    ["a function", () => "a"],
    ["another typed array", new Uint16Array(4)],
  ])("not %s", async (_, wrong) => {
    for (const operation of ["save", "load"] as const) {
      const error = await caught(() => after(1)[operation](wrong as string));
      expect(error).toMatchObject({ code: "ERR_MTADAM_OPTION" });
      expect(error.message).toMatch(
        /^`path` must be the path of a file: a string, a file URL or a Buffer; got /,
      );
    }
    expect(readdirSync(folder)).toEqual([]);
  });

  (process.platform === "linux" ? test : test.skip)("bytes that are no text", async () => {
    const file = Buffer.concat([Buffer.from(inFolder("a")), Buffer.of(0xff, 0xfe)]);
    await after(3).save(file);
    await after(4).save(file);
    expect(readdirSync(folder, { encoding: "buffer" })).toEqual([Buffer.of(0x61, 0xff, 0xfe)]);
    expect(await stepsAt(file)).toBe(4);
    unlinkSync(file); // rmSync of the folder would not delete it
  });
});

describe("a relative path means the file that it means at the call", () => {
  beforeEach(() => {
    for (const name of ["here", "there"]) mkdirSync(inFolder(name));
    process.chdir(inFolder("here"));
  });

  test("to save", async () => {
    const saving = after(1).save("file");
    process.chdir(inFolder("there"));
    await saving;
    expect(readdirSync(inFolder("here"))).toEqual(["file"]);
    expect(readdirSync(inFolder("there"))).toEqual([]);
  });

  test("to save, while it is written", async () => {
    const onProgress = (): void => {
      process.chdir(inFolder("there"));
    };
    await after(1).save("file", { onProgress });
    expect(readdirSync(inFolder("here"))).toEqual(["file"]);
  });

  test("to load", async () => {
    await after(1).save(inFolder("here", "file"));
    await after(2).save(inFolder("there", "file"));
    const optimizer = after(0);
    const loading = optimizer.load("file");
    process.chdir(inFolder("there"));
    await loading;
    expect(optimizer.iterations).toBe(1);
  });
});

describe("a symbolic link", () => {
  test("stays, and its target is replaced", async () => {
    mkdirSync(inFolder("runs"));
    await after(1).save(inFolder("runs", "one"));
    symlinkSync("runs/one", inFolder("latest"));
    symlinkSync("latest", inFolder("alias"));
    await after(2).save(inFolder("alias"));
    expect(readlinkSync(inFolder("alias"))).toBe("latest");
    expect(readlinkSync(inFolder("latest"))).toBe("runs/one");
    expect(readdirSync(folder).sort()).toEqual(["alias", "latest", "runs"]);
    expect(await stepsAt(inFolder("runs", "one"))).toBe(2);
  });

  test("of a folder is followed before `..`", async () => {
    mkdirSync(inFolder("outer"));
    mkdirSync(inFolder("outer", "inner"));
    symlinkSync("outer/inner", inFolder("link"));
    await after(1).save(`${folder}/link/../file`);
    expect(await stepsAt(inFolder("outer", "file"))).toBe(1);
  });

  test("to nothing: the file that it names is created", async () => {
    mkdirSync(inFolder("runs"));
    symlinkSync(inFolder("runs", "one"), inFolder("latest"));
    await after(3).save(inFolder("latest"));
    expect(lstatSync(inFolder("latest")).isSymbolicLink()).toBe(true);
    expect(await stepsAt(inFolder("runs", "one"))).toBe(3);
  });

  test("that leads back to itself throws the system's error", async () => {
    symlinkSync("b", inFolder("a"));
    symlinkSync("a", inFolder("b"));
    for (const operation of ["save", "load"] as const) {
      await expect(after(1)[operation](inFolder("a"))).rejects.toMatchObject({ code: "ELOOP" });
    }
    expect(readdirSync(folder).sort()).toEqual(["a", "b"]);
  });
});

describe("the file that is replaced", () => {
  const isRoot = process.getuid?.() === 0;

  test("keeps its mode", async () => {
    const file = inFolder("file");
    for (const mode of [0o600, 0o640, 0o664, 0o444]) {
      writeFileSync(file, "");
      chmodSync(file, mode);
      await after(1).save(file);
      expect(statSync(file).mode & 0o7777).toBe(mode);
      expect(await stepsAt(file)).toBe(1);
      rmSync(file);
    }
  });

  test("is never open to others, also while it is written", async () => {
    const file = inFolder("file");
    writeFileSync(file, "");
    chmodSync(file, 0o600);
    const modes = new Set<number>();
    const onProgress = (): void => {
      for (const name of readdirSync(folder)) modes.add(statSync(inFolder(name)).mode & 0o777);
    };
    await after(1).save(file, { onProgress });
    expect(modes).toEqual(new Set([0o600]));
  });

  test("gets the mode of a new file if there was none", async () => {
    const mask = process.umask(0o027);
    try {
      await after(1).save(inFolder("file"));
      expect(statSync(inFolder("file")).mode & 0o777).toBe(0o640);
    } finally {
      process.umask(mask);
    }
  });

  test("keeps its owner, if the process may set it", async () => {
    const file = inFolder("file");
    writeFileSync(file, "");
    const owner = isRoot ? { uid: 12345, gid: 54321 } : { uid: process.getuid?.(), gid: process.getgid?.() };
    if (isRoot) chownSync(file, 12345, 54321);
    chmodSync(file, 0o640);
    await after(1).save(file);
    expect(statSync(file)).toMatchObject(owner);
    expect(statSync(file).mode & 0o7777).toBe(0o640);
  });

  test("may have a name of any length", async () => {
    const file = inFolder("n".repeat(255));
    await after(1).save(file);
    await after(2).save(file);
    expect(readdirSync(folder)).toEqual([path.basename(file)]);
    expect(await stepsAt(file)).toBe(2);
  });
});

describe("anything but a regular file is refused and stays as it is:", () => {
  const fifo = (): string => {
    expect(spawnSync("mkfifo", [inFolder("it")]).status).toBe(0);
    return inFolder("it");
  };
  const inFolderOf = (name: string): string => {
    mkdirSync(inFolder(name));
    return inFolder(name);
  };
  test.each<[string, RegExp, () => string]>([
    ["a folder", /got that of a folder\.$/, () => inFolderOf("it")],
    ["a folder that is named as one", /got that of a folder\.$/, () => `${inFolderOf("it")}/`],
    ["a folder that is not there", /got that of a folder\.$/, () => inFolder("none/")],
    ["a FIFO", /got that of a FIFO\.$/, fifo],
    [
      "a link to a FIFO",
      /got that of a FIFO\.$/,
      () => {
        symlinkSync(fifo(), inFolder("link"));
        return inFolder("link");
      },
    ],
  ])("%s", async (_, says, make) => {
    const file = make();
    const before = readdirSync(folder);
    for (const operation of ["save", "load"] as const) {
      const optimizer = after(1);
      const synchronize = jest.spyOn(optimizer, "synchronize");
      const error = await caught(() => optimizer[operation](file));
      expect(error).toMatchObject({ code: "ERR_MTADAM_OPTION" });
      expect(error.message).toMatch(/^`path` must be the path of a regular file; /);
      expect(error.message).toMatch(says);
      expect(synchronize).not.toHaveBeenCalled();
    }
    expect(readdirSync(folder)).toEqual(before);
  });

  test("a device", async () => {
    const error = await caught(() => after(1).load("/dev/zero"));
    expect(error.message).toMatch(/got that of a device\.$/);
  });

  // Only root may make one.
  (process.getuid!() === 0 ? test : test.skip)("a device of its own", async () => {
    const node = inFolder("null");
    spawnSync("mknod", [node, "c", "1", "3"]);
    await caught(() => after(1).save(node));
    expect(statSync(node).isCharacterDevice()).toBe(true);
  });

  test("a FIFO that takes the file's place after the call", async () => {
    const file = inFolder("it");
    await after(1).save(file);
    for (const operation of ["save", "load"] as const) {
      const running = after(1)[operation](file);
      rmSync(file);
      fifo();
      expect(await caught(() => running)).toMatchObject({ code: "ERR_MTADAM_OPTION" });
      expect(readdirSync(folder)).toEqual(["it"]);
      expect(statSync(file).isFIFO()).toBe(true);
    }
  });
});

/** Makes calls of the file system with these arguments fail with this code. */
function failing(
  name: "rename" | "open" | "opendir",
  code: string,
  when: (what: unknown) => boolean = () => true,
) {
  const real = fsPromises[name] as (...args: unknown[]) => Promise<unknown>;
  return jest
    .spyOn(fsPromises, name)
    .mockImplementation(((...args: unknown[]) =>
      when(args[0])
        ? Promise.reject(Object.assign(new Error(`${code}: ${name}`), { code, syscall: name }))
        : real(...args)) as never);
}

describe("a file system that cannot do everything", () => {
  test("a file that is a mount point: an error says why and what to do", async () => {
    const file = inFolder("file");
    await after(1).save(file);
    const before = readFileSync(file);
    failing("rename", "EBUSY");
    const error = await caught(() => after(2).save(file));
    expect(error).toMatchObject({ code: "ERR_MTADAM_OPTION", cause: { code: "EBUSY" } });
    expect(error.message).toMatch(/^`path` must be [^.]* mount point[^.]* \(mount its folder instead\)\.$/);
    expect(readdirSync(folder)).toEqual(["file"]);
    expect(readFileSync(file)).toEqual(before);
  });

  test("a folder that cannot be listed or opened", async () => {
    failing("opendir", "EACCES");
    const open = failing("open", "EACCES", (what) => what === folder);
    await after(1).save(inFolder("file"));
    expect(open).toHaveBeenCalledWith(folder, "r");
    expect(await stepsAt(inFolder("file"))).toBe(1);
  });

  test("a folder that cannot be synced", async () => {
    const prototype = await fileHandlePrototype();
    const real = prototype.sync; // eslint-disable-line @typescript-eslint/unbound-method
    let failed = 0;
    jest.spyOn(prototype, "sync").mockImplementation(async function (this: typeof prototype) {
      if (!(await this.stat()).isDirectory()) return real.call(this);
      ++failed;
      throw Object.assign(new Error("EINVAL: fsync"), { code: "EINVAL" });
    });
    await after(1).save(inFolder("file"));
    expect(failed).toBe(1);
    expect(await stepsAt(inFolder("file"))).toBe(1);
  });

  test("a disk fault throws an error of the file system, and the old file stays", async () => {
    const file = inFolder("file");
    await after(1).save(file);
    const before = readFileSync(file);
    const prototype = await fileHandlePrototype();
    const fails = (): Promise<never> => Promise.reject(Object.assign(new Error("EIO"), { code: "EIO" }));
    for (const call of ["write", "sync"] as const) {
      const spy = jest.spyOn(prototype, call).mockImplementation(fails);
      await expect(after(2).save(file)).rejects.toMatchObject({ code: "EIO" });
      spy.mockRestore();
      expect(readdirSync(folder)).toEqual(["file"]);
      expect(readFileSync(file)).toEqual(before);
    }
    const optimizer = after(2);
    const state = await optimizer.stateDict();
    jest.spyOn(prototype, "read").mockImplementation(fails);
    await expect(optimizer.load(file)).rejects.toMatchObject({ code: "EIO" });
    expect(await optimizer.stateDict()).toEqual(state);
  });
});

test("the paths of errors are those of the call", async () => {
  const file = inFolder("nowhere", "file");
  expect(existsSync(inFolder("nowhere"))).toBe(false);
  await expect(after(1).load(file)).rejects.toMatchObject({ code: "ENOENT", path: file });
});
