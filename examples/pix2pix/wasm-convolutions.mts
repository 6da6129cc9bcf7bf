import "@tensorflow/tfjs-backend-wasm"; // registers the kernel that is replaced
import * as tf from "@tensorflow/tfjs-core";

// The wasm backend of TensorFlow.js 4.22 has no kernel for the gradient of a convolution's filter, so that it can train no
// convolution, and the one for the gradient of the input, which is also the transposed convolution, takes ten times as
// long as the convolution itself. Importing this module makes both of them convolutions, which the backend computes fast.

type Shape4D = [number, number, number, number];
type Info = ReturnType<typeof tf.backend_util.computeConv2DInfo>;

/** What TensorFlow.js gives to both kernels. */
interface Attributes {
  strides: number | [number, number];
  pad: Parameters<typeof tf.backend_util.computeConv2DInfo>[4];
  dimRoundingMode?: "floor" | "round" | "ceil";
}

/**
 * With y[n, i, j, o] = Σ x[n, s·i + k, s·j + l, c] · f[k, l, c, o], the gradient of f[k, l, c, o] is the sum of
 * x[n, s·i + k, s·j + l, c] · dy[n, i, j, o] over n, i and j: a convolution in which channels and pictures have changed
 * places and dy is the filter, spread by the stride.
 */
function filterGradient(x: tf.Tensor4D, dy: tf.Tensor4D, info: Info): tf.Tensor4D {
  const seen = framed(
    x,
    [info.padInfo.top, (info.outHeight - 1) * info.strideHeight + info.filterHeight],
    [info.padInfo.left, (info.outWidth - 1) * info.strideWidth + info.filterWidth],
  );
  const gradient = tf.conv2d(
    tf.transpose(seen, [3, 1, 2, 0]),
    tf.transpose(dy, [1, 2, 0, 3]),
    1,
    "valid",
    "NHWC",
    [info.strideHeight, info.strideWidth],
  );
  return tf.transpose(gradient, [1, 2, 0, 3]);
}

/** The gradient of the input: dy, spread by the stride, convolved with the filter turned round. */
function inputGradient(dy: tf.Tensor4D, filter: tf.Tensor4D, info: Info): tf.Tensor4D {
  const spreadDy = framed(
    spread(dy, info),
    [info.filterHeight - 1 - info.padInfo.top, info.inHeight + info.filterHeight - 1],
    [info.filterWidth - 1 - info.padInfo.left, info.inWidth + info.filterWidth - 1],
  );
  return tf.conv2d(spreadDy, tf.transpose(tf.reverse(filter, [0, 1]), [0, 1, 3, 2]), 1, "valid");
}

/** Zeros between the elements, so that they are as far apart as the stride says. */
function spread(dy: tf.Tensor4D, { strideHeight, strideWidth }: Info): tf.Tensor4D {
  const [batch, height, width, filters] = dy.shape;
  const rows = spaced(dy, batch * height, strideHeight);
  const columns = spaced(rows, batch * height * strideHeight * width, strideWidth);
  return tf.reshape(columns, [batch, height * strideHeight, width * strideWidth, filters]);
}

/** The tensor as `count` parts, each followed by zeros of the size of `stride` − 1 parts. */
function spaced(of: tf.Tensor, count: number, stride: number): tf.Tensor {
  if (stride === 1) return of;
  const padding: [number, number][] = [[0, 0], [0, stride - 1], [0, 0]]; // prettier-ignore
  return tf.pad(tf.reshape(of, [count, 1, of.size / count]), padding);
}

/** A place and a size along one axis: it begins `before` elements before the first. */
type Frame = [before: number, size: number];

/** The elements inside a frame of rows and columns, and zeros where there are none. */
function framed(of: tf.Tensor4D, rows: Frame, columns: Frame): tf.Tensor4D {
  const [batch, height, width, channels] = of.shape;
  const around = ([before, size]: Frame, length: number): [number, number] => [
    Math.max(0, before),
    Math.max(0, size - before - length),
  ];
  const padded = tf.pad(of, [[0, 0], around(rows, height), around(columns, width), [0, 0]]);
  return tf.slice(
    padded,
    [0, Math.max(0, -rows[0]), Math.max(0, -columns[0]), 0],
    [batch, rows[1], columns[1], channels],
  );
}

/** The backend has no other format than NHWC, and TensorFlow.js no gradients of dilated convolutions. */
function infoOf(inputShape: Shape4D, filterShape: Shape4D, attributes: Attributes): Info {
  const { strides, pad, dimRoundingMode } = attributes;
  return tf.backend_util.computeConv2DInfo(inputShape, filterShape, strides, 1, pad, dimRoundingMode);
}

tf.registerKernel({
  kernelName: "Conv2DBackpropFilter",
  backendName: "wasm",
  kernelFunc: ({ inputs, attrs }) => {
    const [x, dy] = [inputs["x"] as tf.Tensor4D, inputs["dy"] as tf.Tensor4D];
    const attributes = attrs as unknown as Attributes & { filterShape: Shape4D };
    return tf.tidy(() => filterGradient(x, dy, infoOf(x.shape, attributes.filterShape, attributes)));
  },
});

tf.unregisterKernel("Conv2DBackpropInput", "wasm");
tf.registerKernel({
  kernelName: "Conv2DBackpropInput",
  backendName: "wasm",
  kernelFunc: ({ inputs, attrs }) => {
    const [dy, filter] = [inputs["dy"] as tf.Tensor4D, inputs["filter"] as tf.Tensor4D];
    const attributes = attrs as unknown as Attributes & { inputShape: Shape4D };
    return tf.tidy(() => inputGradient(dy, filter, infoOf(attributes.inputShape, filter.shape, attributes)));
  },
});
