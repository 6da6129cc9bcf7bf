/** Uniform draws from [0, 1): the same sequence for the same seed on every machine. */
export type Random = () => number;

/**
 * The draws for one purpose in one round or step (mulberry32). Each purpose has its own sequence, so that more draws
 * for one do not change another: the same seed gives the same images for any number of layers.
 */
export function randomFor(seed: number, round: number, purpose: string): Random {
  let state = seed >>> 0;
  for (const text of [String(round), purpose]) {
    for (let i = 0; i < text.length; ++i) state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
    state = Math.imul(state ^ (state >>> 15), 0x85ebca6b);
  }
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `count` whole numbers from 0 to `below` − 1, drawn with replacement. */
export function draws(count: number, below: number, random: Random): number[] {
  return Array.from({ length: count }, () => Math.floor(random() * below));
}

/** 0 … length − 1 in random order (Fisher and Yates). */
export function shuffled(length: number, random: Random): Uint32Array {
  const order = Uint32Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; --i) {
    const j = Math.floor(random() * (i + 1));
    const held = order[i]!;
    order[i] = order[j]!;
    order[j] = held;
  }
  return order;
}

/** Independent normal draws of mean 0 and variance 1 (Box and Muller). */
export function normals(length: number, random: Random): Float32Array {
  return Float32Array.from({ length }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    return radius * Math.cos(2 * Math.PI * random());
  });
}
