import { randomFor, type Random } from "../../examples/common/random.mjs";
import { ARMS_IN_RANDOM_UNITS } from "./arms.mjs";
import { zeros, type Dense } from "./dense.mjs";
import { normal } from "./draws.mjs";
import { ratesAround, type Experiment, type Outcome } from "../common/experiment.mjs";
import type { Gradient } from "../common/gradient.mjs";
import { USUAL, training, type Problem } from "./problem.mjs";
import { SIDE, SMALL, smallMnist, type SmallMnist } from "./small-digits.mjs";
import { Stack, clear, tensors } from "./stack.mjs";
import { randomUnits } from "../common/units.mjs";

const ROWS = 64;
const HIDDEN = 64;
const CODE = 16;
/** The number of test batches. */
const TESTS = 32;

/**
 * An autoencoder that removes noise from digits, with three terms: the reconstruction, the sparsity of the code
 * (absolute values) and the smoothness of the result (squared differences of neighbours). The second term does not
 * reach the decoder.
 */
export class AutoencoderProblem implements Problem {
  readonly #encoder: Stack;
  readonly #decoder: Stack;
  /** Per term: the gradients of the encoder's layers, then those of the decoder's. */
  readonly #buffers: readonly (readonly Dense[])[];
  readonly #units: readonly number[];
  readonly #noisy: Float64Array;
  readonly #clean: Float64Array;
  readonly #dResult: Float64Array;
  readonly #dCode: Float64Array;
  readonly #data: SmallMnist;
  readonly #random: Random;
  readonly #seed: number;
  readonly #rows: number;

  constructor(data: SmallMnist, seed: number, { rows = ROWS, hidden = HIDDEN, code = CODE } = {}) {
    const random = randomFor(1, seed, "autoencoder parameters");
    this.#encoder = new Stack([SMALL, hidden, code], rows, random);
    this.#decoder = new Stack([code, hidden, SMALL], rows, random);
    this.#buffers = [0, 1, 2].map(() => this.layers.map(zeros));
    this.#units = randomUnits(3, randomFor(1, seed, "autoencoder units"));
    this.#noisy = new Float64Array(rows * SMALL);
    this.#clean = new Float64Array(rows * SMALL);
    this.#dResult = new Float64Array(rows * SMALL);
    this.#dCode = new Float64Array(rows * code);
    this.#data = data;
    this.#random = randomFor(1, seed, "autoencoder batches");
    this.#seed = seed;
    this.#rows = rows;
  }

  get layers(): readonly Dense[] {
    return [...this.#encoder.layers, ...this.#decoder.layers];
  }

  get parameters(): readonly Float32Array[] {
    return tensors(this.layers) as Float32Array[];
  }

  get gradients(): readonly Gradient[] {
    return this.#buffers.map((layers, term) =>
      tensors(layers).map((values, k) => (term === 1 && k >= 4 ? null : (values as Float32Array))),
    );
  }

  draw(): void {
    const { train } = this.#data;
    this.#fill(() => Math.floor(this.#random() * train.count), train, this.#random);
  }

  backward(): number[] {
    const code = this.#encoder.forward(this.#noisy);
    const result = this.#decoder.forward(code);
    const [noisy, dResult, dCode, rows] = [this.#noisy, this.#dResult, this.#dCode, this.#rows];
    const [reconstruction, sparse, smooth] = this.#units.map((unit) => unit / rows) as [
      number,
      number,
      number,
    ];
    for (const layers of this.#buffers) clear(layers);
    const losses = [0, 0, 0] as [number, number, number];

    for (let k = 0; k < result.length; ++k) {
      const difference = result[k]! - noisy[k]!;
      losses[0] += reconstruction * difference ** 2;
      dResult[k] = 2 * reconstruction * difference;
    }
    this.#backward(0);

    for (let k = 0; k < code.length; ++k) {
      losses[1] += sparse * Math.abs(code[k]!);
      dCode[k] = sparse * Math.sign(code[k]!);
    }
    this.#encoder.backward(dCode, this.#buffers[1]!.slice(0, 2));

    dResult.fill(0);
    const pair = (k: number, neighbour: number) => {
      const difference = result[neighbour]! - result[k]!;
      losses[2] += smooth * difference ** 2;
      dResult[neighbour]! += 2 * smooth * difference;
      dResult[k]! -= 2 * smooth * difference;
    };
    for (let k = 0; k < result.length; ++k) {
      if (k % SIDE < SIDE - 1) pair(k, k + 1);
      if (k % SMALL < SMALL - SIDE) pair(k, k + SIDE);
    }
    this.#backward(2);
    return losses;
  }

  /** In true units: 1 for the reconstruction, 10 to the power of the exponent for the two penalties. */
  weights(exponent: number): readonly number[] {
    return this.#units.map((unit, term) => (term === 0 ? 1 : 10 ** exponent) / unit);
  }

  /** The squared error against the clean picture, relative to the picture's square. */
  outcome(): Outcome {
    const random = randomFor(1, this.#seed, "autoencoder test");
    let [error, square] = [0, 0];
    for (let test = 0; test < TESTS; ++test) {
      this.#fill((row) => test * this.#rows + row, this.#data.test, random);
      const result = this.#decoder.forward(this.#encoder.forward(this.#noisy));
      for (let k = 0; k < result.length; ++k) {
        error += (result[k]! - this.#clean[k]!) ** 2;
        square += this.#clean[k]! ** 2;
      }
    }
    return { value: error / square };
  }

  #fill(index: (row: number) => number, set: SmallMnist["train"], random: Random): void {
    for (let row = 0; row < this.#rows; ++row) set.picture(index(row), this.#clean, row * SMALL);
    for (let k = 0; k < this.#noisy.length; ++k) this.#noisy[k] = this.#clean[k]! + normal(random);
  }

  /** Backpropagates the gradient of the result through all layers. */
  #backward(term: number): void {
    const layers = this.#buffers[term]!;
    this.#decoder.backward(this.#dResult, layers.slice(2), this.#dCode);
    this.#encoder.backward(this.#dCode, layers.slice(0, 2));
  }
}

export const autoencoder: Experiment = {
  ...USUAL,
  key: "autoencoder",
  measure: "squared error relative to the clean picture",
  arms: ARMS_IN_RANDOM_UNITS,
  terms: ["reconstruction", "sparse code", "smooth result"],
  grid: {
    exponents: [-3, -2, -1, 0],
    describe: (exponent) => `1 for the reconstruction, ${10 ** exponent} for the penalties, in true units`,
  },
  rates: ratesAround(1e-3),
  seeds: 5,
  steps: 2000,
  run: training(async (seed) => new AutoencoderProblem(await smallMnist(), seed)),
};
