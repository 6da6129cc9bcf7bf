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
  const rows = out.length / outputs;
  for (let row = 0; row < rows; ++row) {
    const to = row * outputs;
    for (let o = 0; o < outputs; ++o) out[to + o] = isDerivative ? 0 : bias[o]!;
    for (let i = 0; i < inputs; ++i) {
      const value = x[row * inputs + i]!;
      if (value === 0) continue; // half of the outputs of a ReLU
      const from = i * outputs;
      for (let o = 0; o < outputs; ++o) out[to + o]! += value * weight[from + o]!;
    }
  }
}

/**
 * Backpropagates `dOut` [rows × outputs], the gradient of `forward`'s result: adds the layer's gradient to `gradient`
 * and writes the gradient of `x` to `dx`.
 */
export function backward(
  layer: Dense,
  x: Numbers,
  dOut: Numbers,
  {
    gradient,
    dx,
    isDerivative = false,
  }: { gradient: Dense; dx?: Numbers | undefined; isDerivative?: boolean },
): void {
  const outputs = layer.bias.length;
  const inputs = layer.weight.length / outputs;
  const rows = dOut.length / outputs;
  const { weight, bias } = gradient;
  for (let row = 0; row < rows; ++row) {
    const to = row * outputs;
    if (!isDerivative) for (let o = 0; o < outputs; ++o) bias[o]! += dOut[to + o]!;
    for (let i = 0; i < inputs; ++i) {
      const value = x[row * inputs + i]!;
      const from = i * outputs;
      if (value !== 0) for (let o = 0; o < outputs; ++o) weight[from + o]! += value * dOut[to + o]!;
      if (!dx) continue;
      let sum = 0;
      for (let o = 0; o < outputs; ++o) sum += layer.weight[from + o]! * dOut[to + o]!;
      dx[row * inputs + i] = sum;
    }
  }
}
