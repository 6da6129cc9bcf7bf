// Prints, for each convolution of a JSON list, how far the gradients of examples/pix2pix are from those of the cpu
// backend, as a share of the largest: the input's, then the filter's.
//   node wasm-gradients.mjs <compiled examples> <convolutions>

import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-layers";

const [folder, convolutions] = process.argv.slice(2);
console.warn = () => {}; // the advice to install another backend
await import(`${folder}/pix2pix/wasm-convolutions.mjs`);

async function gradientsOn(backend, { input, filter, strides, pad }) {
  await tf.setBackend(backend);
  const before = tf.memory().numTensors;
  const gradients = tf.tidy(() => {
    const x = tf.randomNormal(input, 0, 1, "float32", 1);
    const f = tf.randomNormal(filter, 0, 1, "float32", 2);
    const dy = tf.randomNormal(tf.conv2d(x, f, strides, pad).shape, 0, 1, "float32", 3);
    const gradients = tf.grads((x, f) => tf.conv2d(x, f, strides, pad))([x, f], dy);
    return gradients.map((gradient) => gradient.dataSync());
  });
  if (tf.memory().numTensors !== before) throw new Error("Tensors were left over.");
  return gradients;
}

const errors = [];
for (const convolution of JSON.parse(convolutions)) {
  const [found, expected] = [await gradientsOn("wasm", convolution), await gradientsOn("cpu", convolution)];
  errors.push(
    found.map((values, k) => {
      const largest = expected[k].reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      return values.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[k][i])), 0) / largest;
    }),
  );
}
console.log(JSON.stringify(errors));
