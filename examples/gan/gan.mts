import { normals, randomFor } from "../common/random.mjs";
import { featureDistance, surpriseThatFake, surpriseThatReal } from "./losses.mjs";
import { Network } from "./network.mjs";
import { Player, type Device } from "./player.mjs";
import { PLANE, ringPoints } from "./ring.mjs";

export const NOISE = 2;
const HIDDEN = 32;
export const BATCH = 64;
/** The hidden layer whose outputs are the features that the generator's points have to match. */
export const FEATURES = 2;

export const GENERATOR = new Network([NOISE, HIDDEN, HIDDEN, PLANE]);
export const DISCRIMINATOR = new Network([PLANE, HIDDEN, HIDDEN, 1]);

/** One way of training that is compared with the others. */
export interface Arm {
  /** A folder's name. */
  key: string;
  name: string;
  /** Terms that MTAdam balances, or one: their sum, which makes it Adam. */
  balanced: boolean;
  preset?: "paper" | "recommended";
  lr: number;
  /** What the feature distance is multiplied by: the unit that it happens to be measured in. */
  matchingScale: number;
}

export const ARMS: readonly Arm[] = [
  {
    key: "recommended",
    name: "MTAdam, recommended",
    balanced: true,
    preset: "recommended",
    lr: 4e-3,
    matchingScale: 1,
  },
  // The paper's setting does better at a higher rate.
  { key: "mtadam", name: "MTAdam", balanced: true, lr: 8e-3, matchingScale: 1 },
  { key: "mtadam-scaled", name: "MTAdam, matching × 64", balanced: true, lr: 8e-3, matchingScale: 64 },
  { key: "adam", name: "Adam on the sum", balanced: false, lr: 4e-3, matchingScale: 1 },
  { key: "adam-scaled", name: "Adam, matching × 64", balanced: false, lr: 4e-3, matchingScale: 64 },
];

export interface GanOptions {
  device: Device;
  arm: Arm;
  seed: number;
}

/**
 * Two optimizers on one device, each over its own network, with terms and a state of its own. What they share is the losses:
 * the surprise at made points is the discriminator's to lower and the generator's to raise.
 */
export class Gan {
  readonly generator: Player;
  readonly discriminator: Player;
  readonly #seed: number;
  readonly #matchingScale: number;

  constructor({ device, arm, seed }: GanOptions) {
    this.#seed = seed;
    this.#matchingScale = arm.matchingScale;
    // Little momentum, as is usual where the loss changes with every step of the other side.
    const { lr, preset = "paper" } = arm;
    const training = { lr, preset, betas: [0.5, 0.99, preset === "paper" ? 0.99 : 0.999] } as const;
    const player = (name: string, network: Network, weights: Record<string, number>) =>
      new Player(name, network, {
        device,
        balanced: arm.balanced,
        initial: network.initialValues(randomFor(seed, 0, name)),
        weights,
        training,
      });
    // Weighed once, against terms that are brought to the same norm.
    this.generator = player("generator", GENERATOR, { adversarial: 1, matching: 0.1 });
    this.discriminator = player("discriminator", DISCRIMINATOR, { real: 1, made: 1, penalty: 0.1 });
  }

  /** Steps taken so far. */
  get steps(): number {
    return this.generator.optimizer.iterations;
  }

  /** A step of the discriminator, then one of the generator against what it has become. */
  async step(): Promise<void> {
    // A step's draws depend on its number alone: a training that was interrupted goes on with those it would have had.
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
    // Through the discriminator, whose own gradients are left aside, and on through the generator.
    const through = (slopes: Float32Array, layer?: number) =>
      GENERATOR.backward(values, generated, DISCRIMINATOR.backward(critic, made, slopes, layer).inputs)
        .gradients;
    await this.generator.step({
      adversarial: () => through(surpriseThatReal(made.at(-1)!).slopes),
      matching: () => {
        const { slopes } = featureDistance(real[FEATURES]!, made[FEATURES]!, HIDDEN);
        return through(
          slopes.map((slope) => this.#matchingScale * slope),
          FEATURES,
        );
      },
    });
  }

  /** [count × 2] points that the generator makes now. */
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
