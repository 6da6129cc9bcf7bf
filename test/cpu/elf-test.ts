import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { compareVersions, isCutShort, readElf } from "../../lib/addon/elf";
import { builtAddon, forArm, withoutSections } from "../support/installed";

/** The needed symbol versions of each library: [library, versions]. */
type Needs = readonly (readonly [string, readonly string[]])[];

const HEADER = 64;
const SECTION = 64;
const ENTRY = 16;

/** A file with only a header, a section .gnu.version_r and its strings. */
function elf(needs: Needs, machine = 62): Buffer {
  let text = "\0";
  const string = (value: string): number => {
    text += `${value}\0`;
    return text.length - value.length - 1;
  };
  const entries = needs.map(([library, versions], k) => {
    const bytes = Buffer.alloc(ENTRY * (1 + versions.length));
    bytes.writeUInt16LE(1, 0);
    bytes.writeUInt16LE(versions.length, 2);
    bytes.writeUInt32LE(string(library), 4);
    bytes.writeUInt32LE(ENTRY, 8);
    bytes.writeUInt32LE(k + 1 < needs.length ? bytes.length : 0, 12);
    for (const [j, version] of versions.entries()) {
      bytes.writeUInt32LE(string(version), ENTRY * (j + 1) + 8);
      bytes.writeUInt32LE(j + 1 < versions.length ? ENTRY : 0, ENTRY * (j + 1) + 12);
    }
    return bytes;
  });
  const versions = Buffer.concat(entries);
  const strings = Buffer.from(text, "latin1");

  const header = Buffer.alloc(HEADER);
  header.write("\x7fELF\x02\x01\x01", "latin1");
  header.writeUInt16LE(machine, 18);
  header.writeBigUInt64LE(BigInt(HEADER), 40);
  header.writeUInt16LE(SECTION, 58);
  header.writeUInt16LE(3, 60);
  const place = HEADER + 3 * SECTION;
  const section = (type: number, offset: number, size: number, link: number): Buffer => {
    const bytes = Buffer.alloc(SECTION);
    bytes.writeUInt32LE(type, 4);
    bytes.writeBigUInt64LE(BigInt(offset), 24);
    bytes.writeBigUInt64LE(BigInt(size), 32);
    bytes.writeUInt32LE(link, 40);
    return bytes;
  };
  return Buffer.concat([
    header,
    section(0, 0, 0, 0),
    section(0x6ffffffe, place, versions.length, 2),
    section(3, place + versions.length, strings.length, 0),
    versions,
    strings,
  ]);
}

const TWO_LIBRARIES: Needs = [
  ["libc.so.6", ["GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9", "GLIBC_PRIVATE"]],
  ["libstdc++.so.6", ["GLIBCXX_3.4", "CXXABI_1.3.13", "GLIBCXX_3.4.29", "GLIBCXX_3.4.9"]],
];

/** The offset of .gnu.version_r in the result of {@link elf}. */
const VERSIONS_AT = HEADER + 3 * SECTION;

describe("what an ELF file needs", () => {
  test("the newest version of each family, compared as numbers", () => {
    const found = readElf(elf(TWO_LIBRARIES));
    expect(found).toEqual({
      arch: "x64",
      needs: new Map([
        ["GLIBC", "2.34"],
        ["GLIBCXX", "3.4.29"],
        ["CXXABI", "1.3.13"],
      ]),
    });
  });

  test.each([
    [62, "x64"],
    [183, "arm64"],
    [9999, "unknown"],
  ])("machine %d is %s", (machine, arch) => {
    expect(readElf(elf(TWO_LIBRARIES, machine))?.arch).toBe(arch);
  });

  test("of this checkout's addon: as objdump prints", () => {
    const undefinedSymbols = execFileSync("objdump", ["-T", builtAddon], {
      encoding: "utf8",
      maxBuffer: 2 ** 26,
    })
      .split("\n")
      .filter((line) => line.includes("*UND*"));
    const newest = new Map<string, string>();
    for (const line of undefinedSymbols) {
      const [, family, version] = /\b([A-Z]+)_(\d+(?:\.\d+)*)\)? /.exec(line) ?? [];
      if (family === undefined || version === undefined) continue;
      const known = newest.get(family);
      if (known === undefined || compareVersions(version, known) > 0) newest.set(family, version);
    }
    expect(newest.get("GLIBC")).toBeDefined();
    expect(readElf(readFileSync(builtAddon))).toEqual({ arch: process.arch, needs: newest });
    expect(readElf(forArm())).toEqual({ arch: "arm64", needs: newest });
  });
});

