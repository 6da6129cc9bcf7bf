import { Buffer } from "node:buffer";

// Reads from an ELF file which system a shared library needs, since a failed load does not tell and a user's machine
// may lack objdump. The file may hold any bytes; a damaged file gives undefined.

/** The architecture of an ELF file and the symbol versions that it needs. */
export interface ElfSummary {
  /** The value of `process.arch`; "unknown" if Node does not run on it. */
  arch: string;
  /** The newest version it needs of each family of symbols, for example "2.34" of "GLIBC". */
  needs: Map<string, string>;
}

/** How the file begins: 64 bits, little-endian, version 1. */
const IDENT = Buffer.from("\x7fELF\x02\x01\x01", "latin1");
const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
/** A part of the file that is mapped into memory. */
const PT_LOAD = 1;
const SECTION_HEADER_BYTES = 64;
const SHT_STRTAB = 3;
/** The section .gnu.version_r, of which there is one at most. */
const SHT_GNU_VERNEED = 0x6ffffffe;
/** Both structs of that section, Elf64_Verneed and Elf64_Vernaux. */
const VERSION_ENTRY_BYTES = 16;
/** No library has symbol versions with longer names. */
const NAME_LIMIT = 256;

const ARCHES = new Map([
  [3, "ia32"],
  [22, "s390x"],
  [40, "arm"],
  [62, "x64"],
  [183, "arm64"],
  [243, "riscv64"],
  [258, "loong64"],
]);

/** Undefined for anything but a whole ELF file of 64 bits, little-endian. */
export function readElf(file: Buffer): ElfSummary | undefined {
  try {
    return summarise(file);
  } catch (error) {
    if (error instanceof Damage) return undefined;
    throw error;
  }
}

/**
 * Whether an ELF file ends before its last mapped segment: loading a truncated file kills the process (SIGBUS) instead of
 * failing. The section table cannot tell, since it is optional and may lie anywhere. False for other files, which the
 * system refuses.
 *
 * @param read the bytes of a range of the file, fewer where it ends earlier
 */
export function isCutShort(size: number, read: (start: number, length: number) => Buffer): boolean {
  const header = read(0, HEADER_BYTES);
  if (header.length < HEADER_BYTES || !header.subarray(0, IDENT.length).equals(IDENT)) return false;
  const start = uint64(header, 32);
  const count = uint16(header, 56);
  if (uint16(header, 54) !== PROGRAM_HEADER_BYTES) return false;
  // Checked before the table is allocated: it has a few megabytes at most, and is never larger than the file.
  if (start + count * PROGRAM_HEADER_BYTES > size) return true;
  const table = read(start, count * PROGRAM_HEADER_BYTES);
  return Array.from({ length: count }, (_, k) =>
    slice(table, k * PROGRAM_HEADER_BYTES, PROGRAM_HEADER_BYTES),
  ).some((segment) => uint32(segment, 0) === PT_LOAD && uint64(segment, 8) + uint64(segment, 32) > size);
}

/** An offset that leads out of the file, or a chain that does not end. */
class Damage extends Error {}

function summarise(file: Buffer): ElfSummary {
  const ident = slice(file, 0, IDENT.length);
  if (!ident.equals(IDENT)) throw new Damage();
  const summary: ElfSummary = { arch: ARCHES.get(uint16(file, 18)) ?? "unknown", needs: new Map() };
  const sections = sectionsOf(file);
  const needed = sections.find(({ type }) => type === SHT_GNU_VERNEED);
  if (needed === undefined) return summary;
  const names = sections[needed.link];
  if (names === undefined) throw new Damage();
  for (const version of neededVersions(needed.bytes, names.bytes)) keepNewest(summary.needs, version);
  return summary;
}

interface Section {
  type: number;
  /** The index of another section; here: the one that holds the names. */
  link: number;
  bytes: Buffer;
}

function sectionsOf(file: Buffer): Section[] {
  const start = uint64(file, 40);
  const count = uint16(file, 60);
  return Array.from({ length: count }, (_, k) => {
    const header = slice(file, start + k * SECTION_HEADER_BYTES, SECTION_HEADER_BYTES);
    const type = uint32(header, 4);
    // Other sections may have no bytes in the file, as .bss.
    const isRead = type === SHT_GNU_VERNEED || type === SHT_STRTAB;
    const bytes = isRead ? slice(file, uint64(header, 24), uint64(header, 32)) : header.subarray(0, 0);
    return { type, link: uint32(header, 40), bytes };
  });
}

/** The names of all versions that a section .gnu.version_r lists: a chain of libraries, each with a chain of versions. */
function* neededVersions(section: Buffer, strings: Buffer): Generator<string> {
  // No two entries share bytes, so a chain that is longer than the section runs in circles.
  let left = section.length / VERSION_ENTRY_BYTES;
  const spend = (): void => {
    if (--left < 0) throw new Damage();
  };
  let library = 0;
  let next: number;
  do {
    spend();
    let entry = library + uint32(section, library + 8);
    for (let versions = uint16(section, library + 2); versions > 0; --versions) {
      spend();
      yield nameAt(strings, uint32(section, entry + 8));
      entry += uint32(section, entry + 12);
    }
    next = uint32(section, library + 12);
    library += next;
  } while (next !== 0);
}

function nameAt(strings: Buffer, offset: number): string {
  const end = strings.subarray(offset, offset + NAME_LIMIT).indexOf(0);
  if (end < 0) throw new Damage();
  return strings.toString("latin1", offset, offset + end);
}

function keepNewest(needs: Map<string, string>, name: string): void {
  const parts = /^([A-Z]+)_(\d+(?:\.\d+)*)$/.exec(name);
  if (parts === null) return; // a name of another kind, such as GLIBC_PRIVATE
  const [, family, version] = parts as unknown as [string, string, string];
  const known = needs.get(family);
  if (known === undefined || compareVersions(version, known) > 0) needs.set(family, version);
}

/** Negative where `a` is the older of two versions such as "2.34". */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number)) as [number[], number[]];
  for (let k = 0; k < Math.max(left.length, right.length); ++k) {
    const difference = (left[k] ?? 0) - (right[k] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function slice(bytes: Buffer, start: number, length: number): Buffer {
  if (start + length > bytes.length) throw new Damage();
  return bytes.subarray(start, start + length);
}

function uint16(bytes: Buffer, at: number): number {
  return slice(bytes, at, 2).readUInt16LE();
}

function uint32(bytes: Buffer, at: number): number {
  return slice(bytes, at, 4).readUInt32LE();
}

/** A 64-bit offset or size. A value that a number cannot hold exactly lies outside any file. */
function uint64(bytes: Buffer, at: number): number {
  return Number(slice(bytes, at, 8).readBigUInt64LE());
}
