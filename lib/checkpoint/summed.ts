import { fromNative } from "../errors";
import type { Matches } from "./match";
import type { Reading, RestorePart, StateReader, StateSource } from "./reader";
import { BLOCK, CHUNK_BYTES, ownKey, readSharedClocks, sharedKey, type StateOwner } from "./state";

/** A term's moments in a sum, by their keys. */
interface Summand {
  m: string;
  x: string;
  factor: number;
}

/** The sum of a parameter: a summand per term, in order; undefined where the term has not run. */
interface Sum {
  parameter: number;
  length: number;
  summands: (Summand | undefined)[];
}

const NEVER = { term: -1, t: 0n, P1: 1, P2: 1 };

/**
 * M = (1 − β₁ᵀ)·Σ m_i/(1 − β₁^tᵢ), with T the largest clock and its products; where the clocks are equal, the plain
 * sum. x is the largest x_i.
 */
export function* checkSum(
  owner: StateOwner,
  source: StateSource,
  reader: StateReader,
  { metadata, terms, parameters }: Matches,
): Reading<RestorePart> {
  const { native, options } = owner;
  const clocks = readSharedClocks(owner);
  const saved = yield* reader.clocks();
  const sums: Sum[] = [];
  for (const { ours, theirs } of parameters) {
    const own = terms.map((term) => {
      const at = term.theirs * metadata.parameters.length + theirs;
      return { term: term.theirs, t: saved.t[at]!, P1: saved.P1[at]!, P2: saved.P2[at]! };
    });
    const last = own.reduce((latest, clock) => (clock.t > latest.t ? clock : latest), NEVER);
    clocks.t[ours] = last.t;
    clocks.P1[ours] = last.P1;
    clocks.P2[ours] = last.P2;
    const summands = own.map(({ term, t, P1 }): Summand | undefined => {
      if (t === 0n) return undefined;
      return {
        m: reader.plane(ownKey("m", term, theirs), theirs),
        x: options.amsgrad ? reader.plane(ownKey("x", term, theirs), theirs) : "",
        factor: t === last.t ? 1 : (1 - last.P1) / (1 - P1),
      };
    });
    sums.push({ parameter: ours, length: owner.parameters[ours]!.length, summands });
    yield undefined;
  }
  const inOrder = inReadingOrder(sums, source);
  return {
    writeRecords() {
      fromNative(() => native.restoreClocks(null, clocks.t, clocks.P1, clocks.P2));
    },
    *moments(writes) {
      const total = sums.reduce((most, { length }) => most + Math.ceil(length / BLOCK) * BLOCK, 0);
      const length = Math.min(total, CHUNK_BYTES / Float32Array.BYTES_PER_ELEMENT);
      const buffers: SumBuffers = {
        values: new Float32Array(length),
        M: new Float64Array(length),
        x: new Float32Array(options.amsgrad ? length : 0),
      };
      for (const batch of batches(inOrder, length)) {
        yield* addUp(reader, batch, buffers);
        yield* put(owner, reader, batch, buffers, writes);
      }
    },
  };
}

/** The order of the first terms' moments in the state, which is also that of the other terms'. */
function inReadingOrder(sums: readonly Sum[], source: StateSource): Sum[] {
  const firsts = new Map<string, Sum>();
  const inOrder: Sum[] = [];
  for (const sum of sums) {
    const first = sum.summands.find((summand) => summand !== undefined);
    if (first === undefined) inOrder.push(sum);
    else firsts.set(first.m, sum);
  }
  for (const key of source.keys()) {
    const sum = firsts.get(key);
    if (sum !== undefined) inOrder.push(sum);
  }
  return inOrder;
}

/** Elements of a sum, from `first` on, and where they are in the buffers. */
interface Slice {
  sum: Sum;
  first: number;
  begin: number;
  end: number;
}

/** Elements that are added up together: small tensors are read term by term, as they lie in a file. */
function* batches(sums: readonly Sum[], length: number): Generator<Slice[], void, void> {
  let batch: Slice[] = [];
  let begin = 0;
  for (const sum of sums) {
    // So that every piece of a sum starts with a block of codes.
    begin = Math.ceil(begin / BLOCK) * BLOCK;
    if (begin === length) {
      yield batch;
      batch = [];
      begin = 0;
    }
    for (let first = 0; first < sum.length;) {
      const end = Math.min(begin + sum.length - first, length);
      batch.push({ sum, first, begin, end });
      first += end - begin;
      begin = end;
      if (begin < length) continue;
      yield batch;
      batch = [];
      begin = 0;
    }
  }
  if (batch.length > 0) yield batch;
}

/** Buffers for the values of one batch and their sums, shared by all batches. */
interface SumBuffers {
  readonly values: Float32Array;
  readonly M: Float64Array;
  /** Empty without amsgrad. */
  readonly x: Float32Array;
}

function* addUp(reader: StateReader, batch: readonly Slice[], { values, M, x }: SumBuffers): Reading<void> {
  M.fill(0);
  x.fill(0);
  const terms = batch[0]!.sum.summands.length;
  for (let term = 0; term < terms; ++term) {
    for (const { sum, first, begin, end } of batch) {
      const summand = sum.summands[term];
      if (summand === undefined) continue;
      const read = values.subarray(begin, end);
      yield* reader.moment("m", summand.m, first, read);
      for (let k = begin; k < end; ++k) M[k] = M[k]! + summand.factor * values[k]!;
      if (summand.x === "") continue;
      yield* reader.moment("x", summand.x, first, read);
      for (let k = begin; k < end; ++k) x[k] = Math.max(x[k]!, values[k]!);
    }
  }
}

/** Rounds the sums, checks that float32 can hold them, and writes them if wanted. */
function* put(
  { native, options }: StateOwner,
  reader: StateReader,
  batch: readonly Slice[],
  { values, M, x }: SumBuffers,
  writes: boolean,
): Reading<void> {
  values.set(M); // rounds
  for (const { sum, first, begin, end } of batch) {
    const place = { term: 0, parameter: sum.parameter, first };
    const rounded = values.subarray(begin, end);
    reader.checkMoment("m", sharedKey("m", sum.parameter), rounded);
    if (writes) {
      fromNative(() => {
        native.writePlane({ ...place, plane: "m" }, rounded);
        if (options.amsgrad) native.writePlane({ ...place, plane: "x" }, x.subarray(begin, end));
      });
    }
    yield undefined;
  }
}
