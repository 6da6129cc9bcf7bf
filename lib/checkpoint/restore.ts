import type { NativePlaneStart } from "../addon/native";
import { fromNative } from "../errors";
import type { GroupChanges } from "../param-groups";
import { checkForm, checkParameter, match, matchGroups, type Match, type Matches } from "./match";
import {
  checkMetadata,
  StateReader,
  weightOf,
  type Reading,
  type RestorePart,
  type StateSource,
} from "./reader";
import {
  BLOCK,
  CHUNK_BYTES,
  chunks,
  hasMaster,
  makeRecords,
  ownKey,
  planes,
  readSharedClocks,
  readTerm,
  sharedKey,
  type Balances,
  type Clocks,
  type StateOwner,
  type TermRecords,
} from "./state";
import { checkSum } from "./summed";

// Restores a saved state. The generators here yield each read to their caller, which reads from memory at once or from a
// file asynchronously; so both kinds of state share one set of checks.

/** A state that matches the optimizer, checked before anything changes. */
export interface Restoration {
  /** Writes the state into the optimizer. */
  apply(): Reading<void>;
  /** The optimizer's values once the state is restored. */
  readonly iterations: number;
  readonly weights: number[];
  /** The options to set in each group. */
  readonly groups: GroupChanges;
}

export interface RestoreOptions {
  /** Whether every term, parameter and layer must have a match. */
  readonly strict: boolean;
  /** Whether norms and moments may be NaN or infinite. */
  readonly propagates: boolean;
}

/** Whether norms and moments of the optimizer's own states may be NaN or infinite. */
export const propagates = ({ options }: StateOwner): boolean => options.nonFinite === "propagate";

/**
 * Checks a whole state against the optimizer. Changes nothing.
 *
 * @throws MTAdamError CHECKPOINT
 */
export function* checkState(
  owner: StateOwner,
  source: StateSource,
  { strict, propagates: takesAll }: RestoreOptions,
): Reading<Restoration> {
  const metadata = checkMetadata(source.metadata);
  yield undefined;
  const terms = match("term", owner.terms, metadata.terms, strict);
  const names = owner.parameters.map(({ name }) => name);
  const theirNames = metadata.parameters.map(({ name }) => name);
  yield undefined;
  const parameters = match("parameter", names, theirNames, strict);
  yield undefined;
  for (const { ours, theirs } of parameters) checkParameter(owner, ours, metadata, theirs);
  yield undefined;
  const layers = match("layer", owner.layers, metadata.layers, strict);
  const convert = checkForm(owner.options, metadata.options);
  yield undefined;
  const groups = yield* matchGroups(owner, metadata, parameters, strict);
  const weights = [...owner.weights];
  for (const { ours, theirs } of terms) weights[ours] = weightOf(metadata, theirs);
  yield undefined;

  const reader = new StateReader(source, metadata, takesAll);
  const matches = { metadata, terms, parameters, layers };
  const parts = [yield* checkOwn(owner, source, reader, matches)];
  if (owner.options.firstMoment === "summed") {
    parts.push(yield* (convert ? checkSum : checkShared)(owner, source, reader, matches));
  }
  if (owner.options.masterWeights) parts.push(checkMasters(owner, source, reader, matches));
  for (const part of parts) yield* part.moments(false);
  return {
    *apply() {
      for (const part of parts) {
        part.writeRecords();
        yield* part.moments(true);
      }
    },
    iterations: metadata.iterations,
    weights,
    groups,
  };
}

/** Where a moment of the state belongs in the optimizer. */
type PlanePlace = Omit<NativePlaneStart, "first">;

/** Norms, clocks and moments that belong to terms. */
function* checkOwn(
  owner: StateOwner,
  source: StateSource,
  reader: StateReader,
  { metadata, terms, parameters, layers }: Matches,
): Reading<RestorePart> {
  const { native } = owner;
  const balances = yield* reader.balances();
  const clocks = yield* reader.clocks();
  const isUnit = owner.options.unit === "network";
  const squares = isUnit ? yield* reader.squares(clocks.t) : undefined;
  const records: (TermRecords & { term: number })[] = [];
  const places = new Map<string, PlanePlace>();
  for (const { ours: term, theirs } of terms) {
    // Entries without a match keep their value.
    const own = currentRecords(owner, term);
    copyBalances(balances, theirs * metadata.layers.length, own.balances, layers);
    const start = theirs * metadata.parameters.length;
    copyClocks(clocks, start, own.clocks, parameters);
    if (squares !== undefined) {
      for (const { ours, theirs } of parameters) own.squares[ours] = squares[start + theirs]!;
    }
    records.push({ term, ...own });
    for (const { ours: parameter, theirs: saved } of parameters) {
      for (const plane of planes(owner.options).own) {
        places.set(reader.plane(ownKey(plane, theirs, saved), saved), { plane, term, parameter });
      }
      yield undefined;
    }
  }
  return {
    writeRecords() {
      fromNative(() => {
        for (const { term, balances, clocks, squares } of records) {
          native.restoreNorms(term, balances.n, balances.occurred, balances.skipped);
          native.restoreClocks(term, clocks.t, clocks.P1, clocks.P2);
          if (isUnit) native.restoreSquares(term, squares);
        }
      });
    },
    moments: (writes) => copyPlanes(owner, source, reader, places, writes),
  };
}

