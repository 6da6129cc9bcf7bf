"use strict";

// Reads the architectures in a binary's CUDA code from the headers of its "fat binaries". cuobjdump prints the same, but
// few machines have it.

const { capability } = require("../build/architectures");

/** A fat binary begins with a magic number, a version, the length of this header, and the length of the rest. */
const MAGIC = [0x50, 0xed, 0x55, 0xba, 0x01, 0x00, 0x10, 0x00];
const HEADER = 16;

/** It contains entries, each with a header: its kind, the header's length, the entry's length, and the architecture. */
const PTX = 1;
const CODE = 2;
const HEADER_LENGTH = 4;
const LENGTH = 8;
const ARCHITECTURE = 28;

/**
 * @param {import("node:buffer").Buffer} bytes the content of a file
 * @returns {string[]} each once, such as "9.0" for machine code and "12.0+PTX"
 */
function architecturesIn(bytes) {
  const found = new Map();
  const magic = Uint8Array.from(MAGIC);
  for (let start = bytes.indexOf(magic); start >= 0; start = bytes.indexOf(magic, start + HEADER)) {
    const end = start + HEADER + Number(bytes.readBigUInt64LE(start + LENGTH));
    let at = start + HEADER;
    while (at + ARCHITECTURE + 4 <= Math.min(end, bytes.length)) {
      const kind = bytes.readUInt16LE(at);
      const number = bytes.readUInt32LE(at + ARCHITECTURE);
      const isPtx = kind === PTX;
      if (isPtx || kind === CODE)
        found.set(capability(`${number}${isPtx ? "-virtual" : ""}`), [number, isPtx]);
      const length = bytes.readUInt32LE(at + HEADER_LENGTH) + Number(bytes.readBigUInt64LE(at + LENGTH));
      if (length === 0) break;
      at += length;
    }
  }
  return [...found].sort(([, a], [, b]) => a[0] - b[0] || a[1] - b[1]).map(([name]) => name);
}

module.exports = { architecturesIn };
