import { numpy as np } from "@jax-js/jax";
import { PIXELS, normalise, type Dataset } from "./data.mjs";
import type { Model, Values } from "./model.mjs";

/** Images per forward pass. All passes have one shape, since each new shape must be compiled. */
const CHUNK = 2000;

/**
 * The share of test images recognised, always over the whole test set: about 0.1 s, affordable for curves
 * too.
 */
export class Accuracy {
  readonly #model: Model;
  readonly #test: Dataset;
  /** The normalised test set, [2000 × 784] each, which stays in WebAssembly memory (31 MB). */
  readonly #chunks: np.Array[] = [];

  constructor(model: Model, test: Dataset) {
    this.#model = model;
    this.#test = test;
    const images = new Float32Array(CHUNK * PIXELS);
    for (let start = 0; start < test.count; start += CHUNK) {
      const indices = Array.from({ length: Math.min(CHUNK, test.count - start) }, (_, i) => start + i);
      this.#chunks.push(np.array(normalise(test, indices, images)).reshape([CHUNK, PIXELS]));
    }
  }

  /** Accuracy of a network with these parameters, 0 to 1. */
  async of(parameters: Values): Promise<number> {
    const { labels, count } = this.#test;
    let right = 0;
    for (const [index, images] of this.#chunks.entries()) {
      const guesses = await this.#model.guess(parameters, images);
      // The last chunk may be padded: there may be guesses past the last label.
      const ofChunk = labels.subarray(index * CHUNK, (index + 1) * CHUNK);
      ofChunk.forEach((label, i) => (right += Number(guesses[i] === label)));
    }
    return right / count;
  }
}
