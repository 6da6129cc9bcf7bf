import { BalanceMonitor, MTAdam } from "mtadam";
import type { Batch } from "./data.mjs";
import type { Model, Values } from "./model.mjs";
import { openStorage, type Device, type Storage } from "./storage.mjs";

/** One way of training that is compared with the others. */
export interface Arm {
  key: "default" | "recommended" | "wrong" | "equal";
  name: string;
  /** A name for the progress line. */
  short: string;
  explanation: string;
  /** Whether MTAdam balances the ten terms. If not, it gets their sum as one term and is plain Adam. */
  balanced: boolean;
  /** Whether the terms are scaled by the weights drawn, or all by 1. */
  wrongWeights: boolean;
  /** Left out: the library's default, "paper". With one term it has no effect. */
  preset?: "recommended";
}

export const ARMS: readonly Arm[] = [
  {
    key: "default",
    name: "MTAdam, wrong weights",
    short: "MTAdam",
    explanation: "Ten terms with wrong weights, balanced by MTAdam with its default options, the paper's.",
    balanced: true,
    wrongWeights: true,
  },
  {
    key: "recommended",
    name: "MTAdam, wrong weights, recommended",
    short: "recomm.",
    explanation:
      'The same with preset: "recommended": the network is balanced as one unit, by norms averaged over more steps.',
    balanced: true,
    wrongWeights: true,
    preset: "recommended",
  },
  {
    key: "wrong",
    name: "Adam, wrong weights",
    short: "Adam",
    explanation: "The sum of the same ten terms: what wrong weights do when nothing balances them.",
    balanced: false,
    wrongWeights: true,
  },
  {
    key: "equal",
    name: "Adam, equal weights",
    short: "equal",
    explanation: "The sum with all weights 1, the usual cross-entropy: what right weights would have given.",
    balanced: false,
    wrongWeights: false,
  },
];

/** A network in training by one of the arms. */
export class Trainee {
  readonly arm: Arm;
  /** Cross-entropy per image, unweighted and thus comparable between arms; averaged over about 20 steps. */
  crossEntropy = NaN;
  /** Seconds spent so far. */
  gradientSeconds = 0;
  optimizerSeconds = 0;
  readonly #model: Model;
  readonly #weights: readonly number[];
  readonly #storage: Storage;
  readonly #optimizer: MTAdam;

  constructor(arm: Arm, model: Model, device: Device, initial: Values, weights: readonly number[]) {
    this.arm = arm;
    this.#model = model;
    this.#weights = arm.wrongWeights ? weights : weights.map(() => 1);
    this.#storage = openStorage(device, initial);
    this.#optimizer = new MTAdam(this.#storage.parameters, {
      terms: arm.balanced ? weights.map((weight, digit) => `${digit} (×${weight.toFixed(0)})`) : 1,
      lr: 1e-3,
      ...(arm.preset && { preset: arm.preset }),
      device,
    });
  }

  async step(batch: Batch): Promise<void> {
    const start = performance.now();
    const parameters = await this.#storage.values();
    const { losses, gradients } = this.arm.balanced
      ? await this.#model.gradientOfEach(parameters, batch, this.#weights)
      : await this.#model.gradientOfSum(parameters, batch, this.#weights);
    const between = performance.now();
    this.#optimizer.step(gradients.map((ofTerm, term) => this.#storage.place(term, ofTerm)));
    this.optimizerSeconds += (performance.now() - between) / 1000;
    this.gradientSeconds += (between - start) / 1000;

    const now = losses.reduce((sum, loss, term) => sum + loss / this.#weights[term]!, 0);
    this.crossEntropy = Number.isNaN(this.crossEntropy) ? now : 0.95 * this.crossEntropy + 0.05 * now;
  }

  /** The current parameters, on the host. */
  values(): Promise<Values> {
    return this.#storage.values();
  }

  /** Records the balance in a file, every `every` steps. */
  monitor(file: string, every: number): BalanceMonitor {
    return new BalanceMonitor(this.#optimizer, { file, every });
  }

  dispose() {
    this.#optimizer.dispose();
    this.#storage.dispose();
  }
}
