// Random changes of checkpoints, and the rules that the reader must keep after any change.

import { inspect } from "node:util";
import fc from "fast-check";
import { MTAdam, MTAdamError, type CheckpointMetadata, type MTAdamOptions } from "../../lib";
import type { Device } from "../../lib/memory/device";
import { joinSafetensors, parseSafetensors, splitSafetensors } from "./safetensors";

/** Returns other bytes, or the same ones, changed in place. */
export type Change = (bytes: Buffer) => Buffer;

export const metadataOf = (bytes: Buffer): CheckpointMetadata =>
  JSON.parse(splitSafetensors(bytes).header.__metadata__["mtadam"] ?? "") as CheckpointMetadata;

/** An optimizer that fits the checkpoint. */
export function makeFor(metadata: CheckpointMetadata, device: Device): MTAdam {
  const groups = metadata.groups.map((_, index) => ({
    parameters: metadata.parameters
      .filter(({ group }) => group === index)
      .map(({ name, length, shape, layer, dtype = "float32" }) => ({
        name,
        data: device.buffer(length, dtype),
        dtype,
        shape,
        ...(layer === name ? {} : { layer }),
      })),
  }));
  const { firstMoment, secondMoment, amsgrad, nonFinite, unit, stateDtype, masterWeights } = metadata.options;
  const options = { firstMoment, secondMoment, amsgrad, nonFinite, unit, stateDtype, masterWeights };
  return new MTAdam(groups, { terms: metadata.terms, ...options } as MTAdamOptions);
}

/** Everything that a load may change. */
export async function fingerprint(optimizer: MTAdam): Promise<string> {
  const { iterations, weights, paramGroups } = optimizer;
  const state = await optimizer.stateDict();
  const bits = Object.entries(state).map(([key, values]) =>
    ArrayBuffer.isView(values) ? [key, Buffer.from(values.buffer).toString("hex")] : [key, values],
  );
  return inspect([bits, iterations, weights, paramGroups], {
    depth: 9,
    maxArrayLength: null,
    maxStringLength: null,
  });
}

/** An optimizer and a file, to be loaded into it and saved from it. */
export interface Subject {
  readonly optimizer: MTAdam;
  readonly load: (bytes: Buffer, strict: boolean) => Promise<void>;
  /** Returns the file's bytes. */
  readonly save: () => Promise<Buffer>;
}

/**
 * Loads a changed checkpoint. The load either throws an MTAdamError and changes nothing, or gives a state with the bits
 * of the file; this state is saved with the same bits and loads again.
 */
export async function check(
  { optimizer, load, save }: Subject,
  bytes: Buffer,
  strict: boolean,
): Promise<"loaded" | "refused"> {
  const before = await fingerprint(optimizer);
  try {
    await load(bytes, strict);
  } catch (error) {
    if (!(error instanceof MTAdamError) || error.code !== "ERR_MTADAM_CHECKPOINT") throw error;
    if ((await fingerprint(optimizer)) !== before) {
      throw new Error("a refused file has changed the state", { cause: error });
    }
    return "refused";
  }
  const saved = await save();
  expectSameTensors(saved, bytes);
  await load(saved, true);
  if (!(await save()).equals(saved)) throw new Error("saved again, the file has other bits");
  return "loaded";
}

/**
 * Checks that each tensor of `saved` has the bits of the file's tensor with the same term, layer and parameter names.
 */
function expectSameTensors(saved: Buffer, file: Buffer): void {
  const [ours, theirs] = [saved, file].map((bytes) => ({
    ...metadataOf(bytes),
    tensors: parseSafetensors(bytes).tensors,
  })) as [Parsed, Parsed];
  for (const [key, bits] of rows(ours)) {
    const found = rows(theirs).get(key);
    if (found !== undefined && !found.equals(bits)) throw new Error(`${key} has other bits than the file`);
  }
}

type Parsed = CheckpointMetadata & ReturnType<typeof parseSafetensors>;

