import type { Numbers } from "./dense.mjs";

/** Mean of (prediction − target)², times `unit`; its gradient with respect to the prediction is written to `d`. */
export function squaredError(prediction: Numbers, targets: Numbers, d?: Numbers, unit = 1): number {
  const { length } = prediction;
  let sum = 0;
  for (let k = 0; k < length; ++k) {
    const difference = prediction[k]! - targets[k]!;
    sum += difference ** 2;
    if (d) d[k] = (2 * unit * difference) / length;
  }
  return (unit * sum) / length;
}

/**
 * Mean over the rows of −log softmax of the label, times `unit`; its gradient with respect to the logits [rows ×
 * classes] is written to `d`.
 */
export function crossEntropy(logits: Numbers, labels: ArrayLike<number>, d?: Numbers, unit = 1): number {
  const rows = labels.length;
  const classes = logits.length / rows;
  let sum = 0;
  for (let row = 0; row < rows; ++row) {
    const from = row * classes;
    let most = -Infinity;
    for (let c = 0; c < classes; ++c) most = Math.max(most, logits[from + c]!);
    let total = 0;
    for (let c = 0; c < classes; ++c) total += Math.exp(logits[from + c]! - most);
    sum += Math.log(total) + most - logits[from + labels[row]!]!;
    for (let c = 0; d && c < classes; ++c) {
      const probability = Math.exp(logits[from + c]! - most) / total;
      d[from + c] = (unit * (probability - (c === labels[row] ? 1 : 0))) / rows;
    }
  }
  return (unit * sum) / rows;
}

/** How many rows have their largest logit at another class than their label. */
export function wrong(logits: Numbers, labels: ArrayLike<number>): number {
  const classes = logits.length / labels.length;
  let count = 0;
  for (let row = 0; row < labels.length; ++row) {
    const ofRow = logits.subarray(row * classes, (row + 1) * classes);
    if (ofRow.indexOf(Math.max(...ofRow)) !== labels[row]) ++count;
  }
  return count;
}
