import type { DeviceKind } from "mtadam";

/** A list of tensors to be optimized. */
export interface Shape {
  key: string;
  title: string;
  /** Elements of each tensor. */
  lengths: readonly number[];
}

/** What is measured together, since the first is compared with the second within each round. */
export interface Subject extends Shape {
  beside?: Shape;
}

/** Each layer's gradients of three terms fit in a GPU's second-level cache, where the model is far larger. */
const layers = Array.from({ length: 24 }, () => 2 ** 20);
const many = Array.from({ length: 3000 }, () => 3500);

const SHAPES: readonly Subject[] = [
  { key: "mnist", title: "MNIST CNN", lengths: mnistCnn() },
  { key: "resnet50", title: "ResNet-50", lengths: resNet50() },
  { key: "large", title: "one tensor", lengths: [50_000_000] },
  {
    key: "many",
    title: "3,000 tensors",
    lengths: many,
    beside: { key: "flat", title: "the same in one tensor", lengths: [total(many)] },
  },
];

export const SUBJECTS: readonly Subject[] = [
  ...SHAPES,
  { key: "layers", title: "24 layers of 1M", lengths: layers },
];

/** What is measured unless others are named. */
export const DEFAULTS: Record<DeviceKind, readonly Subject[]> = { cpu: SHAPES, cuda: SUBJECTS };

export function total(lengths: readonly number[]): number {
  return lengths.reduce((sum, length) => sum + length, 0);
}

/** Two convolutions and two dense layers, each with a bias: the usual example for MNIST. */
export function mnistCnn(): number[] {
  return [
    ...convolution(1, 32, 3),
    32,
    ...convolution(32, 64, 3),
    64,
    ...dense(9216, 128),
    ...dense(128, 10),
  ];
}

/**
 * ResNet-50 (He et al. 2015), batch norms with scale and shift: 161 tensors, 25,557,032 parameters. Four stages of
 * bottlenecks: 1×1 down to `width`, 3×3, 1×1 up to four times `width`; the first of each stage projects its input.
 */
export function resNet50(): number[] {
  const expansion = 4;
  const lengths = normalised(3, 64, 7);
  let channels = 64;
  for (const [width, blocks] of [
    [64, 3],
    [128, 4],
    [256, 6],
    [512, 3],
  ] as const) {
    for (let block = 0; block < blocks; ++block) {
      const out = expansion * width;
      lengths.push(
        ...normalised(channels, width, 1),
        ...normalised(width, width, 3),
        ...normalised(width, out, 1),
      );
      if (block === 0) lengths.push(...normalised(channels, out, 1));
      channels = out;
    }
  }
  lengths.push(...dense(channels, 1000));
  if (lengths.length !== 161 || total(lengths) !== 25_557_032) {
    throw new Error(
      `ResNet-50 must have 161 tensors, 25,557,032 parameters; got ${lengths.length}, ${total(lengths)}.`,
    );
  }
  return lengths;
}

function convolution(from: number, to: number, side: number): number[] {
  return [from * to * side * side];
}

/** A convolution and the batch norm after it. */
function normalised(from: number, to: number, side: number): number[] {
  return [...convolution(from, to, side), to, to];
}

function dense(from: number, to: number): number[] {
  return [from * to, to];
}
