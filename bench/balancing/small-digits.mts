import { PIXELS, loadMnist, normalise, type Dataset } from "../../examples/mnist/data.mjs";

/** Side of the pictures: MNIST's, each pixel the mean of four. */
export const SIDE = 14;
export const SMALL = SIDE * SIDE;

/** The normalised value of MNIST's black background. */
export const BACKGROUND = normalise(
  { count: 1, pixels: new Uint8Array(PIXELS), labels: new Uint8Array(1) },
  [0],
  new Float32Array(PIXELS),
)[0]!;

/** Pictures of 14 × 14 normalised pixels. */
export class SmallDigits {
  readonly #set: Dataset;
  readonly #large = new Float32Array(PIXELS);

  constructor(set: Dataset) {
    this.#set = set;
  }

  get count(): number {
    return this.#set.count;
  }

  label(index: number): number {
    return this.#set.labels[index]!;
  }

  /** A thumbnail of the original 28 × 28 picture: the mean grey value, from 0 to 1, of each of 4 × 4 squares. */
  thumbnail(index: number, into: Float64Array, at: number): void {
    const [side, square] = [28, 7];
    const from = index * PIXELS;
    for (let k = 0; k < 16; ++k) {
      const corner = from + Math.floor(k / 4) * square * side + (k % 4) * square;
      let sum = 0;
      for (let p = 0; p < square * square; ++p) {
        sum += this.#set.pixels[corner + Math.floor(p / square) * side + (p % square)]!;
      }
      into[at + k] = sum / (square * square) / 255;
    }
  }

  /** Writes a picture to `into` from `at` on. */
  picture(index: number, into: Float64Array, at: number): void {
    const large = normalise(this.#set, [index], this.#large);
    for (let k = 0; k < SMALL; ++k) {
      const corner = 2 * Math.floor(k / SIDE) * 2 * SIDE + 2 * (k % SIDE);
      const below = corner + 2 * SIDE;
      into[at + k] = (large[corner]! + large[corner + 1]! + large[below]! + large[below + 1]!) / 4;
    }
  }
}

/** Turns a picture by an angle about its middle, bilinearly, with background around it; writes to `into` from `at` on. */
export function turn(picture: Float64Array, angle: number, into: Float64Array, at: number): void {
  const [cos, sin, middle] = [Math.cos(angle), Math.sin(angle), (SIDE - 1) / 2];
  const pixel = (x: number, y: number) =>
    x < 0 || y < 0 || x >= SIDE || y >= SIDE ? BACKGROUND : picture[y * SIDE + x]!;
  for (let k = 0; k < SMALL; ++k) {
    const [x, y] = [(k % SIDE) - middle, Math.floor(k / SIDE) - middle];
    const [u, v] = [cos * x + sin * y + middle, cos * y - sin * x + middle];
    const [left, top] = [Math.floor(u), Math.floor(v)];
    const [right, down] = [u - left, v - top];
    into[at + k] =
      (1 - down) * ((1 - right) * pixel(left, top) + right * pixel(left + 1, top)) +
      down * ((1 - right) * pixel(left, top + 1) + right * pixel(left + 1, top + 1));
  }
}

export interface SmallMnist {
  train: SmallDigits;
  test: SmallDigits;
}

let loaded: Promise<SmallMnist> | undefined;

/** MNIST in 14 × 14 pixels, read once. */
export function smallMnist(): Promise<SmallMnist> {
  return (loaded ??= loadMnist().then(({ train, test }) => ({
    train: new SmallDigits(train),
    test: new SmallDigits(test),
  })));
}
