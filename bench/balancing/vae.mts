import { randomFor, type Random } from "../../examples/common/random.mjs";
import { CLASSES } from "../../examples/mnist/data.mjs";
import { ARMS_IN_RANDOM_UNITS } from "./arms.mjs";
import { zeros, type Dense, type Numbers } from "./dense.mjs";
import { normal } from "./draws.mjs";
import { ratesAround, type Experiment, type Outcome } from "../common/experiment.mjs";
import type { Gradient } from "../common/gradient.mjs";
import { crossEntropy, wrong } from "./losses.mjs";
import { USUAL, training, type Problem } from "./problem.mjs";
import { SMALL, smallMnist, type SmallMnist } from "./small-digits.mjs";
import { Stack, clear, tensors } from "./stack.mjs";
import { randomUnits } from "../common/units.mjs";
import { Spread } from "../common/statistics.mjs";

const ROWS = 64;
const HIDDEN = 64;
const CODE = 8;
/** The number of test batches. */
const TESTS = 64;
/** Logarithms of variances are clipped to ± this value. */
const MOST = 8;

const { exp, max, min } = Math;

/** The parts of the network. Each term reaches some of them. */
const PARTS = ["trunk", "mean", "spread", "decoder", "classifier"] as const;
type Part = (typeof PARTS)[number];
const REACHED: readonly (readonly Part[])[] = [
  ["trunk", "mean", "spread", "decoder"],
  ["trunk", "mean", "spread"],
  ["trunk", "mean", "classifier"],
];

/**
 * A variational autoencoder of digits with a classifier on its code, with three terms: the reconstruction (half the squared
 * error), the Kullback-Leibler divergence of the code from the normal distribution, the cross entropy of the classifier.
 */
export class VaeProblem implements Problem {
  readonly #parts: Readonly<Record<Part, Stack>>;
  /** The gradients by term, for the parts that it reaches. */
  readonly #buffers: readonly Readonly<Record<Part, readonly Dense[]>>[];
  readonly #units: readonly number[];
  readonly #pictures: Float64Array;
  readonly #labels: Uint8Array;
  readonly #noise: Float64Array;
  readonly #code: Float64Array;
  readonly #dPictures: Float64Array;
  readonly #dCode: Float64Array;
  readonly #dMean: Float64Array;
  readonly #dSpread: Float64Array;
  readonly #dTrunk: readonly [Float64Array, Float64Array];
  readonly #dLogits: Float64Array;
  readonly #data: SmallMnist;
  readonly #random: Random;
  readonly #rows: number;

