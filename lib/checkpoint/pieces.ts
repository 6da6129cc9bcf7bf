import { createHash, type Hash } from "node:crypto";
import { typedArrayBytes } from "../inspect";
import { writeAtomically } from "./atomic-file";
import { ChunkReader, ChunkWriter } from "./chunked-file";
import { fail } from "./fail";
import { appendElements, checkUnchanged, openSafetensors, renderState, type OpenedFile } from "./file";
import type { CheckpointProgress, PathLike } from "./options";
import { Pace } from "./pace";
import { Place } from "./path";
import { MAX_HEADER_BYTES, renderHeader, type TensorInfo } from "./safetensors";
import { CHUNK_BYTES, makeTensor, type SavedTensor, type StateOwner } from "./state";

// A state in pieces, one per rank, for ranks without a common file system. A piece is a safetensors file of bytes of the
// whole file: each of its tensors has the place of its first byte there as its name. No data is exchanged to write it.

/** Which piece it is, in the file's metadata, as JSON. */
const METADATA_KEY = "mtadam.piece";

interface PieceMetadata {
  /** From 1. */
  piece: number;
  of: number;
  /** Of the whole file. */
  bytes: number;
  /** SHA-256 of its header. */
  header: string;
  /** SHA-256 of what every rank has: norms, clocks and counts. They tell trainings apart whose headers are equal. */
  records: string;
}

/** The file of a piece: "state.safetensors.3-of-8" for rank 2 of 8. */
export const placeOfPiece = (target: Place, rank: number, ranks: number): Place =>
  target.folder.file(`${target.name}.${rank + 1}-of-${ranks}`);

interface OwnRange {
  /** The place of its first byte in the whole file. */
  begin: number;
  bytes: number;
  tensor: SavedTensor;
  /** Elements. */
  first: number;
  end: number;
}

/**
 * Writes what this rank has of the state; rank 0 also writes the header and what all ranks have.
 *
 * @throws MTAdamError OPTION, CHECKPOINT, DISPOSED, CUDA; errors of the file system
 */
export async function savePiece(
  target: Place,
  owner: StateOwner,
  { rank, size }: { rank: number; size: number },
  onProgress: (progress: CheckpointProgress) => Promise<void>,
): Promise<void> {
  const pace = new Pace();
  const { tensors, header: whole } = await renderState(owner, pace);
  const ranges: OwnRange[] = [];
  const records = createHash("sha256");
  let begin = whole.bytes;
  for (const tensor of tensors) {
    const own = tensor.own?.();
    if (own === undefined) hashTensor(records, tensor);
    const { first, end } = own ?? { first: 0, end: rank === 0 ? tensor.length : 0 };
    const bytes = (end - first) * tensor.bytes;
    if (bytes > 0) ranges.push({ begin: begin + first * tensor.bytes, bytes, tensor, first, end });
    begin += tensor.length * tensor.bytes;
    const rest = pace.rest();
    if (rest !== undefined) await rest;
  }
  const hash = createHash("sha256");
  for (const piece of whole.pieces) hash.update(piece);
  const metadata: PieceMetadata = {
    piece: rank + 1,
    of: size,
    bytes: whole.bytes + whole.dataBytes,
    header: hash.digest("hex"),
    records: records.digest("hex"),
  };
  const header = await pace.run(
    renderHeader(entries(ranges, rank === 0 ? whole.bytes : 0), {
      [METADATA_KEY]: [JSON.stringify(metadata)],
    }),
  );
  const total = header.bytes + header.dataBytes;
  await writeAtomically(placeOfPiece(target, rank, size), async (file) => {
    const chunks = new ChunkWriter(file, (bytes) => onProgress({ bytes, total }));
    for (const piece of header.pieces) await chunks.append(piece);
    if (rank === 0) for (const piece of whole.pieces) await chunks.append(piece);
    for (const { tensor, first, end } of ranges) {
      await appendElements(chunks, tensor, { first, end, own: true });
      const rest = pace.rest();
      if (rest !== undefined) await rest;
    }
    await chunks.flush();
    await file.sync();
    await onProgress({ bytes: total, total });
  });
}

