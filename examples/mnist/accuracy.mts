import { numpy as np } from "@jax-js/jax";
import { CLASSES, PIXELS, normalise, type Dataset } from "./data.mjs";
import type { Model, Values } from "./model.mjs";

/** Images per forward pass. All passes have one shape, since each new shape must be compiled. */
const CHUNK = 2000;

/** Shares of test images recognised, 0 to 1. */
export interface Recognised {
  all: number;
  /** Of the images of each digit. */
  recall: number[];
}

/** What a network recognises, always over the whole test set: about 0.1 s, affordable for curves too. */
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

  /** Of a network with these parameters. */
  async of(parameters: Values): Promise<Recognised> {
    const { labels, count } = this.#test;
    const right = new Array<number>(CLASSES).fill(0);
    const images = new Array<number>(CLASSES).fill(0);
    for (const [index, chunk] of this.#chunks.entries()) {
      const guesses = await this.#model.guess(parameters, chunk);
      // The last chunk may be padded: there may be guesses past the last label.
      const ofChunk = labels.subarray(index * CHUNK, (index + 1) * CHUNK);
      ofChunk.forEach((label, i) => {
        images[label]! += 1;
        right[label]! += Number(guesses[i] === label);
      });
    }
    const all = right.reduce((sum, ofDigit) => sum + ofDigit, 0) / count;
    return { all, recall: right.map((ofDigit, digit) => ofDigit / images[digit]!) };
  }
}
