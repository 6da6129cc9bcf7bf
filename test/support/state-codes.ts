/**
 * The codes of a lean state, written from their meaning in float64 (docs/algorithm.md, "Lean state"), for the oracle. A
 * positive value (1 + f)·2^e lies at e + f among the exponents; a code counts eighths there, or 128ths for bfloat16, and
 * rounding adds a draw in [0, 1) before the fraction is dropped.
 */

const MASK = 2n ** 64n - 1n;

function mixed(x: bigint): bigint {
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return x ^ (x >> 31n);
}
const folded = (x: bigint, y: bigint): bigint => mixed(((x ^ y) + 0x9e3779b97f4a7c15n) & MASK);

/** FNV-1a of the UTF-8. */
function nameKey(name: string): bigint {
  return Buffer.from(name, "utf8").reduce(
    (hash, byte) => ((hash ^ BigInt(byte)) * 0x100000001b3n) & MASK,
    0xcbf29ce484222325n,
  );
}

/** The stream of the moments that all terms share. */
export const SHARED_STREAM = "\0M";

/** The 32 random bits of each element of a tensor, in one step and stream. */
export class Draws {
  readonly #step: bigint;
  readonly #stream: number;
  #chunk = -1;
  #a = 0;
  #b = 0;

  constructor(seed: bigint, step: number, tensor: string, stream: string) {
    this.#step = folded(folded(folded(0n, seed), BigInt(step)), nameKey(tensor));
    this.#stream = Number(folded(0n, nameKey(stream)) & 0xffffffffn);
  }

  at(element: number): number {
    const chunk = Math.floor(element / 4096);
    if (chunk !== this.#chunk) {
      const key = folded(this.#step, BigInt(chunk));
      [this.#chunk, this.#a, this.#b] = [chunk, Number(key & 0xffffffffn), Number(key >> 32n)];
    }
    let x = (this.#a + Math.imul(element % 4096, 0x9e3779b9)) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ this.#b ^ (x >>> 15), 0x735a2d97);
    x ^= x >>> 15;
    x = Math.imul(x ^ this.#stream, 0x9e3779b1);
    return (x ^ (x >>> 15)) >>> 0;
  }
}

/** e + f of (1 + f)·2^e. */
function position(x: number): number {
  let e = Math.floor(Math.log2(x));
  if (2 ** e > x) e -= 1;
  if (2 ** (e + 1) <= x) e += 1;
  return e + (x / 2 ** e - 1);
}

/** The value at a position. */
function valueAt(place: number): number {
  const e = Math.floor(place);
  return (1 + (place - e)) * 2 ** e;
}

/** The positions that a block's exponent is the whole part of leave room for rounding up. */
const V_MARGIN = (2 ** 20 - 1) / 2 ** 23;
const M_MARGIN = (2 ** 20 + 0x200) / 2 ** 23;

/** Rounds a block of second moments in place. */
function roundV(block: Float64Array, draw: (k: number) => number): void {
  const largest = Math.fround(Math.max(...block));
  if (largest === 0) return;
  const exponent = Math.max(Math.floor(position(largest) + V_MARGIN) + 127, 33);
  const base = exponent - 31 - 127;
  for (const [k, v] of block.entries()) {
    if (v === 0) continue;
    const code = Math.floor(8 * (position(v) - base) + (draw(k) >>> 12) / 2 ** 20);
    block[k] = valueAt(base + Math.max(code, 1) / 8);
  }
}

/** Rounds a block of first moments in place. */
function roundM(block: Float64Array, draw: (k: number) => number): void {
  const largest = Math.fround(Math.max(...block.map(Math.abs)));
  if (largest === 0) return;
  const exponent = Math.max(Math.floor(position(largest) + M_MARGIN) + 127, 24);
  const unit = 2 ** (exponent - 127);
  const foot = 2 ** -15;
  for (const [k, m] of block.entries()) {
    const place = 8 * position(Math.abs(m) / unit + foot) + (draw(k) & 0xfffff) / 2 ** 20;
    block[k] = Math.sign(m) * (valueAt(Math.floor(place) / 8) - foot) * unit;
  }
}

/** Rounds the moments of a whole tensor in place. */
export function roundMoments(
  type: "bfloat16" | "8bit",
  plane: "m" | "v",
  values: Float64Array,
  draws: Draws,
): void {
  if (type === "8bit") {
    for (let first = 0; first < values.length; first += 128) {
      const block = values.subarray(first, first + 128);
      (plane === "m" ? roundM : roundV)(block, (k) => draws.at(first + k));
    }
    return;
  }
  for (const [k, value] of values.entries()) {
    if (value === 0) continue;
    const place = 128 * position(Math.abs(value));
    const below = Math.floor(place);
    // A first moment goes to the nearest, on a tie to the even one.
    const nearest = place - below === 0.5 ? below + (Math.abs(below) % 2) : Math.floor(place + 0.5);
    const drawn = Math.floor(place + (draws.at(k) >>> 16) / 2 ** 16);
    values[k] = Math.sign(value) * valueAt((plane === "m" ? nearest : drawn) / 128);
  }
}
