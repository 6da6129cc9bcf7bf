import type { Tensor } from "@tensorflow/tfjs-core";
import { Buffer } from "node:buffer";
import { checkMetadata } from "../checkpoint/reader";
import type { CheckpointMetadata, StateDict, StateTensor } from "../checkpoint/state";
import { MTAdamError } from "../errors";
import { typedArrayName } from "../inspect";
import { tf } from "./core";

// The state of the optimizer as tensors that TensorFlow.js saves with a model. It has neither float64 nor int64: their bits
// cross as pairs of int32. A tensor's name has its key in the state and its type.

/** A tensor with its name, as TensorFlow.js passes gradients and weights; it does not export the type. */
export interface NamedTensor {
  name: string;
  tensor: Tensor;
}

const PREFIX = "mtadam/";
const METADATA = "metadata";

const ints = (values: Int32Array): Tensor => tf.tensor1d(values, "int32");

/** @returns tensors that the caller disposes of */
export function encodeState(state: StateDict): NamedTensor[] {
  const { metadata, ...tensors } = state;
  const text = Buffer.from(JSON.stringify(metadata));
  const encoded = Object.entries(tensors).map(([key, value]) => {
    const array = value as StateTensor;
    return { name: `${PREFIX}${key}:${typedArrayName(array)}`, tensor: encode(array) };
  });
  return [{ name: `${PREFIX}${METADATA}`, tensor: ints(Int32Array.from(text)) }, ...encoded];
}

function encode(array: StateTensor): Tensor {
  if (array instanceof Float32Array) return tf.tensor1d(array, "float32");
  if (array instanceof Uint8Array || array instanceof Uint16Array) return ints(Int32Array.from(array));
  return ints(new Int32Array(array.buffer, array.byteOffset, array.byteLength / 4));
}

/** @throws MTAdamError CHECKPOINT if the tensors are not those of {@link encodeState} */
export async function decodeState(tensors: readonly NamedTensor[]): Promise<StateDict> {
  const entries = await Promise.all(
    tensors.map(async ({ name, tensor }) => {
      const [key = "", type] = name.slice(PREFIX.length).split(":");
      if (!name.startsWith(PREFIX)) throw foreign(name);
      return { name, key, type, values: await tensor.data() };
    }),
  );
  const state: Record<string, unknown> = {};
  for (const { name, key, type, values } of entries) {
    state[key] = key === METADATA ? checkMetadata(parse(values as Int32Array)) : decode(values, type, name);
  }
  if (state[METADATA] === undefined) throw foreign(tensors[0]?.name ?? "no tensor");
  return state as StateDict;
}

function foreign(name: string): MTAdamError {
  return new MTAdamError(
    "CHECKPOINT",
    `The weights must be those that \`getWeights\` of an MTAdamOptimizer gave; got ${JSON.stringify(name)}.`,
  );
}

function parse(bytes: Int32Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch (cause) {
    throw new MTAdamError("CHECKPOINT", "The weights must have the metadata of a state; got other bytes.", {
      cause,
    });
  }
}

function decode(values: ArrayLike<number>, type: string | undefined, name: string): unknown {
  switch (type) {
    case "Float32Array":
      return values;
    case "Uint8Array":
      return Uint8Array.from(values);
    case "Uint16Array":
      return Uint16Array.from(values);
    case "Float64Array":
      if (values.length % 2 !== 0) break;
      return new Float64Array(Int32Array.from(values).buffer);
    case "BigInt64Array":
      if (values.length % 2 !== 0) break;
      return new BigInt64Array(Int32Array.from(values).buffer);
  }
  throw foreign(name);
}

/** A parameter's name and shape. */
interface Described {
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * The state with the names of these parameters, where it has others: a model that is loaded beside the one that was saved
 * gets new names for its variables. They match in order then, if all shapes agree.
 *
 * @throws MTAdamError CHECKPOINT
 */
export function rename(state: StateDict, parameters: readonly Described[]): StateDict {
  const saved = state.metadata.parameters;
  const known = new Set(saved.map(({ name }) => name));
  const other = parameters.find(({ name }) => !known.has(name));
  if (other === undefined) return state;
  const fits =
    saved.length === parameters.length &&
    saved.every(({ shape }, k) => tf.util.arraysEqual(shape, [...parameters[k]!.shape]));
  if (!fits) {
    throw new MTAdamError(
      "CHECKPOINT",
      `The state must have the variable ${JSON.stringify(other.name)}, or as many as are trained, of the same shapes in the ` +
        `same order; got ${saved.length}.`,
    );
  }
  const names = new Map(saved.map(({ name }, k) => [name, parameters[k]!.name]));
  const renamed = (name: string): string => names.get(name) ?? name;
  const metadata: CheckpointMetadata = {
    ...state.metadata,
    layers: state.metadata.layers.map(renamed),
    parameters: saved.map((parameter) => ({
      ...parameter,
      name: renamed(parameter.name),
      layer: renamed(parameter.layer),
    })),
  };
  return { ...state, metadata };
}
