import {
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import v8 from "node:v8";
import vm from "node:vm";
import { native } from "../../lib/addon/native";
import { onCpu } from "../support/device";

const isLinux = process.platform === "linux";
const collect = (v8.setFlagsFromString("--expose-gc"), vm.runInNewContext("gc")) as () => void;

/** The mappings of shared memory in this process, in which earlier test files may have left some. */
const allMappings = (): string[] =>
  readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => line.includes("/memfd:mtadam"));

/** With the numbers of the files, since descriptors are reused. */
const allDescriptors = (): string[] =>
  readdirSync("/proc/self/fd").flatMap((name) => {
    try {
      const file = `/proc/self/fd/${name}`;
      return readlinkSync(file).startsWith("/memfd:mtadam") ? [`${name} ${statSync(file).ino}`] : [];
    } catch {
      return []; // that of the folder itself
    }
  });

/** Those that were made later. */
function newOnes(all: () => string[]): () => string[] {
  const before = new Set(all());
  return () => all().filter((one) => !before.has(one));
}

/** Another way to the same file, as another process has it. */
function share(
  byteLength: number,
  offsets: number[],
  lengths: number[],
): { arrays: Float32Array[]; file: number } {
  const memory = new native.SharedMemory();
  const file = openSync(`/proc/self/fd/${memory.descriptor}`, "r+");
  const elementBytes = new Float64Array(offsets.length).fill(4);
  const arrays = memory.map(byteLength, Float64Array.from(offsets), Float64Array.from(lengths), elementBytes);
  return { arrays: arrays as Float32Array[], file };
}

/** Two arrays over one mapping. */
function two(): Float32Array[] {
  const { arrays, file } = share(8192, [0, 4096], [1024, 1024]);
  closeSync(file);
  return arrays;
}

async function collected(isDone: () => boolean, tries = 50): Promise<void> {
  for (let k = 0; k < tries && !isDone(); ++k) {
    collect();
    await pause(10);
  }
}

if (isLinux) {
  onCpu("shared memory", () => {
    test("is seen through both ways to it", () => {
      const { arrays, file } = share(256, [0, 128], [3, 2]);
      arrays[1]!.set([1.5, 2.5]);
      const seen = new Float32Array(2);
      readSync(file, seen, 0, 8, 128);
      expect(seen).toEqual(Float32Array.of(1.5, 2.5));
      writeSync(file, Float32Array.of(7), 0, 4, 8);
      expect(arrays[0]).toEqual(Float32Array.of(0, 0, 7));
      closeSync(file);
    });

    test("cannot be cut short, nor grow, so that reading never ends the process", () => {
      const { arrays, file } = share(8192, [4096], [1024]);
      for (const size of [0, 4096, 8191, 8193]) expect(() => ftruncateSync(file, size)).toThrow(/EPERM/);
      expect(arrays[0]![1023]).toBe(0);
      closeSync(file);
    });

    test("stays while one array over it is left, and is given back then", async () => {
      const mappings = newOnes(allMappings);
      const kept = [two()[1]!];
      kept[0]![5] = 5;
      await collected(() => false, 3);
      expect(mappings()).toHaveLength(1);
      expect(kept[0]![5]).toBe(5);
      kept.length = 0;
      await collected(() => mappings().length === 0);
      expect(mappings()).toEqual([]);
    });

    test("leaves no descriptor behind, mapped or not", async () => {
      const descriptors = newOnes(allDescriptors);
      expect(new native.SharedMemory().descriptor).toBeGreaterThan(2);
      expect(descriptors()).toHaveLength(1);
      await collected(() => descriptors().length === 0);
      expect(descriptors()).toEqual([]);
    });

    test("cannot be transferred away, to a thread that would outlive the mapping", () => {
      const { arrays, file } = share(64, [0], [16]);
      closeSync(file);
      const buffer = arrays[0]!.buffer as ArrayBuffer &
        Record<"transfer" | "transferToFixedLength", () => void>;
      expect(() => buffer.transfer()).toThrow(/cannot be transferred/);
      expect(() => buffer.transferToFixedLength()).toThrow(/cannot be transferred/);
      try {
        structuredClone(buffer, { transfer: [buffer] }); // before Node 21 it copies
      } catch (error) {
        expect(error).toMatchObject({ name: "DataCloneError" });
      }
      expect(arrays[0]).toHaveLength(16);
      expect(Object.keys(buffer)).toEqual([]);
    });

    test("is refused where there is too little, or where an array would leave it", () => {
      const map = (size: number, offset: number, length: number, elementBytes = 4): unknown =>
        new native.SharedMemory().map(
          size,
          ...([Float64Array.of(offset), Float64Array.of(length), Float64Array.of(elementBytes)] as const),
        );
      expect(() => map(2 ** 50, 0, 1)).toThrow(expect.objectContaining({ code: "OUT_OF_MEMORY" }) as Error);
      for (const [size, offset, length, elementBytes] of [
        [64, 0, 17],
        [64, 64, 1],
        [64, 128, 1],
        [64, 2, 1],
        [64, 60, 2],
        [64, 62, 2, 2],
        [64, 1, 1, 2],
        [64, 0, 1, 8],
        [64, 0, 1, 0],
      ] as const) {
        expect(() => map(size, offset, length, elementBytes)).toThrow(
          expect.objectContaining({ code: "LENGTH" }) as Error,
        );
      }
    });
  });
} else {
  test("shared memory is refused", () => {
    expect(() => new native.SharedMemory()).toThrow(expect.objectContaining({ code: "TORCH" }) as Error);
  });
}
