import { addUp } from "../gradient.mjs";
import type { Combiner, Start } from "./rival.mjs";
import { ScalarAdam } from "./scalar-adam.mjs";

/** As in the authors' code: learning rate and decay of the logits, and the lower bound of a loss. */
const LR = 0.025;
const DECAY = 0.01;
const LEAST = 1e-8;

/**
 * FAMO (Liu, Feng, Stone and Liu, NeurIPS 2023): with z = softmax ξ, a step goes along Σ c·zᵢ/ℓᵢ·∇ℓᵢ, c = 1/Σ(zᵢ/ℓᵢ);
 * then ξ moves against the decrease of the losses' logarithms on the same batch, so that terms that fell less get more
 * weight.
 */
export function famo({ terms }: Start): Combiner {
  const logits = new Float64Array(terms);
  const adam = new ScalarAdam(terms);
  let before: readonly number[] = [];
  const softmax = () => {
    const most = Math.max(...logits);
    const powers = [...logits].map((logit) => Math.exp(logit - most));
    const total = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / total);
  };
  return {
    combine: ({ gradients, losses }, sum) => {
      before = losses.map((loss) => Math.max(loss, LEAST));
      const ratios = softmax().map((share, term) => share / before[term]!);
      const total = ratios.reduce((a, b) => a + b, 0);
      addUp(
        sum,
        gradients,
        ratios.map((ratio) => ratio / total),
      );
    },
    look: (losses) => {
      const shares = softmax();
      const falls = losses.map((loss, term) => Math.log(before[term]!) - Math.log(Math.max(loss, LEAST)));
      const mean = falls.reduce((total, fall, term) => total + shares[term]! * fall, 0);
      adam.step(
        logits,
        falls.map((fall, term) => shares[term]! * (fall - mean) + DECAY * logits[term]!),
        LR,
      );
    },
  };
}
