import { MTAdam, openDevice } from "mtadam";
import type { Arm } from "./experiment.mjs";

/** An array per parameter; null where the term does not reach it. */
export type Gradient = readonly (Float32Array | null)[];

const device = openDevice("cpu");

/** Steps of an arm over gradient buffers that stay: a term's gradients are written there, then `step()`. */
export class Trainer {
  readonly #optimizer: MTAdam;
  /** For Adam: adds up the terms, each times its weight. */
  readonly #addUp: (() => void) | undefined;
  readonly #gradients: ReturnType<MTAdam["prepare"]>;

  /**
   * @param gradients by term, then by parameter
   * @param weights of the terms in the sum that Adam gets; MTAdam's are 1
   */
  constructor(
    arm: Arm,
    parameters: readonly Float32Array[],
    gradients: readonly Gradient[],
    { lr, weights }: { lr: number; weights: readonly number[] },
  ) {
    const terms = arm.options ? gradients.length : 1;
    this.#optimizer = new MTAdam([...parameters], { ...arm.options, lr, terms, device });
    if (arm.options) {
      this.#gradients = this.#optimizer.prepare(gradients);
    } else {
      const sums = parameters.map(({ length }) => new Float32Array(length));
      this.#addUp = () => addUp(sums, gradients, weights);
      this.#gradients = this.#optimizer.prepare([sums]);
    }
  }

  step(): void {
    this.#addUp?.();
    this.#optimizer.step(this.#gradients);
  }

  dispose(): void {
    this.#optimizer.dispose();
  }
}

function addUp(sums: readonly Float32Array[], gradients: readonly Gradient[], weights: readonly number[]) {
  for (const [parameter, sum] of sums.entries()) {
    sum.fill(0);
    for (const [term, ofTerm] of gradients.entries()) {
      const gradient = ofTerm[parameter];
      if (!gradient) continue;
      const weight = weights[term]!;
      for (let k = 0; k < sum.length; ++k) sum[k]! += weight * gradient[k]!;
    }
  }
}
