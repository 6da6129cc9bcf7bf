import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { datasetOf, loadMnist, PIXELS, pixelsOf, type Dataset } from "../../examples/mnist/data.mjs";
import { UsageError } from "../../examples/common/command-line.mjs";
import { draws, shuffled, type Random } from "../../examples/common/random.mjs";

/** Handwritten digits, or clothes. */
export type DataName = "digits" | "fashion";

/** Images for training; for choosing rates and weights; for the reported figures. */
export interface Data {
  train: Dataset;
  validation: Dataset;
  test: Dataset;
}

/** As `mtadam/torch` takes them. */
export interface ByteTensor {
  data: Uint8Array;
  shape: number[];
}

/** Images with their classes. */
export interface Examples {
  /** [count × 28 × 28] */
  images: ByteTensor;
  /** [count] */
  classes: ByteTensor;
}

/** Where Debian's package dataset-fashion-mnist has its files. */
const FASHION = "/usr/share/datasets/fashion-mnist";

const TRAINING = 50_000;

const loaded = new Map<DataName, Promise<Data>>();

/** The data set; the last 10,000 of its 60,000 training images are for validation. */
export function loadData(name: DataName): Promise<Data> {
  let data = loaded.get(name);
  if (!data) loaded.set(name, (data = load(name)));
  return data;
}

async function load(name: DataName): Promise<Data> {
  const { train, test } = name === "digits" ? await loadMnist() : await loadFashion();
  return { train: part(train, 0, TRAINING), validation: part(train, TRAINING, train.count), test };
}

async function loadFashion(): Promise<{ train: Dataset; test: Dataset }> {
  if (!existsSync(FASHION)) {
    throw new UsageError(
      `Experiments with fashion need Debian's package dataset-fashion-mnist; there is no ${FASHION}.`,
    );
  }
  const read = async (file: string) => gunzipSync(await readFile(`${FASHION}/${file}-ubyte.gz`));
  const set = async (name: string) =>
    datasetOf(
      `Fashion-MNIST's ${name} set`,
      await read(`${name}-images-idx3`),
      await read(`${name}-labels-idx1`),
    );
  return { train: await set("train"), test: await set("t10k") };
}

function part({ pixels, labels }: Dataset, first: number, end: number): Dataset {
  return {
    count: end - first,
    pixels: pixels.subarray(first * PIXELS, end * PIXELS),
    labels: labels.subarray(first, end),
  };
}

/** The first and the second half. */
export function halves(set: Dataset): [Dataset, Dataset] {
  const middle = Math.floor(set.count / 2);
  return [part(set, 0, middle), part(set, middle, set.count)];
}

/** The examples with these indices. */
export function choose(set: Dataset, indices: ArrayLike<number>): Examples {
  return {
    images: { data: pixelsOf(set, indices), shape: [indices.length, 28, 28] },
    classes: bytes(Array.from(indices, (index) => set.labels[index]!)),
  };
}

/** `count` examples drawn with replacement. */
export function drawn(set: Dataset, count: number, random: Random): Examples {
  return choose(set, draws(count, set.count, random));
}

/** Two disjoint samples of `count` examples. */
export function twoSamples(set: Dataset, count: number, random: Random): [Examples, Examples] {
  const order = shuffled(set.count, random);
  return [choose(set, order.subarray(0, count)), choose(set, order.subarray(count, 2 * count))];
}

/** Small whole numbers as a tensor of one dimension. */
export function bytes(values: readonly number[]): ByteTensor {
  return { data: Uint8Array.from(values), shape: [values.length] };
}
