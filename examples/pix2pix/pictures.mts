import * as tf from "@tensorflow/tfjs-core";
import { pixelsOf, type Dataset } from "../mnist/data.mjs";

/** Pixels of ink are lighter than this. */
const INK = -0.2;

/** Images as pictures of 32 × 32 pixels, [indices.length, 32, 32, 1], from -1, the background, to 1. */
export function picturesOf(set: Dataset, indices: readonly number[]): tf.Tensor4D {
  return tf.tidy(() => {
    const pixels = tf.tensor4d(pixelsOf(set, indices), [indices.length, 28, 28, 1], "float32");
    const greys = tf.sub<tf.Tensor4D>(tf.div(pixels, 127.5), 1);
    return tf.pad(greys, [[0, 0], [2, 2], [2, 2], [0, 0]], -1); // prettier-ignore
  });
}

/** The pixels of ink that have a neighbour without ink, as 1 on -1. */
export function outlinesOf(pictures: tf.Tensor4D): tf.Tensor4D {
  return tf.tidy(() => {
    const ink = tf.cast<tf.Tensor4D>(tf.greater(pictures, INK), "float32");
    const cross = tf.tensor4d([0, 1, 0, 1, 0, 1, 0, 1, 0], [3, 3, 1, 1]);
    const isInside = tf.cast(tf.equal(tf.conv2d(ink, cross, 1, "same"), 4), "float32");
    return tf.sub(tf.mul(2, tf.mul(ink, tf.sub(1, isInside))), 1);
  });
}
