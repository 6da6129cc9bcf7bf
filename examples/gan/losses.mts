// The loss terms, each with its slopes: the derivatives with respect to the discriminator's outputs. Losses are means
// over the rows of a batch.

/** A loss with its slopes [rows × size]. */
export interface Loss {
  loss: number;
  slopes: Float32Array;
}

/** How surprising it is that points with these logits [rows] are real: mean of −log σ(y). */
export function surpriseThatReal(logits: Float32Array): Loss {
  const rows = logits.length;
  return {
    loss: logits.reduce((sum, y) => sum + softplus(-y), 0) / rows,
    slopes: logits.map((y) => -sigmoid(-y) / rows),
  };
}

/** How surprising it is that points with these logits are not real: mean of −log(1 − σ(y)). */
export function surpriseThatFake(logits: Float32Array): Loss {
  const { loss, slopes } = surpriseThatReal(logits.map((y) => -y));
  return { loss, slopes: slopes.map((slope) => -slope) };
}

/**
 * Feature matching (Salimans et al., 2016): the squared distance between the mean features [rows × size] of real and of
 * generated points. The slopes are with respect to the generated features.
 */
export function featureDistance(real: Float32Array, made: Float32Array, size: number): Loss {
  const rows = made.length / size;
  const gaps = new Float32Array(size);
  made.forEach((value, k) => (gaps[k % size]! += (value - real[k]!) / rows));
  return {
    loss: gaps.reduce((sum, gap) => sum + gap * gap, 0),
    slopes: made.map((_, k) => (2 * gaps[k % size]!) / rows),
  };
}

function softplus(y: number): number {
  return Math.max(y, 0) + Math.log1p(Math.exp(-Math.abs(y)));
}

function sigmoid(y: number): number {
  return 1 / (1 + Math.exp(-y));
}
