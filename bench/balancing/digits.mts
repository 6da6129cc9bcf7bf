import { randomFor, type Random } from "../../examples/common/random.mjs";
import { CLASSES } from "../../examples/mnist/data.mjs";
import { ARMS_IN_RANDOM_UNITS } from "./arms.mjs";
import { ratesAround, type Experiment, type Outcome } from "../common/experiment.mjs";
import { crossEntropy, squaredError, wrong } from "./losses.mjs";
import { USUAL, training, type Problem } from "./problem.mjs";
import { SharedTrunk } from "./shared-trunk.mjs";
import { SMALL, smallMnist, turn, type SmallDigits, type SmallMnist } from "./small-digits.mjs";
import { Spread } from "../common/statistics.mjs";

const ROWS = 64;
const HIDDEN = [64, 64];
/** The number of test batches. */
const TESTS = 64;
/** The largest angle in either direction. */
const MOST = (75 * Math.PI) / 180;

/** The outputs of the heads: the digit, sine and cosine of the angle, and the upright picture in 4 × 4 pixels. */
const OUTPUTS = [CLASSES, 2, 16];
/** The terms' units: angles and thumbnails are measured in other units than the digits. */
const UNITS = [1, 10, 0.01] as const;

/** A batch of turned digits and the targets. */
class Batch {
  readonly pictures: Float64Array;
  readonly labels: Uint8Array;
  readonly angles: Float64Array;
  readonly thumbnails: Float64Array;
  readonly #upright = new Float64Array(SMALL);

  constructor(rows: number) {
    this.pictures = new Float64Array(rows * SMALL);
    this.labels = new Uint8Array(rows);
    this.angles = new Float64Array(rows * 2);
    this.thumbnails = new Float64Array(rows * 16);
  }

  /** @param index gives the picture for a row */
  fill(set: SmallDigits, index: (row: number) => number, random: Random): void {
    for (let row = 0; row < this.labels.length; ++row) {
      const picture = index(row);
      const angle = (2 * random() - 1) * MOST;
      this.labels[row] = set.label(picture);
      this.angles.set([Math.sin(angle), Math.cos(angle)], 2 * row);
      set.thumbnail(picture, this.thumbnails, 16 * row);
      set.picture(picture, this.#upright, 0);
      turn(this.#upright, angle, this.pictures, row * SMALL);
    }
  }
}

/** Turned digits with three heads on a shared trunk. */
export class DigitsProblem implements Problem {
  readonly #network: SharedTrunk;
  readonly #buffers: readonly ReturnType<SharedTrunk["gradientOf"]>[];
  readonly #dPredictions: readonly Float64Array[];
  readonly #batch: Batch;
  readonly #data: SmallMnist;
  readonly #random: Random;
  readonly #seed: number;

  constructor(data: SmallMnist, seed: number, { rows = ROWS, hidden = HIDDEN } = {}) {
    const shape = { inputs: SMALL, hidden, outputs: OUTPUTS };
    this.#network = new SharedTrunk(shape, rows, randomFor(1, seed, "digits parameters"));
    this.#buffers = OUTPUTS.map((_, task) => this.#network.gradientOf(task));
    this.#dPredictions = OUTPUTS.map((size) => new Float64Array(rows * size));
    this.#batch = new Batch(rows);
    this.#data = data;
    this.#random = randomFor(1, seed, "digits");
    this.#seed = seed;
  }

  get layers() {
    return this.#network.layers;
  }

  get parameters(): readonly Float32Array[] {
    return this.#network.parameters as Float32Array[];
  }

  get gradients() {
    return this.#buffers.map(({ byParameter }) => byParameter);
  }

  draw(): void {
    const { train } = this.#data;
    this.#batch.fill(train, () => Math.floor(this.#random() * train.count), this.#random);
  }

  backward(): number[] {
    const { pictures, labels, angles, thumbnails } = this.#batch;
    this.#network.forward(pictures);
    return this.#buffers.map(({ layers }, task) => {
      const prediction = this.#network.predict(task);
      const d = this.#dPredictions[task]!;
      const unit = UNITS[task]!;
      const loss =
        task === 0
          ? crossEntropy(prediction, labels, d, unit)
          : squaredError(prediction, task === 1 ? angles : thumbnails, d, unit);
      this.#network.backward(task, d, layers);
      return loss;
    });
  }

  /** In true units: 1 for the digit, 10 to the power of the exponent for the others. */
  weights(exponent: number): readonly number[] {
    return UNITS.map((unit, task) => (task === 0 ? 1 : 10 ** exponent) / unit);
  }

  /** The geometric mean of the errors of digits, angles and thumbnails, each relative to the best constant answer. */
  outcome(): Outcome {
    const random = randomFor(1, this.#seed, "digits test");
    const batch = this.#batch;
    const rows = batch.labels.length;
    const spreads = [new Spread(2), new Spread(16)] as const;
    const sums = [0, 0, 0] as [number, number, number];
    for (let test = 0; test < TESTS; ++test) {
      batch.fill(this.#data.test, (row) => test * rows + row, random);
      this.#network.forward(batch.pictures);
      sums[0] += wrong(this.#network.predict(0), batch.labels);
      sums[1] += squaredError(this.#network.predict(1), batch.angles) * batch.angles.length;
      sums[2] += squaredError(this.#network.predict(2), batch.thumbnails) * batch.thumbnails.length;
      spreads[0].add(batch.angles);
      spreads[1].add(batch.thumbnails);
    }
    const errors = [sums[0] / (TESTS * rows), sums[1] / spreads[0].value, sums[2] / spreads[1].value];
    return {
      value: Math.cbrt(errors[0]! * errors[1]! * errors[2]!),
      details: { errors: errors.map((error) => Number(error.toPrecision(4))) },
    };
  }
}

export const digits: Experiment = {
  ...USUAL,
  key: "digits",
  measure: "geometric mean of three relative errors",
  arms: ARMS_IN_RANDOM_UNITS,
  terms: ["digit", "angle", "thumbnail"],
  grid: {
    exponents: [-1, 0, 1],
    describe: (exponent) => `1 for the digit, ${10 ** exponent} for angle and thumbnail, in true units`,
  },
  rates: ratesAround(1e-3),
  seeds: 5,
  steps: 2000,
  run: training(async (seed) => new DigitsProblem(await smallMnist(), seed)),
};
