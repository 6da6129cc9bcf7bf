/** Uniform draws from [0, 1): the same sequence for the same seed on every machine (SplitMix32). */
export function randomFrom(seed: number): () => number {
  // A seed is a safe integer: both halves count.
  let state = Math.imul(Math.floor(seed / 2 ** 32), 0x85ebca6b) ^ seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}