/** The bits of each tensor of a parameter, and of each value of a pair, by names. */
function rows({ terms, layers, parameters, tensors }: Parsed): Map<string, Buffer> {
  const result = new Map<string, Buffer>();
  const names = parameters.map(({ name }) => name);
  for (const [key, { data }] of tensors) {
    if (key.startsWith("master.")) continue; // it counts only with the parameter, which is not in the file
    const bytes = Buffer.from(data);
    const moments = /^([mvxMV])(\.\d+)?\.(\d+)(\.exponents)?$/.exec(key);
    if (moments !== null) {
      const [, plane, term, parameter, exponents] = moments;
      const ofTerm = term === undefined ? undefined : terms[Number(term.slice(1))];
      result.set(inspect([plane, ofTerm, names[Number(parameter)], exponents]), bytes);
    } else {
      const columns = ["n", "occurred", "skipped"].includes(key) ? layers : names;
      const ofTerms = key.startsWith("T") ? [""] : terms;
      const size = bytes.length / (ofTerms.length * columns.length);
      ofTerms.forEach((term, i) => {
        columns.forEach((column, k) => {
          const at = (i * columns.length + k) * size;
          result.set(inspect([key, term, column]), bytes.subarray(at, at + size));
        });
      });
    }
  }
  return result;
}

/** The ranges of the values in a JSON text, outermost first. */
function* paths(value: unknown, at: string[] = []): Generator<string[]> {
  yield at;
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) yield* paths(inner, [...at, key]);
}

function replaceAt(value: unknown, [key, ...rest]: readonly string[], replacement: unknown): unknown {
  if (key === undefined) return replacement;
  const copy = (Array.isArray(value) ? [...(value as unknown[])] : { ...(value as object) }) as Record<
    string,
    unknown
  >;
  copy[key] = replaceAt(copy[key], rest, replacement);
  return copy;
}

const where = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const pick = (fraction: number, count: number): number => Math.floor(fraction * count);
const pickOf = <T>(fraction: number, list: readonly T[]): T => list[pick(fraction, list.length)]!;

/** Values that some entry of a header may have. */
const likely = fc.constantFrom<unknown>(
  ...[0, 1, 2, 3, 6, -1, -0, 0.5, 1e300, 2 ** 53 - 2, 2 ** 53 - 1, 2 ** 53, null, true, "", [], {}],
  ...["a", "b", "weight", "bias", "head", "F32", "F64", "summed", "perTerm", "__proto__"],
);
const replacement = fc.oneof(likely, fc.jsonValue({ maxDepth: 2 }));

/** Bits of values that a tensor may have, and of values just outside. */
const words = fc.constantFrom(
  ...[0x0n, 0x1n, 0x7ff0000000000000n, 0x7ff8000000000001n, 0x7fc000007fc00000n, 0x3ff0000000000000n],
  ...[
    0x8000000000000000n,
    0xffffffffffffffffn,
    0x001fffffffffffffn,
    0x001ffffffffffffen,
    0xbf800000bf800000n,
  ],
);

const editHeader = (bytes: Buffer, edit: (text: string) => string): Buffer => {
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  return joinSafetensors(edit(bytes.toString("utf8", 8, start)), bytes.subarray(start));
};
const editMetadata = (bytes: Buffer, edit: (text: string) => string): Buffer => {
  const { header, data } = splitSafetensors(bytes);
  const text = edit(header.__metadata__["mtadam"] ?? "");
  return joinSafetensors({ ...header, __metadata__: { ...header.__metadata__, mtadam: text } }, data);
};