  constructor(data: SmallMnist, seed: number, { rows = ROWS, hidden = HIDDEN, code = CODE } = {}) {
    const random = randomFor(1, seed, "vae parameters");
    this.#parts = {
      trunk: new Stack([SMALL, hidden], rows, random, { lastRelu: true }),
      mean: new Stack([hidden, code], rows, random),
      spread: new Stack([hidden, code], rows, random),
      decoder: new Stack([code, hidden, SMALL], rows, random),
      classifier: new Stack([code, CLASSES], rows, random),
    };
    this.#buffers = REACHED.map(
      () =>
        Object.fromEntries(PARTS.map((part) => [part, this.#parts[part].layers.map(zeros)])) as Record<
          Part,
          Dense[]
        >,
    );
    this.#units = randomUnits(3, randomFor(1, seed, "vae units"));
    const buffer = (size: number) => new Float64Array(rows * size);
    this.#pictures = buffer(SMALL);
    this.#labels = new Uint8Array(rows);
    this.#noise = buffer(code);
    this.#code = buffer(code);
    this.#dPictures = buffer(SMALL);
    this.#dCode = buffer(code);
    this.#dMean = buffer(code);
    this.#dSpread = buffer(code);
    this.#dTrunk = [buffer(hidden), buffer(hidden)];
    this.#dLogits = buffer(CLASSES);
    this.#data = data;
    this.#random = randomFor(1, seed, "vae batches");
    this.#rows = rows;
  }

  get layers(): readonly Dense[] {
    return PARTS.flatMap((part) => this.#parts[part].layers);
  }

  get parameters(): readonly Float32Array[] {
    return tensors(this.layers) as Float32Array[];
  }

  get gradients(): readonly Gradient[] {
    return this.#buffers.map((buffers, term) =>
      PARTS.flatMap((part) =>
        tensors(buffers[part]).map((values) =>
          REACHED[term]!.includes(part) ? (values as Float32Array) : null,
        ),
      ),
    );
  }

  draw(): void {
    const { train } = this.#data;
    this.#fill(train, () => Math.floor(this.#random() * train.count));
    for (let k = 0; k < this.#noise.length; ++k) this.#noise[k] = normal(this.#random);
  }

  backward(): number[] {
    const { mean, spread } = this.#encode();
    for (const buffers of this.#buffers) for (const part of PARTS) clear(buffers[part]);
    return [this.#reconstruction(mean, spread), this.#divergence(mean, spread), this.#classification(mean)];
  }

  /** In true units: 1 for the two terms of the autoencoder, 10 to the power of the exponent for the classifier. */
  weights(exponent: number): readonly number[] {
    return this.#units.map((unit, term) => (term === 2 ? 10 ** exponent : 1) / unit);
  }

  /**
   * The geometric mean of the share of wrong answers, and of reconstruction and divergence together relative to the
   * reconstruction by the mean picture.
   */
  outcome(): Outcome {
    let [errors, squares, divergence] = [0, 0, 0];
    const pictures = new Spread(SMALL);
    for (let test = 0; test < TESTS; ++test) {
      this.#fill(this.#data.test, (row) => test * this.#rows + row);
      const { mean, spread } = this.#encode();
      errors += wrong(this.#parts.classifier.forward(mean), this.#labels);
      for (let k = 0; k < mean.length; ++k) divergence += divergenceOf(mean[k]!, limited(spread[k]!));
      const result = this.#parts.decoder.forward(mean);
      for (let k = 0; k < result.length; ++k) {
        squares += (result[k]! - this.#pictures[k]!) ** 2;
      }
      pictures.add(this.#pictures);
    }
    const count = TESTS * this.#rows;
    const [share, bound] = [errors / count, (squares / 2 + divergence) / (pictures.value / 2)];
    const details = { wrong: share, reconstruction: squares / 2 / count, divergence: divergence / count };
    return { value: Math.sqrt(share * bound), details };
  }

  #fill(set: SmallMnist["train"], index: (row: number) => number): void {
    for (let row = 0; row < this.#rows; ++row) {
      const picture = index(row); // once: it may be drawn
      this.#labels[row] = set.label(picture);
      set.picture(picture, this.#pictures, row * SMALL);
    }
  }

  #encode(): { mean: Numbers; spread: Numbers } {
    const shared = this.#parts.trunk.forward(this.#pictures);
    return { mean: this.#parts.mean.forward(shared), spread: this.#parts.spread.forward(shared) };
  }

  #reconstruction(mean: Numbers, spread: Numbers): number {
    const unit = this.#units[0]! / this.#rows;
    for (let k = 0; k < mean.length; ++k) {
      this.#code[k] = mean[k]! + this.#noise[k]! * exp(limited(spread[k]!) / 2);
    }
    const result = this.#parts.decoder.forward(this.#code);
    let loss = 0;
    for (let k = 0; k < result.length; ++k) {
      const difference = result[k]! - this.#pictures[k]!;
      loss += (unit * difference ** 2) / 2;
      this.#dPictures[k] = unit * difference;
    }
    this.#parts.decoder.backward(this.#dPictures, this.#buffers[0]!.decoder, this.#dCode);
    for (let k = 0; k < mean.length; ++k) {
      const deviation = exp(limited(spread[k]!) / 2);
      this.#dMean[k] = this.#dCode[k]!;
      this.#dSpread[k] = this.#dCode[k]! * this.#noise[k]! * (deviation / 2) * slopeOfLimited(spread[k]!);
    }
    this.#encoderBackward(0, true);
    return loss;
  }

  #divergence(mean: Numbers, spread: Numbers): number {
    const unit = this.#units[1]! / this.#rows;
    let loss = 0;
    for (let k = 0; k < mean.length; ++k) {
      const logVariance = limited(spread[k]!);
      loss += unit * divergenceOf(mean[k]!, logVariance);
      this.#dMean[k] = unit * mean[k]!;
      this.#dSpread[k] = unit * ((exp(logVariance) - 1) / 2) * slopeOfLimited(spread[k]!);
    }
    this.#encoderBackward(1, true);
    return loss;
  }

  #classification(mean: Numbers): number {
    const logits = this.#parts.classifier.forward(mean);
    const loss = crossEntropy(logits, this.#labels, this.#dLogits, this.#units[2]);
    this.#parts.classifier.backward(this.#dLogits, this.#buffers[2]!.classifier, this.#dMean);
    this.#encoderBackward(2, false);
    return loss;
  }

  /** Backpropagates the gradients of the code's mean and, with `withSpread`, of its spread through the encoder. */
  #encoderBackward(term: number, withSpread: boolean): void {
    const buffers = this.#buffers[term]!;
    const [dTrunk, more] = this.#dTrunk;
    this.#parts.mean.backward(this.#dMean, buffers.mean, dTrunk);
    if (withSpread) {
      this.#parts.spread.backward(this.#dSpread, buffers.spread, more);
      for (let k = 0; k < dTrunk.length; ++k) dTrunk[k]! += more[k]!;
    }
    this.#parts.trunk.backward(dTrunk, buffers.trunk);
  }
}

/** The divergence of one value of the code. */
function divergenceOf(mean: number, logVariance: number): number {
  return (mean ** 2 + exp(logVariance) - 1 - logVariance) / 2;
}

function limited(logVariance: number): number {
  return min(MOST, max(-MOST, logVariance));
}

function slopeOfLimited(logVariance: number): number {
  return Math.abs(logVariance) < MOST ? 1 : 0;
}

export const vae: Experiment = {
  ...USUAL,
  key: "vae",
  measure: "geometric mean of errors and relative bound",
  arms: ARMS_IN_RANDOM_UNITS,
  terms: ["reconstruction", "divergence", "classifier"],
  grid: {
    exponents: [0, 1, 2],
    describe: (exponent) =>
      `1 for the autoencoder's terms, ${10 ** exponent} for the classifier, in true units`,
  },
  rates: ratesAround(1e-3),
  seeds: 5,
  steps: 1500,
  run: training(async (seed) => new VaeProblem(await smallMnist(), seed)),
};
