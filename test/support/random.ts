/** Uniform numbers in [0, 1) from a seed: the same on every machine (mulberry32). */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Elements spread over (−scale, scale), denser near 0. */
export function randomTensor(random: () => number, length: number, scale: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, () => (random() + random() + random() - 1.5) * (2 / 3) * scale);
}
