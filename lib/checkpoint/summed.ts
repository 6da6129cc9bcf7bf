import { fromNative } from "../errors";
import type { Match } from "./match";
import type { RestorePart, StateReader, TensorRead } from "./reader";
import { chunks, ownKey, readSharedClocks, type Clocks, type StateOwner } from "./state";

/** A term's moments in a sum, by their keys. */
interface Summand {
  m: string;
  x: string;
  factor: number;
}

/**
 * M = (1 − β₁ᵀ)·Σ m_i/(1 − β₁^tᵢ), with T the largest clock and its products; where the clocks are equal, the plain
 * sum. x is the largest x_i.
 */
export function* checkSum(
  owner: StateOwner,
  reader: StateReader,
  terms: readonly Match[],
  parameters: readonly Match[],
): Generator<TensorRead, RestorePart, void> {
  const { native, options } = owner;
  const clocks = readSharedClocks(owner);
  const own: (Clocks & { theirs: number })[] = [];
  for (const { theirs } of terms) own.push({ theirs, ...(yield* reader.clocks(theirs)) });
  const sums = parameters.map((parameter) => {
    const ran = own
      .map(({ theirs, t, P1, P2 }) => ({
        theirs,
        t: t[parameter.theirs]!,
        P1: P1[parameter.theirs]!,
        P2: P2[parameter.theirs]!,
      }))
      .filter(({ t }) => t > 0n);
    const last = ran.reduce<(typeof ran)[number] | undefined>(
      (latest, clock) => (latest === undefined || clock.t > latest.t ? clock : latest),
      undefined,
    );
    clocks.t[parameter.ours] = last?.t ?? 0n;
    clocks.P1[parameter.ours] = last?.P1 ?? 1;
    clocks.P2[parameter.ours] = last?.P2 ?? 1;
    const summands = ran.map(({ theirs, t, P1 }): Summand => {
      return {
        m: reader.plane(ownKey("m", theirs, parameter.theirs), parameter.theirs),
        x: options.amsgrad ? reader.plane(ownKey("x", theirs, parameter.theirs), parameter.theirs) : "",
        factor: t === last?.t ? 1 : (1 - (last?.P1 ?? 1)) / (1 - P1),
      };
    });
    return { parameter: parameter.ours, summands };
  });
  return function* (buffer) {
    fromNative(() => native.restoreClocks(null, clocks.t, clocks.P1, clocks.P2));
    const buffers: SumBuffers = {
      values: buffer,
      M: new Float64Array(buffer.length),
      x: new Float32Array(options.amsgrad ? buffer.length : 0),
    };
    for (const { parameter, summands } of sums) yield* sumPlanes(owner, parameter, summands, buffers);
  };
}

/** Buffers for the values of one chunk and their sums, shared by all chunks. */
interface SumBuffers {
  values: Float32Array;
  M: Float64Array;
  /** Empty without amsgrad. */
  x: Float32Array;
}

function* sumPlanes(
  { native, options, parameters }: StateOwner,
  parameter: number,
  summands: readonly Summand[],
  buffers: SumBuffers,
): Generator<TensorRead, void, void> {
  for (const { first, count } of chunks(parameters[parameter]!.length, buffers.values.length)) {
    const values = buffers.values.subarray(0, count);
    const M = buffers.M.subarray(0, count).fill(0);
    const x = buffers.x.subarray(0, count).fill(0);
    for (const { m, x: xKey, factor } of summands) {
      yield { key: m, type: "Float32Array", first, to: values };
      for (let k = 0; k < count; ++k) M[k] = M[k]! + factor * values[k]!;
      if (!options.amsgrad) continue;
      yield { key: xKey, type: "Float32Array", first, to: values };
      for (let k = 0; k < count; ++k) x[k] = Math.max(x[k]!, values[k]!);
    }
    values.set(M); // rounds
    fromNative(() => {
      native.writePlane({ plane: "m", term: 0, parameter, first }, values);
      if (options.amsgrad) native.writePlane({ plane: "x", term: 0, parameter, first }, x);
    });
  }
}
