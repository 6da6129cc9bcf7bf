import type { Random } from "../common/random.mjs";

/** An array for each parameter of a network, in their order: the parameters themselves, or a gradient. */
export type Values = readonly Float32Array[];

/** The slope of a leaky ReLU left of 0. */
const LEAK = 0.2;

/** The values that a forward pass keeps for the backward pass: [rows × size] the inputs, then each layer's outputs. */
export type Trace = readonly Float32Array[];

/** A multilayer perceptron with leaky ReLUs, and its derivatives by hand. It keeps no parameters. */
export class Network {
  /** @param sizes of the inputs, the hidden layers and the outputs */
  constructor(readonly sizes: readonly number[]) {}

  /** Weights [outputs × inputs] and biases, layer by layer. */
  get parameters(): { name: string; shape: number[]; fanIn: number }[] {
    return this.sizes.slice(1).flatMap((outputs, k) => {
      const fanIn = this.sizes[k]!;
      return [
        { name: `layer${k + 1}.weight`, shape: [outputs, fanIn], fanIn },
        { name: `layer${k + 1}.bias`, shape: [outputs], fanIn },
      ];
    });
  }

  /** Uniform within ±√(3/fan-in) for weights, which keeps the variance of the activations; biases 0. */
  initialValues(random: Random): Values {
    return this.parameters.map(({ shape: [outputs, inputs = 0], fanIn }) => {
      if (inputs === 0) return new Float32Array(outputs!);
      return Float32Array.from(
        { length: outputs! * inputs },
        () => (2 * random() - 1) * Math.sqrt(3 / fanIn),
      );
    });
  }

  /** @param inputs [rows × size] */
  forward(values: Values, inputs: Float32Array): Trace {
    const trace = [inputs];
    for (let layer = 1; layer < this.sizes.length; ++layer) {
      const outputs = this.#apply(values[2 * layer - 2]!, trace[layer - 1]!, layer, values[2 * layer - 1]);
      // The last layer is linear.
      if (layer < this.sizes.length - 1) outputs.forEach((y, k) => (outputs[k] = y > 0 ? y : LEAK * y));
      trace.push(outputs);
    }
    return trace;
  }

  /**
   * Backpropagates the slopes of a loss with respect to a layer's outputs (usually the last layer's) to the parameters
   * and the inputs. Parameters of later layers get 0.
   *
   * @param slopes [rows × size of the layer]
   */
  backward(
    values: Values,
    trace: Trace,
    slopes: Float32Array,
    from = this.sizes.length - 1,
  ): { gradients: Values; inputs: Float32Array } {
    const gradients = values.map(({ length }) => new Float32Array(length));
    const { sums, inputs } = this.#slopesOfSums(values, trace, slopes, from);
    for (let layer = 1; layer <= from; ++layer) {
      this.#addOuterProducts(gradients[2 * layer - 2]!, sums[layer]!, trace[layer - 1]!, layer);
      const bias = gradients[2 * layer - 1]!;
      sums[layer]!.forEach((slope, k) => (bias[k % bias.length]! += slope));
    }
    return { gradients, inputs };
  }

  /**
   * Half the mean square of the slope of the one output with respect to the inputs, and its gradient: null for biases,
   * on which that slope does not depend. Between the kinks of its ReLUs the network is linear. The gradient is
   * therefore that of the output, with the slope in place of the inputs in every layer.
   */
  slopePenalty(values: Values, trace: Trace): { loss: number; gradients: (Float32Array | null)[] } {
    const last = this.sizes.length - 1;
    const rows = trace[last]!.length;
    const { sums, inputs } = this.#slopesOfSums(values, trace, new Float32Array(rows).fill(1), last);
    const loss = inputs.reduce((sum, slope) => sum + slope * slope, 0) / (2 * rows);
    // A second forward pass: the same layers, applied to the slope.
    const gradients: (Float32Array | null)[] = values.map(() => null);
    let tangent = inputs.map((slope) => slope / rows);
    for (let layer = 1; layer <= last; ++layer) {
      const gradient = new Float32Array(values[2 * layer - 2]!.length);
      this.#addOuterProducts(gradient, sums[layer]!, tangent, layer);
      gradients[2 * layer - 2] = gradient;
      tangent = this.#throughReLU(this.#apply(values[2 * layer - 2]!, tangent, layer), trace, layer);
    }
    return { loss, gradients };
  }

  /** The slopes of a loss with respect to the sums that enter each layer's ReLUs, by layer, and to the inputs. */
  #slopesOfSums(values: Values, trace: Trace, slopes: Float32Array, from: number) {
    const sums: Float32Array[] = [];
    let inputs = slopes;
    for (let layer = from; layer > 0; --layer) {
      sums[layer] = this.#throughReLU(inputs, trace, layer);
      inputs = this.#applyTransposed(values[2 * layer - 2]!, sums[layer]!, layer);
    }
    return { sums, inputs };
  }

  /** Weights × inputs + bias: [rows × outputs]. */
  #apply(
    weights: Float32Array,
    inputs: Float32Array,
    layer: number,
    bias?: Float32Array,
  ): Float32Array<ArrayBuffer> {
    const [width, height] = [this.sizes[layer - 1]!, this.sizes[layer]!];
    const rows = inputs.length / width;
    const outputs = new Float32Array(rows * height);
    for (let row = 0; row < rows; ++row) {
      for (let j = 0; j < height; ++j) {
        let sum = bias?.[j] ?? 0;
        for (let i = 0; i < width; ++i) sum += weights[j * width + i]! * inputs[row * width + i]!;
        outputs[row * height + j] = sum;
      }
    }
    return outputs;
  }

  /** Weightsᵀ × slopes: [rows × inputs]. */
  #applyTransposed(weights: Float32Array, slopes: Float32Array, layer: number): Float32Array<ArrayBuffer> {
    const [width, height] = [this.sizes[layer - 1]!, this.sizes[layer]!];
    const rows = slopes.length / height;
    const inputs = new Float32Array(rows * width);
    for (let row = 0; row < rows; ++row) {
      for (let j = 0; j < height; ++j) {
        const slope = slopes[row * height + j]!;
        for (let i = 0; i < width; ++i) inputs[row * width + i]! += slope * weights[j * width + i]!;
      }
    }
    return inputs;
  }

  /** gradient [outputs × inputs] += slopes × inputs, summed over rows. */
  #addOuterProducts(gradient: Float32Array, slopes: Float32Array, inputs: Float32Array, layer: number): void {
    const [width, height] = [this.sizes[layer - 1]!, this.sizes[layer]!];
    const rows = inputs.length / width;
    for (let row = 0; row < rows; ++row) {
      for (let j = 0; j < height; ++j) {
        const slope = slopes[row * height + j]!;
        for (let i = 0; i < width; ++i) gradient[j * width + i]! += slope * inputs[row * width + i]!;
      }
    }
  }

  /** Converts slopes with respect to a layer's outputs to slopes with respect to the inputs of its ReLUs. */
  #throughReLU(slopes: Float32Array, trace: Trace, layer: number): Float32Array<ArrayBuffer> {
    if (layer === this.sizes.length - 1) return new Float32Array(slopes);
    const outputs = trace[layer]!;
    return new Float32Array(slopes.map((slope, k) => (outputs[k]! > 0 ? slope : LEAK * slope)));
  }
}
