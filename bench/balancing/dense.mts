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

/** `out` [rows × outputs] ← `x` [rows × inputs] · weight, plus the bias unless `x` is a derivative. */
export function forward({ weight, bias }: Dense, x: Numbers, out: Numbers, isDerivative = false): void {
  const outputs = bias.length;
  const inputs = weight.length / outputs;
  if (isDerivative) out.fill(0);
  else for (let to = 0; to < out.length; to += outputs) out.set(bias, to);
  addProduct(out, x, weight, { inputs, outputs, byInput: outputs, byOutput: 1 });
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
  addOuterProducts(gradient.weight, x, dOut, inputs, outputs);
  if (!dx) return;
  dx.fill(0);
  addProduct(dx, dOut, weight, { inputs: outputs, outputs: inputs, byInput: 1, byOutput: outputs });
}

// The loops below keep four sums at a time in registers. Each sum has the same additions in the same order as in plain loops,
// and so the same bits, in a third of the time.

/** What `weight` is taken as: the strides of a matrix [inputs × outputs]. */
interface Shape {
  inputs: number;
  outputs: number;
  byInput: number;
  byOutput: number;
}

/** `out` [rows × outputs] += `x` [rows × inputs] · weight. */
function addProduct(
  out: Numbers,
  x: Numbers,
  weight: Numbers,
  { inputs, outputs, byInput, byOutput }: Shape,
): void {
  for (let to = 0, from = 0; to < out.length; to += outputs, from += inputs) {
    let o = 0;
    for (; o + 3 < outputs; o += 4) {
      let a = out[to + o]!;
      let b = out[to + o + 1]!;
      let c = out[to + o + 2]!;
      let d = out[to + o + 3]!;
      for (let i = 0, k = o * byOutput; i < inputs; ++i, k += byInput) {
        const value = x[from + i]!;
        a += value * weight[k]!;
        b += value * weight[k + byOutput]!;
        c += value * weight[k + 2 * byOutput]!;
        d += value * weight[k + 3 * byOutput]!;
      }
      out[to + o] = a;
      out[to + o + 1] = b;
      out[to + o + 2] = c;
      out[to + o + 3] = d;
    }
    for (; o < outputs; ++o) {
      let sum = out[to + o]!;
      for (let i = 0, k = o * byOutput; i < inputs; ++i, k += byInput) sum += x[from + i]! * weight[k]!;
      out[to + o] = sum;
    }
  }
}

const { fround } = Math;

/** `weight` [inputs × outputs] += `x` [rows × inputs]ᵀ · `d` [rows × outputs], rounded after each row as the array is. */
function addOuterProducts(weight: Numbers, x: Numbers, d: Numbers, inputs: number, outputs: number): void {
  const inFours = outputs - (outputs % 4);
  for (let i = 0; i < inputs; ++i) {
    for (let o = 0; o < inFours; o += 4) {
      const first = i * outputs + o;
      let w0 = weight[first]!;
      let w1 = weight[first + 1]!;
      let w2 = weight[first + 2]!;
      let w3 = weight[first + 3]!;
      for (let from = i, k = o; from < x.length; from += inputs, k += outputs) {
        const value = x[from]!;
        w0 = fround(w0 + value * d[k]!);
        w1 = fround(w1 + value * d[k + 1]!);
        w2 = fround(w2 + value * d[k + 2]!);
        w3 = fround(w3 + value * d[k + 3]!);
      }
      weight[first] = w0;
      weight[first + 1] = w1;
      weight[first + 2] = w2;
      weight[first + 3] = w3;
    }
  }
  for (let o = inFours; o < outputs; ++o) {
    for (let from = 0, k = o; from < x.length; from += inputs, k += outputs) {
      for (let i = 0; i < inputs; ++i) weight[i * outputs + o]! += x[from + i]! * d[k]!;
    }
  }
}
