// Prints, for each convolution of a JSON list, how far the gradients of its input and its filter on wasm are from those
// of the cpu backend, as a share of the largest value; for transposed convolutions, which use the same kernel, that of
// the result, too.
//   node wasm-gradients.mjs <compiled examples> <convolutions>

import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-layers";

const [folder, convolutions] = process.argv.slice(2);
console.warn = () => {}; // the advice to install another backend
await import(`${folder}/pix2pix/wasm-convolutions.mjs`);

/** Disposes of everything by hand, so that what the kernels leave over is seen. */
async function resultsOn(backend, { input, filter, strides, pad, transposed }) {
  await tf.setBackend(backend);
  const before = tf.backend().numDataIds();
  const x = tf.randomNormal(input, 0, 1, "float32", 1);
  const f = tf.randomNormal(filter, 0, 1, "float32", 2);
  const run = transposed
    ? (x, f) => tf.conv2dTranspose(x, f, transposed, strides, pad)
    : (x, f) => tf.conv2d(x, f, strides, pad);
  const y = run(x, f);
  const dy = tf.randomNormal(y.shape, 0, 1, "float32", 3);
  const gradients = tf.grads(run)([x, f], dy);
  const values = [...(transposed ? [y] : []), ...gradients].map((tensor) => tensor.dataSync());
  tf.dispose([x, f, y, dy, ...gradients]);
  if (tf.backend().numDataIds() !== before) throw new Error(`${backend} has kept tensors.`);
  return values;
}

function distance(found, expected) {
  if (found.length !== expected.length) throw new Error("The results differ in size.");
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const distances = Array.from(found, (value, i) => Math.abs(value - expected[i]));
  if (!distances.every(Number.isFinite)) throw new Error("A result is not finite.");
  // All values may be 0: those of a filter that sees padding alone.
  return Math.max(...distances) / (largest || 1);
}

const distances = [];
for (const convolution of JSON.parse(convolutions)) {
  const [found, expected] = [await resultsOn("wasm", convolution), await resultsOn("cpu", convolution)];
  distances.push(found.map((values, k) => distance(values, expected[k])));
}
console.log(JSON.stringify(distances));
