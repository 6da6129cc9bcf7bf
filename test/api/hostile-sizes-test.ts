/** Names, lists and files of sizes that nobody has: refused with a code, or done in time. */

import type { FileHandle } from "node:fs/promises";
import path from "node:path";
import { MTAdam } from "../../lib";
import { readUpTo } from "../../lib/checkpoint/chunked-file";
import { caught, codeOf } from "../support/caught";
import { device } from "../support/scene";
import { temporaryFolder } from "../support/folder";

const folder = temporaryFolder();
const element = () => device.buffer(1);

test("a file is read in pieces below 2 GiB, of which Node would end the process", async () => {
  const bytes = new Uint8Array(2 ** 31 + 5); // never touched
  const lengths: number[] = [];
  const file = {
    read: (_: Uint8Array, __: number, length: number) => {
      lengths.push(length);
      return Promise.resolve({ bytesRead: length });
    },
  };
  expect(await readUpTo(file as unknown as FileHandle, bytes, 0)).toBe(bytes.length);
  expect(lengths).toEqual([2 ** 30, 2 ** 30, 5]);
});

test("a misspelled name of a million characters is refused without a suggestion", async () => {
  const optimizer = new MTAdam([element()], { terms: ["a".repeat(1e6), "c"] });
  const { code, message } = await caught(() => optimizer.accumulate("b".repeat(1e6), [element()]));
  expect(code).toBe("ERR_MTADAM_TERM");
  expect(message).not.toMatch(/did you mean/i);
});

test("20,000 terms", () => {
  const optimizer = new MTAdam([element()], { terms: 20_000 });
  optimizer.step({ 19999: [element()] });
  optimizer.addTerm("more");
  expect(optimizer.terms).toHaveLength(20_001);
  optimizer.dispose();
});

test("more pairs of a term and a parameter than lists can have are refused", async () => {
  const parameters = Array.from({ length: 1025 }, element);
  const { code, message } = await caught(() => new MTAdam(parameters, { terms: 32_768 }));
  expect(code).toBe("ERR_MTADAM_OPTION");
  expect(message).toBe(
    "There must be at most 33554432 pairs of a term and a parameter; got 32768 terms and 1025 parameters.",
  );
});

test("names that no file can hold are refused by a save", async () => {
  const name = "\u0001".repeat(250_000); // in JSON in JSON seven characters each
  const optimizer = new MTAdam([element()], {
    terms: Array.from({ length: 64 }, (_, k) => name + String(k)),
  });
  expect(await codeOf(() => optimizer.save(path.join(folder, "file")))).toBe("ERR_MTADAM_CHECKPOINT");
});

test("lists with an iterator of their own are read by their length", async () => {
  const endless = function* () {
    for (;;) yield 1;
  };
  const shape = Object.assign([1], { [Symbol.iterator]: endless });
  const terms = Object.assign(["a"], { [Symbol.iterator]: endless });
  const optimizer = new MTAdam([{ data: element(), shape }], { terms: terms });
  expect(optimizer.terms).toEqual(["a"]);
  expect((await optimizer.stateDict()).metadata.parameters[0]!.shape).toEqual([1]);
});
