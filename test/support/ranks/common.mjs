// What the programs that run under mpirun share: a model, gradients of micro-batches, and the comparison of two trainings.

import assert from "node:assert";
import { createHash } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { MTAdam } from "../../../dist/index.mjs";

const LENGTHS = [4500, 1, 4096, 0, 8200, 5];
/** Micro-batches per step, over all ranks. */
const MICRO_BATCHES = 4;

/** The same numbers on every rank, from −0.5 to 0.5. */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
}

export function makeParameters(tagged) {
  const draw = random(7);
  return LENGTHS.map((length, k) => ({
    name: `p${k}`,
    data: Float32Array.from({ length }, draw),
    ...(tagged && k % 3 === 1 ? { layer: "tied" } : {}),
  }));
}

/** The gradients of one micro-batch: one absent in every other step, and a NaN or an infinity now and then. */
function microBatch(step, batch, terms) {
  return Array.from({ length: terms }, (_, term) =>
    LENGTHS.map((length, k) => {
      if (k === 5 && term === 1 && step % 2 === 1) return null;
      const draw = random(100000 * batch + 1000 * step + 10 * term + k);
      const gradient = Float32Array.from({ length }, () => 10 ** (2 * term - 2) * draw());
      if (step === 2 && term === 1 && k === 4) gradient[length - 1] = batch % 2 ? NaN : Infinity;
      return gradient;
    }),
  );
}

/** Adds neighbours, then pairs of them, and so on, in float32. */
export function addAsTree(list) {
  while (list.length > 1) {
    const next = [];
    for (let k = 0; k < list.length; k += 2)
      next.push(k + 1 < list.length ? add(list[k], list[k + 1]) : list[k]);
    list = next;
  }
  return list[0];
}

const add = (a, b) =>
  a.map((ofTerm, term) =>
    ofTerm.map((values, k) => values && values.map((value, at) => value + b[term][k][at])),
  );

const known = new Map();

/** The sum of a step's gradients over the micro-batches of this rank. */
export function share(step, terms, { rank, size }) {
  const key = [step, terms, rank, size].join();
  const count = MICRO_BATCHES / size;
  const sum = () =>
    addAsTree(Array.from({ length: count }, (_, k) => microBatch(step, rank * count + k, terms)));
  if (!known.has(key)) known.set(key, sum());
  return known.get(key);
}

const each = (gradients, change) =>
  gradients.map((ofTerm) => ofTerm.map((values) => values && change(values)));

/** To nearest, ties to even. */
const narrowed = (values) =>
  Uint16Array.from(
    new Uint32Array(values.slice().buffer),
    (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16,
  );
const widened = (codes) => new Float32Array(Uint32Array.from(codes, (code) => code << 16).buffer);

/** Gradients as bfloat16, and what these stand for. */
export const asBfloat16 = (gradients) => each(gradients, narrowed);
export const rounded = (gradients) => each(gradients, (values) => widened(narrowed(values)));

/** The sum of the ranks' gradients, each rounded to bfloat16. */
export const sumOfRounded = (step, terms, size) =>
  addAsTree(Array.from({ length: size }, (_, rank) => rounded(share(step, terms, { rank, size }))));

export const whole = (step, terms) => share(step, terms, { rank: 0, size: 1 });
/** The divisor of a step's gradients on a rank: of the sum over its micro-batches. */
export const scaleOf = (size) => MICRO_BATCHES / size;

export function digest(arrays) {
  const hash = createHash("sha256");
  for (const { buffer, byteOffset, byteLength } of arrays)
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest("hex");
}

export const thetaOf = (parameters) => parameters.map(({ data }) => data);

/**
 * In one form of the options: an optimizer of all ranks on the device, whose parameters are what `place` makes of arrays, and
 * one of this process alone on the CPU.
 */
export function makeBoth({ form, terms, tagged, comm, device, place = (values) => values }) {
  const {
    shard = "state",
    wire = "float32",
    gradientDtype = "float32",
    dtype = "float32",
    ...options
  } = { terms, lr: 1e-2, ...form };
  const make = () => {
    const wide = makeParameters(tagged);
    return dtype === "float32" ? wide : wide.map((one) => ({ ...one, dtype, data: narrowed(one.data) }));
  };
  const parameters = make().map((one) => ({ ...one, data: place(one.data, dtype) }));
  const sharing = { distributed: comm, shard, wire, gradientDtype, reduction: "ordered", device };
  const optimizer = new MTAdam(parameters, { ...options, ...sharing });
  const alone = make();
  return { wire, gradientDtype, parameters, optimizer, alone, reference: new MTAdam(alone, options) };
}

export async function assertSameState(actual, expected) {
  const [own, other] = [await actual.stateDict(), await expected.stateDict()];
  assert.deepStrictEqual(Object.keys(own), Object.keys(other));
  for (const key of Object.keys(own)) {
    if (key === "metadata") assert.deepStrictEqual(own[key], other[key]);
    else assert.strictEqual(digest([own[key]]), digest([other[key]]), key);
  }
}

/** What a rank may do in place of the call that the others make. */
export const waysToFail = (comm) => ({
  throw() {
    throw new Error("the data loader failed");
  },
  kill: () => process.kill(process.pid, "SIGKILL"),
  hang: () => setTimeout(100_000),
  exit: () => process.exit(0),
  order: () => comm.barrier(),
});
