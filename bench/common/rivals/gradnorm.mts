import { addUp } from "../gradient.mjs";
import { mean } from "../statistics.mjs";
import { norms } from "./products.mjs";
import type { Combiner, Start } from "./rival.mjs";
import { ScalarAdam } from "./scalar-adam.mjs";

/** The learning rate of the weights, as in the paper. */
const LR = 0.025;
/** Weights stay above 0. */
const LEAST = 1e-8;

/**
 * GradNorm (Chen, Badrinarayanan, Lee and Rabinovich, ICML 2018): weights w are trained to bring the norms Gᵢ =
 * wᵢ·‖∇Lᵢ‖ to their mean times rᵢ^α, where rᵢ is Lᵢ/Lᵢ(0) divided by the mean of these ratios. The loss of w is Σ|Gᵢ −
 * Ḡ·rᵢ^α| with a constant target. The sum of the weights stays the number of terms.
 */
export function gradNorm(alpha: number): (start: Start) => Combiner {
  return ({ terms, shared }) => {
    const weights = new Float64Array(terms).fill(1);
    const adam = new ScalarAdam(terms);
    let first: readonly number[] | undefined;
    return {
      combine: ({ gradients, losses }, sum) => {
        addUp(sum, gradients, [...weights]);
        first ??= losses;
        const raw = norms(gradients, shared);
        const scaled = raw.map((norm, term) => weights[term]! * norm);
        const left = losses.map((loss, term) => loss / first![term]!);
        const targets = left.map((value) => mean(scaled) * (value / mean(left)) ** alpha);
        const slopes = raw.map((norm, term) => Math.sign(scaled[term]! - targets[term]!) * norm);
        adam.step(weights, slopes, LR);
        for (let term = 0; term < terms; ++term) weights[term] = Math.max(weights[term]!, LEAST);
        const total = weights.reduce((a, b) => a + b, 0);
        for (let term = 0; term < terms; ++term) weights[term]! *= terms / total;
      },
    };
  };
}
