// A second implementation of the safetensors format, to test the library's reader and writer.

export interface SafetensorsFile {
  metadata: Record<string, string>;
  tensors: Map<string, { dtype: string; shape: number[]; data: ArrayBuffer }>;
}

/** Reads a file without checks. */
export function parseSafetensors(file: Buffer): SafetensorsFile {
  const { header, data } = splitSafetensors(file);
  const { __metadata__: metadata, ...entries } = header;
  const tensors = Object.entries(entries).map(
    ([
      key,
      {
        dtype,
        shape,
        data_offsets: [begin, end],
      },
    ]) => {
      // A copy, since float64 data may start at any multiple of 4 bytes.
      return [key, { dtype, shape, data: new Uint8Array(data.subarray(begin, end)).buffer }] as const;
    },
  );
  return { metadata, tensors: new Map(tensors) };
}

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}
export type Header = Record<string, HeaderEntry> & { __metadata__: Record<string, string> };

const PREFIX = 8;

export function splitSafetensors(file: Buffer): { header: Header; data: Buffer } {
  const start = PREFIX + Number(file.readBigUInt64LE(0));
  return { header: JSON.parse(file.toString("utf8", PREFIX, start)) as Header, data: file.subarray(start) };
}

/** @param header an object, or any text in its place */
export function joinSafetensors(header: object | string, data: Uint8Array): Buffer {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([prefix, text, data]);
}
