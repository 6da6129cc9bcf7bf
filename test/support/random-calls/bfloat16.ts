/** The nearest bfloat16, ties to even. */
function codeOf(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

export const codesOf = (values: ArrayLike<number>): Uint16Array<ArrayBuffer> =>
  Uint16Array.from(values, codeOf);

export const valuesOf = (codes: ArrayLike<number>): Float32Array<ArrayBuffer> =>
  new Float32Array(Uint32Array.from(codes, (code) => code * 2 ** 16).buffer);

export const rounded = (values: ArrayLike<number>): Float32Array<ArrayBuffer> => valuesOf(codesOf(values));