describe("a file that is no ELF file, or a damaged one", () => {
  test.each([
    ["empty", Buffer.alloc(0)],
    ["text", Buffer.from("#!/bin/sh\n".repeat(30))],
    ["of 32 bits", Buffer.concat([Buffer.from("\x7fELF\x01\x01", "latin1"), Buffer.alloc(200)])],
    ["big-endian", Buffer.concat([Buffer.from("\x7fELF\x02\x02", "latin1"), Buffer.alloc(200)])],
    ["cut short", elf(TWO_LIBRARIES).subarray(0, -1)],
  ])("%s: undefined", (_, file) => {
    expect(readElf(file)).toBeUndefined();
  });

  test("a circular chain ends", () => {
    const file = elf(TWO_LIBRARIES);
    file.writeUInt32LE(2 ** 32 - 1, VERSIONS_AT + 12);
    expect(readElf(file)).toBeUndefined();
    const versions = elf([["libc.so.6", ["GLIBC_2.2.5"]]]);
    versions.writeUInt16LE(0xffff, VERSIONS_AT + 2);
    expect(readElf(versions)).toBeUndefined();
  });

  test("any bytes: an answer or undefined, and no name longer than a symbol's version", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        expect(readElf(Buffer.from(bytes))).toBeUndefined();
      }),
    );
    const whole = elf(TWO_LIBRARIES);
    const change = fc.tuple(
      fc.integer({ min: 0, max: whole.length - 1 }),
      fc.oneof(fc.constantFrom(0, 1, 0x7f, 0xff), fc.integer({ min: 0, max: 0xff })),
    );
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), fc.nat(whole.length), (changes, cut) => {
        for (const length of [whole.length, cut]) {
          const file = Buffer.from(whole.subarray(0, length));
          for (const [at, value] of changes) if (at < length) file[at] = value;
          for (const [family, version] of readElf(file)?.needs ?? []) {
            expect(family).toMatch(/^[A-Z]+$/);
            expect(version.length).toBeLessThan(256);
          }
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("a file that is cut short", () => {
  const whole = readFileSync(builtAddon);
  const [PROGRAM_AT, PROGRAM] = [Number(whole.readBigUInt64LE(32)), whole.readUInt16LE(54)];

  function cut(file: Buffer, size: number): boolean {
    return isCutShort(size, (start, length) => file.subarray(0, size).subarray(start, start + length));
  }

  /** The offset of the last byte that is mapped according to readelf. */
  function mappedEnd(): number {
    const segments = execFileSync("readelf", ["-lW", builtAddon], { encoding: "utf8" }).matchAll(
      /^ +LOAD +0x(\w+) 0x\w+ 0x\w+ 0x(\w+)/gm,
    );
    return Math.max(...[...segments].map(([, at = "", size = ""]) => parseInt(at, 16) + parseInt(size, 16)));
  }

  test("ends before its last mapped segment, with or without a section table", () => {
    const end = mappedEnd();
    expect(end).toBeGreaterThan(0);
    for (const file of [whole, withoutSections(whole)]) {
      for (const size of [whole.length, end]) expect(cut(file, size)).toBe(false);
      for (const size of [end - 1, end / 2, HEADER + 1, HEADER])
        expect(cut(file, Math.floor(size))).toBe(true);
    }
  });

  test("is not reported for files that the system refuses itself", () => {
    expect(cut(whole, HEADER - 1)).toBe(false);
    expect(cut(Buffer.from("#!/bin/sh\n".repeat(30)), 300)).toBe(false);
    const odd = Buffer.from(whole.subarray(0, 1000));
    odd.writeUInt16LE(PROGRAM + 1, 54);
    expect(cut(odd, odd.length)).toBe(false);
  });

  test("headers never make it read beyond the file", () => {
    const change = fc.tuple(fc.integer({ min: 32, max: PROGRAM_AT + 4 * PROGRAM }), fc.nat(0xff));
    fc.assert(
      fc.property(fc.array(change, { maxLength: 8 }), fc.nat(5000), (changes, size) => {
        const file = Buffer.from(whole.subarray(0, size));
        for (const [at, value] of changes) if (at < size) file[at] = value;
        isCutShort(size, (start, length) => {
          expect(length).toBeLessThanOrEqual(Math.max(size, HEADER));
          return file.subarray(start, start + length);
        });
      }),
    );
  });
});

test.each([
  ["2.9", "2.34"],
  ["2.34", "2.34.1"],
  ["20", "20.0.1"],
  ["3.4.9", "3.4.29"],
])("%s is older than %s", (older, newer) => {
  expect(compareVersions(older, newer)).toBeLessThan(0);
  expect(compareVersions(newer, older)).toBeGreaterThan(0);
  expect(compareVersions(newer, newer)).toBe(0);
});
