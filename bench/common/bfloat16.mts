/** Rounded to the nearest bfloat16, ties to even. */
export function narrowed(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.slice().buffer);
  return Uint16Array.from(words, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16);
}

/** Writes the values of bfloat16 codes to `values`. */
export function widen(codes: Uint16Array, values: Float32Array): void {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (const [k, code] of codes.entries()) words[k] = code << 16;
}
