import type { Random } from "../../examples/common/random.mjs";

/** Parameters are float32, for the optimizer; values computed from them are float64, like JavaScript's numbers. */
export type Numbers = Float32Array | Float64Array;

/** A fully connected layer, or its gradient. Matrices are row-major, a row per sample or per input. */
export interface Dense {
  /** [inputs × outputs] */
  weight: Numbers;
  /** [outputs] */
  bias: Numbers;
}

/** A layer whose values are uniform within ±1/√inputs. */
export function dense(inputs: number, outputs: number, random: Random): Dense {
  const draw = () => (2 * random() - 1) / Math.sqrt(inputs);
  return {
    weight: Float32Array.from({ length: inputs * outputs }, draw),
    bias: Float32Array.from({ length: outputs }, draw),
  };
}

/** Zeros in the shape of a layer. */
export function zeros({ weight, bias }: Dense): { weight: Float32Array; bias: Float32Array } {
  return { weight: new Float32Array(weight.length), bias: new Float32Array(bias.length) };
}

// The loops below keep four sums at a time in registers. Each sum has the same additions in the same order as in the plain
// loops, and so the same bits, in a third of the time.

/** `out` [rows × outputs] ← `x` [rows × inputs] · weight, plus the bias unless `x` is a derivative. */
export function forward({ weight, bias }: Dense, x: Numbers, out: Numbers, isDerivative = false): void {
  const outputs = bias.length;
  const inputs = weight.length / outputs;
  for (let to = 0, from = 0; to < out.length; to += outputs, from += inputs) {
    for (let o = 0; o < outputs; ++o) out[to + o] = isDerivative ? 0 : bias[o]!;
    let o = 0;
    for (; o + 3 < outputs; o += 4) {
      let a = out[to + o]!;
      let b = out[to + o + 1]!;
      let c = out[to + o + 2]!;
      let d = out[to + o + 3]!;
      for (let i = 0, k = o; i < inputs; ++i, k += outputs) {
        const value = x[from + i]!;
        a += value * weight[k]!;
        b += value * weight[k + 1]!;
        c += value * weight[k + 2]!;
        d += value * weight[k + 3]!;
      }
      out[to + o] = a;
      out[to + o + 1] = b;
      out[to + o + 2] = c;
      out[to + o + 3] = d;
    }
    for (; o < outputs; ++o) {
      let a = out[to + o]!;
      for (let i = 0, k = o; i < inputs; ++i, k += outputs) a += x[from + i]! * weight[k]!;
      out[to + o] = a;
    }
  }
}

/**
 * Backpropagates `dOut` [rows × outputs], the gradient of `forward`'s result: adds the layer's gradient to `gradient`
 * and writes the gradient of `x` to `dx`.
 */
export function backward(
  { weight, bias }: Dense,
  x: Numbers,
  dOut: Numbers,
  {
    gradient,
    dx,
    isDerivative = false,
  }: { gradient: Dense; dx?: Numbers | undefined; isDerivative?: boolean },
): void {
  const outputs = bias.length;
  const inputs = weight.length / outputs;
  if (!isDerivative) {
    for (let k = 0; k < dOut.length; k += outputs) {
      for (let o = 0; o < outputs; ++o) gradient.bias[o]! += dOut[k + o]!;
    }
  }
  const inFours = outputs - (outputs % 4);
  for (let i = 0; i < inputs; ++i) addInFours(gradient.weight, i, inputs, outputs, x, dOut);
  for (let o = inFours; o < outputs; ++o) {
    for (let from = 0, k = o; from < x.length; from += inputs, k += outputs) {
      for (let i = 0; i < inputs; ++i) gradient.weight[i * outputs + o]! += x[from + i]! * dOut[k]!;
    }
  }
  if (!dx) return;
  for (let from = 0, to = 0; from < dOut.length; from += outputs, to += inputs) {
    let i = 0;
    for (; i + 3 < inputs; i += 4) {
      let a = 0;
      let b = 0;
      let c = 0;
      let d = 0;
      for (let o = 0, k = i * outputs; o < outputs; ++o, ++k) {
        const value = dOut[from + o]!;
        a += weight[k]! * value;
        b += weight[k + outputs]! * value;
        c += weight[k + 2 * outputs]! * value;
        d += weight[k + 3 * outputs]! * value;
      }
      dx[to + i] = a;
      dx[to + i + 1] = b;
      dx[to + i + 2] = c;
      dx[to + i + 3] = d;
    }
    for (; i < inputs; ++i) {
      let a = 0;
      for (let o = 0, k = i * outputs; o < outputs; ++o, ++k) a += weight[k]! * dOut[from + o]!;
      dx[to + i] = a;
    }
  }
}

const { fround } = Math;

/** Adds the gradient of input i's weights, rounded after each row as the array is. */
function addInFours(
  weight: Numbers,
  i: number,
  inputs: number,
  outputs: number,
  x: Numbers,
  dOut: Numbers,
): void {
  const first = i * outputs;
  let o = 0;
  for (; o + 3 < outputs; o += 4) {
    let a = weight[first + o]!;
    let b = weight[first + o + 1]!;
    let c = weight[first + o + 2]!;
    let d = weight[first + o + 3]!;
    for (let from = i, k = o; from < x.length; from += inputs, k += outputs) {
      const value = x[from]!;
      a = fround(a + value * dOut[k]!);
      b = fround(b + value * dOut[k + 1]!);
      c = fround(c + value * dOut[k + 2]!);
      d = fround(d + value * dOut[k + 3]!);
    }
    weight[first + o] = a;
    weight[first + o + 1] = b;
    weight[first + o + 2] = c;
    weight[first + o + 3] = d;
  }
}