/** Edits of JSON text that replacing a value cannot produce. */
const textEdit: fc.Arbitrary<(text: string) => string> = fc.oneof(
  // Repeat a member.
  where.map((at) => (text: string) => {
    const found = [...text.matchAll(/"[^"]{1,20}":("[^"]*"|[\w.+-]+|\[[^[\]{}]*\]|\{[^{}]*\})/g)];
    if (found.length === 0) return text;
    const { index, 0: member } = pickOf(at, found);
    return `${text.slice(0, index)}${member},${text.slice(index)}`;
  }),
  // Something deep in place of a value.
  fc
    .tuple(where, fc.integer({ min: 1, max: 100_000 }), fc.constantFrom("[]", "{}"))
    .map(([at, depth, [open = "", close = ""]]) => (text: string) => {
      const colons = [...text.matchAll(/":/g)];
      if (colons.length === 0) return text;
      const index = pickOf(at, colons).index + 2;
      const inner = open === "{" ? '{"a":' : open;
      return `${text.slice(0, index)}${inner.repeat(depth)}1${close.repeat(depth)},"a":${text.slice(index)}`;
    }),
  // Numbers in other forms.
  fc
    .tuple(where, fc.constantFrom("-0", "1e2", "1.0", "1e400", "0x1", "01", "1e-400", "NaN"))
    .map(([at, number]) => (text: string) => {
      const numbers = [...text.matchAll(/\d+/g)];
      if (numbers.length === 0) return text;
      const { index, 0: old } = pickOf(at, numbers);
      return text.slice(0, index) + number + text.slice(index + old.length);
    }),
  // Add, remove or replace a character.
  fc
    .tuple(
      where,
      fc.constantFrom(0, 1),
      fc.constantFrom(...["", "{", "}", "[", "]", ",", ":", '"', "\\", " ", "\n", "\0", "ü"]),
    )
    .map(([at, less, more]) => (text: string) => {
      const index = pick(at, text.length);
      return text.slice(0, index) + more + text.slice(index + less);
    }),
);

export const change: fc.Arbitrary<Change> = fc.oneof(
  // A bit anywhere.
  fc.tuple(where, fc.nat(7)).map(([at, bit]) => (bytes: Buffer) => {
    const k = pick(at, bytes.length);
    bytes[k] = (bytes[k] ?? 0) ^ (1 << bit);
    return bytes;
  }),
  // A byte or a word of the tensors.
  fc.tuple(where, fc.nat(255)).map(([at, byte]) => (bytes: Buffer) => {
    const { header, data } = splitSafetensors(bytes);
    if (data.length > 0) data[pick(at, data.length)] = byte;
    return joinSafetensors(header, data);
  }),
  fc.tuple(where, words, fc.constantFrom(4, 8)).map(([at, word, size]) => (bytes: Buffer) => {
    const { header, data } = splitSafetensors(bytes);
    const k = pick(at, Math.floor(data.length / size)) * size;
    const value = Buffer.alloc(8);
    value.writeBigUInt64LE(word);
    value.copy(data, k, 0, size);
    return joinSafetensors(header, data);
  }),
  // Shorter, or longer.
  where.map((at) => (bytes: Buffer) => bytes.subarray(0, pick(at, bytes.length))),
  fc
    .uint8Array({ minLength: 1, maxLength: 64 })
    .map((more) => (bytes: Buffer) => Buffer.concat([bytes, more])),
  // The header's length.
  fc
    .oneof(fc.bigInt({ min: -9n, max: 9n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))
    .map((length) => (bytes: Buffer) => {
      bytes.writeBigUInt64LE(BigInt.asUintN(64, length < 10n ? bytes.readBigUInt64LE(0) + length : length));
      return bytes;
    }),
  // A value of the header, or of the metadata.
  fc.tuple(where, replacement).map(([at, value]) => (bytes: Buffer) => {
    const { header, data } = splitSafetensors(bytes);
    return joinSafetensors(replaceAt(header, pickOf(at, [...paths(header)]), value) as object, data);
  }),
  fc.tuple(where, replacement).map(
    ([at, value]) =>
      (bytes: Buffer) =>
        editMetadata(bytes, (text) => {
          const metadata: unknown = JSON.parse(text);
          return JSON.stringify(replaceAt(metadata, pickOf(at, [...paths(metadata)]), value));
        }),
  ),
  // Exchange the places of two tensors.
  fc.tuple(where, where).map(([one, other]) => (bytes: Buffer) => {
    const { header, data } = splitSafetensors(bytes);
    const keys = Object.keys(header).filter((key) => key !== "__metadata__");
    const [a, b] = [header[pickOf(one, keys)]!, header[pickOf(other, keys)]!];
    [a.data_offsets, b.data_offsets] = [b.data_offsets, a.data_offsets];
    return joinSafetensors(header, data);
  }),
  // Give a tensor's place to another key, too.
  where.map((at) => (bytes: Buffer) => {
    const { header, data } = splitSafetensors(bytes);
    const keys = Object.keys(header).filter((key) => key !== "__metadata__");
    return joinSafetensors({ ...header, extra: header[pickOf(at, keys)] }, data);
  }),
  textEdit.map((edit) => (bytes: Buffer) => editHeader(bytes, edit)),
  textEdit.map((edit) => (bytes: Buffer) => editMetadata(bytes, edit)),
);
