import { elementsOf } from "../memory/device-pointer";
import { DTYPES, type ParameterDtype } from "../memory/dtype";
import { padded } from "./wire";

/** Where parameters and gradients lie in the shared memory: the parameters, then each term's gradients. */
export interface Layout {
  byteLength: number;
  /** Bytes. */
  offsets: Float64Array;
  /** Elements. */
  lengths: Float64Array;
  dtypes: readonly ParameterDtype[];
  /** The same offsets for the process. */
  message: { size: number; parameters: number[]; gradients: number[][] };
}

export function placeTensors(
  parameters: readonly { shape: readonly number[]; dtype: ParameterDtype }[],
  terms: number,
): Layout {
  const one = parameters.map(({ shape }) => elementsOf(shape));
  const all = Array.from({ length: (1 + terms) * one.length }, (_, k) => k % one.length);
  const lengths = Float64Array.from(all, (k) => one[k]!);
  const dtypes = all.map((k) => parameters[k]!.dtype);
  let byteLength = 0;
  const offsets = lengths.map((length, k) => {
    const offset = byteLength;
    byteLength += padded(length * DTYPES[dtypes[k]!].bytes);
    return offset;
  });
  const rows = Array.from({ length: 1 + terms }, (_, row) =>
    Array.from(offsets.subarray(row * one.length, (row + 1) * one.length)),
  );
  const [first = [], ...gradients] = rows;
  byteLength = Math.max(byteLength, 1); // an empty mapping is none
  return {
    byteLength,
    offsets,
    lengths,
    dtypes,
    message: { size: byteLength, parameters: first, gradients },
  };
}
