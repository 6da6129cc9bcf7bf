import * as tf from "@tensorflow/tfjs-core";
import { normals, randomFor } from "../common/random.mjs";

/** A function of tensors with variables, all float32. */
export interface Network<T extends (...inputs: tf.Tensor4D[]) => tf.Tensor4D> {
  variables: tf.Variable[];
  apply: T;
}

type Layer = (of: tf.Tensor4D) => tf.Tensor4D;

/** Standard deviation of the normal distribution from which filters are drawn. */
const START = 0.03;

/** Makes the convolutions of a network, and keeps their variables. */
class Convolutions {
  readonly variables: tf.Variable[] = [];
  readonly #network: string;
  readonly #seed: number;

  constructor(network: string, seed: number) {
    this.#network = network;
    this.#seed = seed;
  }

  /** A convolution of `size` × `size` pixels with a bias; a stride of 2 halves height and width. */
  layer(size: number, channels: number, filters: number, stride: 1 | 2): Layer {
    const name = `${this.#network}/${this.variables.length / 2}`;
    const draws = normals(size * size * channels * filters, randomFor(this.#seed, 1, name));
    const start = tf.tensor4d(
      draws.map((draw) => START * draw),
      [size, size, channels, filters],
    );
    const filter = tf.variable(start, true, `${name}/filter`);
    const bias = tf.variable(tf.zeros([filters]), true, `${name}/bias`);
    this.variables.push(filter, bias);
    return (of) => tf.add(tf.conv2d(of, filter, stride, "same"), bias);
  }
}

/** A picture to a picture: three convolutions down, three up, and two skip connections between them (a U-Net). */
export function newGenerator(width: number, seed: number): Network<(given: tf.Tensor4D) => tf.Tensor4D> {
  const convolutions = new Convolutions("generator", seed);
  const down1 = convolutions.layer(4, 1, width, 2);
  const down2 = convolutions.layer(4, width, 2 * width, 2);
  const down3 = convolutions.layer(4, 2 * width, 4 * width, 2);
  const up3 = convolutions.layer(3, 4 * width, 2 * width, 1);
  const up2 = convolutions.layer(3, 4 * width, width, 1);
  const up1 = convolutions.layer(3, 2 * width, 1, 1);
  return {
    variables: convolutions.variables,
    apply: (given) => {
      const half = down1(given);
      const quarter = normalized(down2(leaky(half)));
      const eighth = normalized(down3(leaky(quarter)));
      const toQuarter = normalized(up3(enlarged(tf.relu(eighth))));
      const toHalf = normalized(up2(enlarged(tf.relu(tf.concat([toQuarter, quarter], 3)))));
      return tf.tanh(up1(enlarged(tf.relu(tf.concat([toHalf, half], 3)))));
    },
  };
}

/** Two pictures to a map of 8 × 8 logits, one per patch: whether the second is a true picture (a PatchGAN). */
export function newDiscriminator(
  width: number,
  seed: number,
): Network<(given: tf.Tensor4D, picture: tf.Tensor4D) => tf.Tensor4D> {
  const convolutions = new Convolutions("discriminator", seed);
  const first = convolutions.layer(4, 2, width, 2);
  const second = convolutions.layer(4, width, 2 * width, 2);
  const last = convolutions.layer(3, 2 * width, 1, 1);
  return {
    variables: convolutions.variables,
    apply: (given, picture) => last(leaky(normalized(second(leaky(first(tf.concat([given, picture], 3))))))),
  };
}

/** Small where the logits are large: they say that pictures are true. */
export function real(logits: tf.Tensor4D): tf.Scalar {
  return tf.mean(tf.softplus(tf.neg(logits)));
}

/** Small where the logits are far below 0: they say that pictures were made. */
export function fake(logits: tf.Tensor4D): tf.Scalar {
  return tf.mean(tf.softplus(logits));
}

/** Instance normalization: each channel of each picture gets the mean 0 and the variance 1. */
function normalized(of: tf.Tensor4D): tf.Tensor4D {
  const { mean, variance } = tf.moments(of, [1, 2], true);
  return tf.mul(tf.sub(of, mean), tf.rsqrt(tf.add(variance, 1e-5)));
}

const leaky: Layer = (of) => tf.leakyRelu(of, 0.2);

/** Twice the height and width. */
const enlarged: Layer = (of) => tf.image.resizeNearestNeighbor(of, [2 * of.shape[1], 2 * of.shape[2]]);
