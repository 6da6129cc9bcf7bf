import { defaultDevice, init, jit, nn, numpy as np, vjp } from "@jax-js/jax";
import type { Random } from "../common/random.mjs";
import { BATCH, CLASSES, PIXELS, type Batch } from "./data.mjs";

const HIDDEN = 128;

/** The parameters of the network 784-128-10, in the order of all lists of parameters. */
export const PARAMETERS = [
  { name: "fc1.weight", shape: [PIXELS, HIDDEN], fanIn: PIXELS },
  { name: "fc1.bias", shape: [HIDDEN], fanIn: PIXELS },
  { name: "fc2.weight", shape: [HIDDEN, CLASSES], fanIn: HIDDEN },
  { name: "fc2.bias", shape: [CLASSES], fanIn: HIDDEN },
];

/** An array for each of PARAMETERS, in row-major order: the parameters themselves, or a gradient. */
export type Values = readonly Float32Array[];

/** Losses of a batch with their gradients. */
export interface Gradients {
  /** [10] the loss terms: weight × sum of the digit's cross-entropies / batch size. */
  losses: Float32Array;
  /** A gradient of each term, or one of their sum. */
  gradients: Values[];
}

type Four = [w1: np.Array, b1: np.Array, w2: np.Array, b2: np.Array];

/** The initial values that PyTorch gives a linear layer: uniform within ±1/√fanIn. */
export function initialValues(random: Random): Values {
  return PARAMETERS.map(({ shape, fanIn }) => {
    const length = shape.reduce((product, size) => product * size, 1);
    return Float32Array.from({ length }, () => (2 * random() - 1) / Math.sqrt(fanIn));
  });
}

// jax-js counts references: a function consumes its arguments, `.ref` keeps one for a further use, and an array that is
// neither consumed nor disposed of leaks.

/** Images [n × 784] to logits [n × 10]. */
function forward([w1, b1, w2, b2]: Four, images: np.Array): np.Array {
  const hidden = nn.relu(np.matmul(images, w1).add(b1));
  return np.matmul(hidden, w2).add(b2);
}

/**
 * The ten losses [10] of a batch and a gradient for each of the `cotangents` [10], as one compiled function: forward
 * pass and tape are shared, so that ten pullbacks take half the time of ten separate gradients.
 */
function lossesAndPullbacks(cotangents: number[][]) {
  return jit(
    (w1: np.Array, b1: np.Array, w2: np.Array, b2: np.Array, images: np.Array, targets: np.Array) => {
      const tenLosses = (...parameters: Four) => {
        const logProbabilities = nn.logSoftmax(forward(parameters, images.ref), -1);
        return np.negative(np.sum(logProbabilities.mul(targets.ref), 0));
      };
      const [losses, pullback] = vjp(tenLosses, [w1, b1, w2, b2]);
      const gradients = cotangents.map((cotangent) => pullback(np.array(cotangent)));
      pullback.dispose();
      images.dispose();
      targets.dispose();
      return [losses, gradients] as [np.Array, np.Array[][]];
    },
  );
}

const oneHot = Array.from({ length: CLASSES }, (_, i) =>
  Array.from({ length: CLASSES }, (_, k) => Number(i === k)),
);

/** Gradients and guesses of the network, computed by jax-js on WebAssembly. It keeps no parameters. */
export class Model {
  readonly #each = lossesAndPullbacks(oneHot);
  readonly #sum = lossesAndPullbacks([oneHot.map(() => 1)]);
  readonly #guess = jit((w1: np.Array, b1: np.Array, w2: np.Array, b2: np.Array, images: np.Array) =>
    np.argmax(forward([w1, b1, w2, b2], images), 1),
  );

  static async create(): Promise<Model> {
    const available = await init("wasm");
    if (!available.includes("wasm"))
      throw new Error("This demo needs WebAssembly, which is not available here.");
    defaultDevice("wasm");
    return new Model();
  }

  /** The ten losses, each scaled by its entry of `weights` [10], and the gradient of each: ten gradients. */
  gradientOfEach(parameters: Values, batch: Batch, weights: readonly number[]): Promise<Gradients> {
    return run(this.#each, parameters, batch, weights);
  }

  /** The same losses, and the gradient of their sum: one gradient. */
  gradientOfSum(parameters: Values, batch: Batch, weights: readonly number[]): Promise<Gradients> {
    return run(this.#sum, parameters, batch, weights);
  }

  /** The most probable digit of each image; `images` [n × 784] is kept. Each new n must be compiled. */
  async guess(parameters: Values, images: np.Array): Promise<ArrayLike<number>> {
    return this.#guess(...lend(parameters), images.ref).data() as Promise<ArrayLike<number>>;
  }
}

async function run(
  compiled: ReturnType<typeof lossesAndPullbacks>,
  parameters: Values,
  batch: Batch,
  weights: readonly number[],
): Promise<Gradients> {
  const images = np.array(batch.images).reshape([BATCH, PIXELS]);
  const [losses, gradients] = compiled(...lend(parameters), images, targets(batch, weights));
  // `data` consumes the array and copies it out, so every step returns new arrays at new addresses.
  return {
    losses: (await losses.data()) as Float32Array,
    gradients: await Promise.all(
      gradients.map((ofTerm) => Promise.all(ofTerm.map((array) => array.data() as Promise<Float32Array>))),
    ),
  };
}

/** [64 × 10]: at an image's digit the weight of that digit divided by the batch size, 0 elsewhere. */
function targets(batch: Batch, weights: readonly number[]): np.Array {
  const values = new Float32Array(BATCH * CLASSES);
  batch.labels.forEach((label, row) => (values[row * CLASSES + label] = weights[label]! / batch.size));
  return np.array(values).reshape([BATCH, CLASSES]);
}

function lend(parameters: Values): Four {
  return PARAMETERS.map(({ shape }, i) => np.array(parameters[i]!).reshape(shape)) as Four;
}
