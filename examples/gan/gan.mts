import type { MTAdamOptions } from "mtadam";
import { normals, randomFor } from "../common/random.mjs";
import { featureDistance, surpriseThatFake, surpriseThatReal } from "./losses.mjs";
import { Network } from "./network.mjs";
import { Player, type Device } from "./player.mjs";
import { PLANE, ringPoints } from "./ring.mjs";

export const NOISE = 2;
const HIDDEN = 32;
export const BATCH = 64;
/** The hidden layer whose outputs are the features for feature matching. */
export const FEATURES = 2;

export const GENERATOR = new Network([NOISE, HIDDEN, HIDDEN, PLANE]);
export const DISCRIMINATOR = new Network([PLANE, HIDDEN, HIDDEN, 1]);

/** One way of training that is compared with the others. */
export interface Arm {
  /** A folder's name. */
  key: string;
  name: string;
  /** Whether MTAdam balances the terms. If not, it gets their weighted sum as one term and is Adam. */
  balanced: boolean;
  /** Options of both optimizers. */
  options: Partial<MTAdamOptions>;
  /** The weight of `matching` and of `penalty`; the other terms have 1. */
  weight: number;
  /** Factors of losses, which stand for arbitrary units. */
  units?: Readonly<Record<string, number>>;
}

/** Little momentum, as usual for GANs: each step of the other side changes the loss. */
export const BETAS = [0.5, 0.99, 0.99] as const;

// The paper's setting does better at a higher learning rate. The weights hold for any unit of the losses, because
// balancing makes the norms equal.
const PAPER = { balanced: true, options: { lr: 8e-3, betas: BETAS }, weight: 0.1 } as const;
const ADAM = { balanced: false, options: { lr: 4e-3, betas: BETAS }, weight: 1 } as const;
const SCALED = { matching: 64 } as const;

export const ARMS: readonly Arm[] = [
  {
    key: "recommended",
    name: "MTAdam, recommended",
    balanced: true,
    options: { lr: 4e-3, preset: "recommended", betas: [BETAS[0], BETAS[1], 0.999] },
    weight: 0.1,
  },
  { key: "mtadam", name: "MTAdam", ...PAPER },
  { key: "mtadam-scaled", name: "MTAdam, matching × 64", ...PAPER, units: SCALED },
  { key: "adam", name: "Adam on the sum", ...ADAM },
  { key: "adam-scaled", name: "Adam, matching × 64", ...ADAM, units: SCALED },
];

export interface GanOptions {
  device: Device;
  arm: Arm;
  seed: number;
}

/**
 * Two optimizers on one device, each with its own network, terms and state. They share a loss: the discriminator lowers
 * the surprise at generated points, the generator raises it.
 */
export class Gan {
  readonly generator: Player;
  readonly discriminator: Player;
  readonly #seed: number;

  constructor({ device, arm, seed }: GanOptions) {
    this.#seed = seed;
    const { balanced, options, units, weight } = arm;
    const player = (name: string, network: Network, weights: Record<string, number>) =>
      new Player(name, network, {
        device,
        balanced,
        initial: network.initialValues(randomFor(seed, 0, name)),
        weights,
        units: units ?? {},
        options,
      });
    this.generator = player("generator", GENERATOR, { adversarial: 1, matching: weight });
    this.discriminator = player("discriminator", DISCRIMINATOR, { real: 1, made: 1, penalty: weight });
  }

  /** Steps taken so far. */
  get steps(): number {
    return this.generator.optimizer.iterations;
  }

  /** A step of the discriminator, then a step of the generator against the new discriminator. */
  async step(): Promise<void> {
    // A step's draws depend only on its number, so that a resumed training gets the same draws.
    const random = randomFor(this.#seed, this.steps, "batch");
    const points = ringPoints(BATCH, random);
    await this.#stepDiscriminator(points, normals(BATCH * NOISE, random));
    await this.#stepGenerator(points, normals(BATCH * NOISE, random));
  }

  async #stepDiscriminator(points: Float32Array, noise: Float32Array): Promise<void> {
    const values = await this.discriminator.values();
    const real = DISCRIMINATOR.forward(values, points);
    const made = DISCRIMINATOR.forward(
      values,
      GENERATOR.forward(await this.generator.values(), noise).at(-1)!,
    );
    await this.discriminator.step({
      real: () => DISCRIMINATOR.backward(values, real, surpriseThatReal(real.at(-1)!).slopes).gradients,
      made: () => DISCRIMINATOR.backward(values, made, surpriseThatFake(made.at(-1)!).slopes).gradients,
      // No gradient for biases: null, which is not zero.
      penalty: () => DISCRIMINATOR.slopePenalty(values, real).gradients,
    });
  }

  async #stepGenerator(points: Float32Array, noise: Float32Array): Promise<void> {
    const [critic, values] = await Promise.all([this.discriminator.values(), this.generator.values()]);
    const generated = GENERATOR.forward(values, noise);
    const made = DISCRIMINATOR.forward(critic, generated.at(-1)!);
    const real = DISCRIMINATOR.forward(critic, points);
    // Backpropagates through the discriminator, without using its own gradients, and through the generator.
    const through = (slopes: Float32Array, layer?: number) =>
      GENERATOR.backward(values, generated, DISCRIMINATOR.backward(critic, made, slopes, layer).inputs)
        .gradients;
    await this.generator.step({
      adversarial: () => through(surpriseThatReal(made.at(-1)!).slopes),
      matching: () => through(featureDistance(real[FEATURES]!, made[FEATURES]!, HIDDEN).slopes, FEATURES),
    });
  }

  /** [count × 2] points from the generator in its current state. */
  async sample(count: number): Promise<Float32Array> {
    const noise = normals(count * NOISE, randomFor(this.#seed, 0, "sample"));
    return GENERATOR.forward(await this.generator.values(), noise).at(-1)!;
  }

  async save(folder: string): Promise<void> {
    for (const player of [this.generator, this.discriminator]) await player.save(folder);
  }

  async load(folder: string): Promise<void> {
    for (const player of [this.generator, this.discriminator]) await player.load(folder);
  }

  dispose(): void {
    this.generator.dispose();
    this.discriminator.dispose();
  }
}
