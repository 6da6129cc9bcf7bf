import type { NativePlaneStart } from "../addon/native";
import { fromNative } from "../errors";
import type { GroupChanges } from "../param-groups";
import { checkForm, checkParameter, match, matchGroups, type Match } from "./match";
import {
  checkMetadata,
  StateReader,
  weightOf,
  type RestorePart,
  type StateSource,
  type TensorRead,
} from "./reader";
import {
  CHUNK_BYTES,
  chunks,
  makeBalances,
  makeClocks,
  ownKey,
  planes,
  readSharedClocks,
  sharedKey,
  type Clocks,
  type StateOwner,
} from "./state";
import { checkSum } from "./summed";

// Restores a saved state. The generators here yield each read to their caller, which reads from memory at once or from a
// file asynchronously; so both kinds of state share one set of checks.

/** A state that matches the optimizer, checked before anything changes. */
export interface Restoration {
  /** Writes the state into the optimizer. */
  apply(): Generator<TensorRead, void, void>;
  /** The optimizer's values once the state is restored. */
  readonly iterations: number;
  readonly weights: number[];
  /** The options to set in each group. */
  readonly groups: GroupChanges;
}

/**
 * Checks a whole state against the optimizer, except the values of the moments. Changes nothing.
 *
 * @param strict whether every term, parameter and layer must have its match
 * @throws MTAdamError CHECKPOINT
 */
export function* checkState(
  owner: StateOwner,
  source: StateSource,
  strict: boolean,
): Generator<TensorRead, Restoration, void> {
  const metadata = checkMetadata(source.metadata);
  const terms = match("term", owner.terms, metadata.terms, strict);
  const names = owner.parameters.map(({ name }) => name);
  const theirNames = metadata.parameters.map(({ name }) => name);
  const parameters = match("parameter", names, theirNames, strict);
  for (const { ours, theirs } of parameters) checkParameter(owner, ours, metadata, theirs);
  const layers = match("layer", owner.layers, metadata.layers, strict);
  const convert = checkForm(owner.options, metadata.options);
  const groups = matchGroups(owner, metadata, parameters, strict);
  const weights = [...owner.weights];
  for (const { ours, theirs } of terms) weights[ours] = weightOf(metadata, theirs);

  const reader = new StateReader(source, metadata, owner.options.nonFinite === "propagate");
  const steps: RestorePart[] = [];
  for (const term of terms) steps.push(yield* checkTerm(owner, reader, term, layers, parameters));
  if (owner.options.firstMoment === "summed") {
    steps.push(yield* (convert ? checkSum : checkSummed)(owner, reader, terms, parameters));
  }
  return {
    *apply() {
      const longest = parameters.reduce(
        (most, { ours }) => Math.max(most, owner.parameters[ours]!.length),
        0,
      );
      const buffer = new Float32Array(Math.min(longest, CHUNK_BYTES / Float32Array.BYTES_PER_ELEMENT));
      for (const step of steps) yield* step(buffer);
    },
    iterations: metadata.iterations,
    weights,
    groups: owner.groups.map((_, ours) => groups.find((group) => group.ours === ours)?.options ?? {}),
  };
}

function* checkTerm(
  owner: StateOwner,
  reader: StateReader,
  term: Match,
  layers: readonly Match[],
  parameters: readonly Match[],
): Generator<TensorRead, RestorePart, void> {
  const { native } = owner;
  const { n, occurred, skipped } = makeBalances(owner.layers.length);
  const clocks = makeClocks(owner.parameters.length);
  const squares = new Float64Array(owner.parameters.length);
  const hasSquares = owner.options.unit === "network";
  // Entries without a match keep their value.
  fromNative(() => {
    native.readNorms(term.ours, n, occurred, skipped);
    native.readClocks(term.ours, clocks.t, clocks.P1, clocks.P2);
    if (hasSquares) native.readSquares(term.ours, squares);
  });
  const norm_states = yield* reader.norm_states(term.theirs);
  for (const { ours, theirs } of layers) {
    n[ours] = norm_states.n[theirs]!;
    occurred[ours] = norm_states.occurred[theirs]!;
    skipped[ours] = norm_states.skipped[theirs]!;
  }
  const theirClocks = yield* reader.clocks(term.theirs);
  copyClocks(theirClocks, clocks, parameters);
  if (hasSquares) {
    const theirSquares = yield* reader.squares(term.theirs, theirClocks.t);
    for (const { ours, theirs } of parameters) squares[ours] = theirSquares[theirs]!;
  }
  const copies = parameters.flatMap(({ ours, theirs }) =>
    planes(owner.options).own.map((plane) => {
      const key = reader.plane(ownKey(plane, term.theirs, theirs), theirs);
      return { key, plane, term: term.ours, parameter: ours };
    }),
  );
  return function* (buffer) {
    fromNative(() => {
      native.restoreNorms(term.ours, n, occurred, skipped);
      native.restoreClocks(term.ours, clocks.t, clocks.P1, clocks.P2);
      if (hasSquares) native.restoreSquares(term.ours, squares);
    });
    for (const { key, ...place } of copies) yield* copyPlane(owner, key, place, buffer);
  };
}

function* checkSummed(
  owner: StateOwner,
  reader: StateReader,
  _terms: readonly Match[],
  parameters: readonly Match[],
): Generator<TensorRead, RestorePart, void> {
  const { native } = owner;
  const clocks = readSharedClocks(owner);
  copyClocks(yield* reader.sharedClocks(), clocks, parameters);
  const copies = parameters.flatMap(({ ours, theirs }) =>
    planes(owner.options).shared.map((plane) => {
      return { key: reader.plane(sharedKey(plane, theirs), theirs), plane, term: 0, parameter: ours };
    }),
  );
  return function* (buffer) {
    fromNative(() => native.restoreClocks(null, clocks.t, clocks.P1, clocks.P2));
    for (const { key, ...place } of copies) yield* copyPlane(owner, key, place, buffer);
  };
}

function* copyPlane(
  { native, parameters }: StateOwner,
  key: string,
  place: Omit<NativePlaneStart, "first">,
  buffer: Float32Array,
): Generator<TensorRead, void, void> {
  const { length } = parameters[place.parameter]!;
  for (const { first, count } of chunks(length, buffer.length)) {
    const to = buffer.subarray(0, count);
    yield { key, type: "Float32Array", first, to };
    fromNative(() => native.writePlane({ ...place, first }, to));
  }
}

function copyClocks(from: Clocks, to: Clocks, parameters: readonly Match[]): void {
  for (const { ours, theirs } of parameters) {
    to.t[ours] = from.t[theirs]!;
    to.P1[ours] = from.P1[theirs]!;
    to.P2[ours] = from.P2[theirs]!;
  }
}