function hashTensor(hash: Hash, tensor: SavedTensor): void {
  const most = CHUNK_BYTES / tensor.bytes;
  for (let first = 0; first < tensor.length; first += most) {
    const piece = makeTensor(tensor.type, Math.min(most, tensor.length - first));
    tensor.read(first, piece);
    hash.update(typedArrayBytes(piece));
  }
}

function* entries(ranges: readonly OwnRange[], headerBytes: number): Generator<[string, TensorInfo]> {
  if (headerBytes > 0) yield ["0", { dtype: "U8", shape: [headerBytes] }];
  for (const { begin, bytes } of ranges) yield [String(begin), { dtype: "U8", shape: [bytes] }];
}

/**
 * Puts the pieces of one save together: the file is, byte for byte, the one that a single process would have written.
 *
 * @throws MTAdamError CHECKPOINT unless they are all pieces of one save; errors of the file system
 */
export async function mergePieces(paths: readonly PathLike[], output: PathLike): Promise<void> {
  const pace = new Pace();
  const opened: OpenedFile[] = [];
  try {
    for (const path of paths) opened.push(await openSafetensors(Place.of(path), pace, MAX_HEADER_BYTES));
    const { bytes: total, header } = checkPieces(
      opened.map(({ header }, k) => metadataOf(header.metadata, paths[k]!)),
    );
    const parts = opened.flatMap(({ file, header, start, size }) => {
      const chunks = new ChunkReader(file, size, () => Promise.resolve());
      return [...header.tensors].map(([name, { begin, end }]) => ({
        place: Number(name),
        bytes: end - begin,
        position: start + begin,
        chunks,
      }));
    });
    parts.sort((a, b) => a.place - b.place);
    let next = 0;
    for (const { place, bytes } of parts) {
      if (place !== next) fail(`The pieces must have each byte once; got ${place} instead of ${next}.`);
      next += bytes;
    }
    if (next !== total) fail(`The pieces must have ${total} bytes together; got ${next}.`);
    await writeAtomically(Place.of(output).target(), async (file) => {
      const writer = new ChunkWriter(file, () => Promise.resolve());
      const buffer = new Uint8Array(CHUNK_BYTES);
      for (const { place, bytes, position, chunks } of parts) {
        const hash = place === 0 ? createHash("sha256") : undefined;
        for (let done = 0; done < bytes;) {
          const piece = buffer.subarray(0, Math.min(buffer.length, bytes - done));
          await chunks.read(piece, position + done);
          hash?.update(piece);
          await writer.append(piece);
          done += piece.length;
        }
        if (hash !== undefined && hash.digest("hex") !== header) {
          fail("The pieces must be of one save: the header is another than theirs.");
        }
      }
      await writer.flush();
      for (const piece of opened) await checkUnchanged(piece);
      await file.sync();
    });
  } finally {
    for (const { file } of opened) await file.close();
  }
}

function metadataOf(metadata: ReadonlyMap<string, string>, path: PathLike): PieceMetadata {
  const text = metadata.get(METADATA_KEY);
  try {
    const found = JSON.parse(text ?? "") as PieceMetadata;
    if (Number.isSafeInteger(found.piece) && Number.isSafeInteger(found.of)) return found;
  } catch {
    // Refused below.
  }
  return fail(`${JSON.stringify(String(Place.of(path).path))} is not a piece of a checkpoint.`);
}

/** Returns what all of them say of the whole file. */
function checkPieces(pieces: readonly PieceMetadata[]): Pick<PieceMetadata, "bytes" | "header"> {
  const [first] = pieces;
  if (first === undefined) return fail("There must be at least one piece.");
  const { of, bytes, header, records } = first;
  if (pieces.some((other) => other.of !== of || other.bytes !== bytes || other.header !== header)) {
    fail("The pieces must be of one save: their iterations, options or parameters differ.");
  }
  if (pieces.some((other) => other.records !== records))
    fail("The pieces must be of one save: their norms differ.");
  const numbers = new Set(pieces.map(({ piece }) => piece));
  for (let piece = 1; piece <= of; ++piece) {
    if (!numbers.has(piece)) fail(`All ${of} pieces must be given; ${piece} is missing.`);
  }
  if (pieces.length !== of) fail(`Each of the ${of} pieces must be given once; got ${pieces.length} files.`);
  return { bytes, header };
}
