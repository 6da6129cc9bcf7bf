import { padded } from "./wire";

/** Where parameters and gradients lie in the shared memory: the parameters, then each term's gradients. */
export interface Layout {
  byteLength: number;
  /** Bytes. */
  offsets: Float64Array;
  /** Elements. */
  lengths: Float64Array;
  /** The same offsets for the process. */
  message: { size: number; parameters: number[]; gradients: number[][] };
}

export function placeTensors(parameters: readonly { shape: readonly number[] }[], terms: number): Layout {
  const one = parameters.map(({ shape }) => shape.reduce((product, size) => product * size, 1));
  const lengths = Float64Array.from({ length: (1 + terms) * one.length }, (_, k) => one[k % one.length]!);
  let byteLength = 0;
  const offsets = lengths.map((length) => {
    const offset = byteLength;
    byteLength += padded(length * Float32Array.BYTES_PER_ELEMENT);
    return offset;
  });
  const rows = Array.from({ length: 1 + terms }, (_, row) =>
    Array.from(offsets.subarray(row * one.length, (row + 1) * one.length)),
  );
  const [first = [], ...gradients] = rows;
  byteLength = Math.max(byteLength, 1); // an empty mapping is none
  return { byteLength, offsets, lengths, message: { size: byteLength, parameters: first, gradients } };
}
