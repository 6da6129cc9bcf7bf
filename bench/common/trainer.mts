import { MTAdam, openDevice, type LearningRate } from "mtadam";
import type { Random } from "../../examples/common/random.mjs";
import type { Arm } from "./experiment.mjs";
import { addUp, sharedParameters, type Gradient } from "./gradient.mjs";
import type { Combiner, Rival } from "./rivals/rival.mjs";

const device = openDevice("cpu");

interface TrainerOptions {
  lr: number | LearningRate;
  /** The terms' weights in the sum for Adam; MTAdam and rivals use 1. */
  weights: readonly number[];
  /** Adam's β₁ and β₂, for arms that do not set them. */
  betas?: readonly [number, number];
  /** For rivals that use random numbers. */
  random?: Random;
  /** Names for diagnostics of MTAdam. */
  names?: { terms: readonly string[]; parameters: readonly string[] };
}

/** Takes the steps of an arm on fixed gradient buffers: write the terms' gradients there, then call `step()`. */
export class Trainer {
  readonly #method: Method;

  /** @param gradients by term, then by parameter */
  constructor(
    arm: Arm,
    parameters: readonly Float32Array[],
    gradients: readonly Gradient[],
    options: TrainerOptions,
  ) {
    this.#method = methodOf(arm, parameters, gradients, options);
  }

  /** The optimizer of an arm of MTAdam. */
  get balanced(): MTAdam | undefined {
    return this.#method.balanced;
  }

  /** @param losses of the terms, which some rivals need */
  step(losses: readonly number[] = []): void {
    this.#method.step(losses);
  }

  /** Gives the losses after the step to a rival that uses them. */
  look(losses: () => readonly number[]): void {
    this.#method.look?.(losses);
  }

  dispose(): void {
    this.#method.dispose();
  }
}

interface Method {
  readonly balanced?: MTAdam;
  step(losses: readonly number[]): void;
  look?(losses: () => readonly number[]): void;
  dispose(): void;
}

function methodOf(
  arm: Arm,
  parameters: readonly Float32Array[],
  gradients: readonly Gradient[],
  { lr, weights, betas = [0.9, 0.999], random, names }: TrainerOptions,
): Method {
  if (arm.options) return new Balanced(arm, parameters, gradients, lr, names);
  if (arm.rival?.kind === "own denominators")
    return new OwnDenominators({ betas, ...arm.rival }, parameters, gradients, lr);
  const start = {
    terms: gradients.length,
    shared: sharedParameters(gradients),
    random: random ?? Math.random,
  };
  const combiner = arm.rival ? arm.rival.start(start) : new FixedWeights(weights);
  return new AdamOnSum(combiner, parameters, gradients, lr, betas);
}

/** MTAdam over the terms. */
class Balanced implements Method {
  readonly balanced: MTAdam;
  readonly #gradients: ReturnType<MTAdam["prepare"]>;

  constructor(
    { options, tagsHeads }: Arm,
    parameters: readonly Float32Array[],
    gradients: readonly Gradient[],
    lr: number | LearningRate,
    names: TrainerOptions["names"],
  ) {
    const tensors = parameters.map((data, k) => ({
      data,
      shape: [data.length],
      ...(names && { name: names.parameters[k]! }),
      ...(tagsHeads && tagOfHead(gradients, k)),
    }));
    this.balanced = new MTAdam(tensors, { ...options, lr, terms: names?.terms ?? gradients.length, device });
    this.#gradients = this.balanced.prepare(gradients);
  }

  step(): void {
    this.balanced.step(this.#gradients);
  }

  dispose(): void {
    this.balanced.dispose();
  }
}

/** A layer tag for a tensor that one term alone reaches. */
function tagOfHead(gradients: readonly Gradient[], tensor: number): { layer?: string } {
  const reached = gradients.flatMap((gradient, term) => (gradient[tensor] ? [term] : []));
  return reached.length === 1 ? { layer: `head of ${reached[0]}` } : {};
}

/** Adam on one gradient that is combined from the terms' gradients. */
class AdamOnSum implements Method {
  readonly #combiner: Combiner;
  readonly #gradients: readonly Gradient[];
  readonly #sum: readonly Float32Array[];
  readonly #optimizer: MTAdam;
  readonly #prepared: ReturnType<MTAdam["prepare"]>;
  readonly #lr: number | LearningRate;

  constructor(
    combiner: Combiner,
    parameters: readonly Float32Array[],
    gradients: readonly Gradient[],
    lr: number | LearningRate,
    betas: readonly [number, number],
  ) {
    this.#combiner = combiner;
    this.#gradients = gradients;
    this.#sum = parameters.map(({ length }) => new Float32Array(length));
    this.#lr = lr;
    this.#optimizer = new MTAdam([...parameters], { lr, terms: 1, betas: [...betas, 0.9], device });
    this.#prepared = this.#optimizer.prepare([this.#sum]);
  }

  step(losses: readonly number[]): void {
    const lr = typeof this.#lr === "number" ? this.#lr : this.#lr(this.#optimizer.iterations);
    this.#combiner.combine({ gradients: this.#gradients, losses, lr }, this.#sum);
    this.#optimizer.step(this.#prepared);
  }

  look(losses: () => readonly number[]): void {
    this.#combiner.look?.(losses());
  }

  dispose(): void {
    this.#optimizer.dispose();
  }
}

/** The sum of the terms' gradients with fixed weights. */
class FixedWeights implements Combiner {
  readonly #weights: readonly number[];

  constructor(weights: readonly number[]) {
    this.#weights = weights;
  }

  combine({ gradients }: { gradients: readonly Gradient[] }, sum: readonly Float32Array[]): void {
    addUp(sum, gradients, this.#weights);
  }
}

/** Adam for each term, all on the same parameters: an Adam step does not depend on the parameters' values. */
class OwnDenominators implements Method {
  readonly #optimizers: readonly MTAdam[];
  readonly #gradients: readonly ReturnType<MTAdam["prepare"]>[];

  constructor(
    { of, betas }: Required<Extract<Rival, { kind: "own denominators" }>>,
    parameters: readonly Float32Array[],
    gradients: readonly Gradient[],
    lr: number | LearningRate,
  ) {
    const parts = of === "mean" ? gradients.length : 1;
    const ownRate = (iterations: number) => (typeof lr === "number" ? lr : lr(iterations)) / parts;
    this.#optimizers = gradients.map(
      () => new MTAdam([...parameters], { terms: 1, lr: ownRate, betas: [...betas, 0.9], device }),
    );
    this.#gradients = this.#optimizers.map((optimizer, term) => optimizer.prepare([gradients[term]!]));
  }

  step(): void {
    for (const [term, optimizer] of this.#optimizers.entries()) optimizer.step(this.#gradients[term]!);
  }

  dispose(): void {
    for (const optimizer of this.#optimizers) optimizer.dispose();
  }
}