/** The clock and the moments that all terms share. */
function* checkShared(
  owner: StateOwner,
  source: StateSource,
  reader: StateReader,
  matches: Matches,
): Reading<RestorePart> {
  const { native } = owner;
  const { parameters } = matches;
  const clocks = readSharedClocks(owner);
  copyClocks(yield* reader.sharedClocks(), 0, clocks, parameters);
  const unbounded = yield* unboundedSums(owner, reader, matches);
  const places = new Map<string, PlanePlace>();
  for (const { ours: parameter, theirs } of parameters) {
    if (unbounded.has(parameter)) continue;
    for (const plane of planes(owner.options).shared) {
      places.set(reader.plane(sharedKey(plane, theirs), theirs), { plane, term: 0, parameter });
    }
    yield undefined;
  }
  return {
    writeRecords() {
      fromNative(() => {
        native.restoreClocks(null, clocks.t, clocks.P1, clocks.P2);
        for (const parameter of unbounded) native.restartSum(parameter);
      });
    },
    moments: (writes) => copyPlanes(owner, source, reader, places, writes),
  };
}

/**
 * The parameters whose M holds gradients of a term that is not loaded. Without that term's v, the denominator would not
 * bound M, so it begins again, as with `removeTerm`.
 */
function* unboundedSums(
  { options }: StateOwner,
  reader: StateReader,
  { metadata, terms, parameters }: Matches,
): Reading<Set<number>> {
  const unbounded = new Set<number>();
  if (terms.length === metadata.terms.length) return unbounded;
  // One v for all terms is loaded with M, and so is the x of amsgrad.
  if (options.secondMoment === "summed" || options.amsgrad) return unbounded;
  const loaded = new Set(terms.map(({ theirs }) => theirs));
  const { t } = yield* reader.clocks();
  for (let term = 0; term < metadata.terms.length; ++term) {
    if (loaded.has(term)) continue;
    const start = term * metadata.parameters.length;
    for (const { ours, theirs } of parameters) if (t[start + theirs]! > 0n) unbounded.add(ours);
    yield undefined;
  }
  return unbounded;
}

/** The masters of parameters. One that the state lacks begins again with the parameter's value. */
function checkMasters(
  { native, options, parameters: own }: StateOwner,
  source: StateSource,
  reader: StateReader,
  { parameters }: Matches,
): RestorePart {
  const places = new Map<string, number>();
  const lacking: number[] = [];
  for (const { ours, theirs } of parameters) {
    if (!hasMaster(options, own[ours]!)) continue;
    const key = reader.master(theirs);
    if (key === undefined) lacking.push(ours);
    else places.set(key, ours);
  }
  return {
    writeRecords() {
      fromNative(() => {
        for (const parameter of lacking) native.resetMaster(parameter);
      });
    },
    *moments(writes) {
      for (const key of writes ? source.keys() : []) {
        const parameter = places.get(key);
        if (parameter === undefined) continue;
        const { length } = own[parameter]!;
        for (const { first, count } of chunks(length, CHUNK_BYTES / Float32Array.BYTES_PER_ELEMENT)) {
          const to = new Float32Array(count);
          yield { key, type: "Float32Array", first, to };
          fromNative(() => {
            native.writeMaster(parameter, first, to);
          });
        }
      }
    },
  };
}

function* copyPlanes(
  { native, options, parameters }: StateOwner,
  source: StateSource,
  reader: StateReader,
  places: ReadonlyMap<string, PlanePlace>,
  writes: boolean,
): Reading<void> {
  const longest = parameters.reduce((most, { length }) => Math.max(most, length), 0);
  const buffer = new Float32Array(Math.min(longest, CHUNK_BYTES / Float32Array.BYTES_PER_ELEMENT));
  for (const key of source.keys()) {
    const place = places.get(key);
    if (place === undefined) continue;
    for (const { first, count } of chunks(parameters[place.parameter]!.length, buffer.length)) {
      const values = buffer.subarray(0, count);
      const codes = yield* reader.moment(place.plane, key, first, values);
      if (!writes) continue;
      fromNative(() => {
        if (codes?.dtype !== options.stateDtype) native.writePlane({ ...place, first }, values);
        else {
          native.writeCodes({ ...place, first }, codes.codes);
          if (codes.dtype === "8bit")
            native.writeExponents({ ...place, first: first / BLOCK }, codes.exponents);
        }
      });
    }
  }
}

/** A term's current values. */
function currentRecords(owner: StateOwner, term: number): TermRecords {
  const records = makeRecords(owner.layers.length, owner.parameters.length);
  readTerm(owner, term, records);
  return records;
}

/** @param start where the term's values start in `from` */
function copyBalances(from: Balances, start: number, to: Balances, layers: readonly Match[]): void {
  for (const { ours, theirs } of layers) {
    to.n[ours] = from.n[start + theirs]!;
    to.occurred[ours] = from.occurred[start + theirs]!;
    to.skipped[ours] = from.skipped[start + theirs]!;
  }
}

function copyClocks(from: Clocks, start: number, to: Clocks, parameters: readonly Match[]): void {
  for (const { ours, theirs } of parameters) {
    to.t[ours] = from.t[start + theirs]!;
    to.P1[ours] = from.P1[start + theirs]!;
    to.P2[ours] = from.P2[start + theirs]!;
  }
}
