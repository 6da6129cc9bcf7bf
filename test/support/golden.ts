/**
 * The golden cases of test/golden: inputs, and the outputs they must give. test/golden/README.md has the format. A
 * "layer" of those files is a tensor; tensors that share a layer tag repeat its norms.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import type { Form } from "./forms";
import { defaultOptions, oracleOf, type GroupOptions, type Oracle, type OracleOptions } from "./oracle";
import { parseSafetensors } from "./safetensors";

const directory = join(__dirname, "..", "golden");
const suffix = ".safetensors";

export interface GoldenCase {
  readonly name: string;
  /** The purpose of the case; may be empty. */
  readonly note: string;
  /** All options; those that the file leaves out have their defaults. */
  readonly options: OracleOptions;
  readonly weights: readonly number[];
  readonly gradientScale: number;
  /** Per tensor. */
  readonly shapes: readonly (readonly number[])[];
  /** A layer tag per tensor. */
  readonly tags: readonly number[] | undefined;
  /** Options per tensor that differ from `options`. */
  readonly groups: readonly Partial<GroupOptions>[] | undefined;
  readonly steps: number;
  /** The steps, from 0, after which the outputs were kept. */
  readonly keptSteps: readonly number[];
  /** The largest error of the reference in float32; undefined where the reference lacks such an option. */
  readonly referenceMaxAbsError: number | undefined;
  readonly init: readonly Float32Array[];
  /** [step][term][tensor]; null = absent. */
  readonly gradients: readonly (readonly (readonly (Float32Array | null)[])[])[];
  /** By kept step. */
  readonly expected: ReadonlyMap<number, GoldenOutputs>;
  /** After the last step, in the cases of the reference. */
  readonly final: GoldenMoments | undefined;
}

export interface GoldenOutputs {
  /** θ per tensor, float64. */
  readonly parameters: readonly Float64Array[];
  /** θ as the reference gets it in float32, in the cases of the reference. */
  readonly referenceF32: readonly Float32Array[] | undefined;
  /** n, [term][tensor]; 0 where the pair never occurred. */
  readonly norms: readonly (readonly number[])[];
}

/** Each [term][tensor]. */
export interface GoldenMoments {
  readonly m: readonly (readonly Float64Array[])[];
  readonly v: readonly (readonly Float64Array[])[];
  /** With amsgrad: the largest v so far. */
  readonly vmax: readonly (readonly Float64Array[])[] | undefined;
}

/** The names of all cases. */
export function goldenCases(): string[] {
  const files = readdirSync(directory).filter((file) => file.endsWith(suffix));
  return files.map((file) => file.slice(0, -suffix.length)).sort();
}

export function readGolden(name: string): GoldenCase {
  const file = openGolden(join(directory, name + suffix));
  const { steps, gradientScale, tags, groups, options } = readHyperparameters(
    file.metadata("hyperparameters"),
  );
  const shapes = JSON.parse(file.metadata("layers")) as number[][];
  const keptSteps = JSON.parse(file.metadata("keptSteps")) as number[];
  const referenceError = file.optionalMetadata("referenceF32MaxAbsError");

  const tensors = [...shapes.keys()];
  const terms = [...Array(options.terms).keys()];
  const perTermAndTensor = (moment: string): Float64Array[][] =>
    terms.map((term) => tensors.map((tensor) => file.f64(`final.term${term}.layer${tensor}.${moment}`)));

  return {
    name,
    note: file.metadata("note"),
    options,
    weights: options.weights,
    gradientScale,
    shapes,
    tags,
    groups,
    steps,
    keptSteps,
    referenceMaxAbsError: referenceError === undefined ? undefined : Number(referenceError),
    init: tensors.map((tensor) => file.f32(`layer${tensor}.init`)),
    gradients: [...Array(steps).keys()].map((step) =>
      terms.map((term) =>
        tensors.map((tensor) => file.optionalF32(`step${step}.term${term}.layer${tensor}.grad`)),
      ),
    ),
    expected: new Map(
      keptSteps.map((step) => {
        const norms = tensors.map((tensor) => file.f64(`step${step}.layer${tensor}.norms`));
        const outputs: GoldenOutputs = {
          parameters: tensors.map((tensor) => file.f64(`step${step}.layer${tensor}.param`)),
          referenceF32:
            referenceError === undefined
              ? undefined
              : tensors.map((tensor) => file.f32(`step${step}.layer${tensor}.param_f32`)),
          norms: terms.map((term) =>
            norms.map((ofTensor) => present(ofTensor[term], `the norm of term ${term}`)),
          ),
        };
        return [step, outputs];
      }),
    ),
    final:
      referenceError === undefined
        ? undefined
        : {
            m: perTermAndTensor("m"),
            v: perTermAndTensor("v"),
            vmax: options.amsgrad ? perTermAndTensor("vmax") : undefined,
          },
  };
}

/** Options of a case to change in its oracle. */
export interface GoldenChanges {
  options?: Partial<OracleOptions>;
  gradientScale?: number;
  tags?: undefined;
  groups?: readonly Partial<GroupOptions>[] | undefined;
}

/** The oracle of a case, with options changed where asked. */
export function oracleOfCase(golden: GoldenCase, changes: GoldenChanges = {}): Oracle {
  return oracleOf({ ...golden, ...changes, options: { ...golden.options, ...changes.options } });
}

/**
 * Whether a term occurs in a tensor but takes no part in one of the tensor's steps. Exactly then, the two forms of
 * `firstMoment` are different rules, and a case holds only for the form that computed it.
 */
export function termsComeAndGo(golden: GoldenCase): boolean {
  const oracle = oracleOfCase(golden);
  const clocks = (): number[][] => oracle.tensors.map(({ terms }) => terms.map(({ clock }) => clock.steps));
  const steps = golden.gradients.map((gradients) => {
    const before = clocks();
    oracle.step(gradients, { gradientScale: golden.gradientScale });
    return clocks().map((ofTensor, tensor) => ofTensor.map((t, term) => t > before[tensor]![term]!));
  });
  return [...golden.shapes.keys()].some((tensor) => {
    const withSomeTerm = steps.map((step) => step[tensor]!).filter((terms) => terms.includes(true));
    return new Set(withSomeTerm.map((terms) => terms.join())).size > 1;
  });
}

/** The forms of the moments in which a case holds: that of the case first. */
export function formsOf(golden: GoldenCase): Form[] {
  const { firstMoment, secondMoment } = golden.options;
  const own = { firstMoment, secondMoment };
  if (secondMoment === "summed" || termsComeAndGo(golden)) return [own];
  return [own, { firstMoment: firstMoment === "summed" ? "perTerm" : "summed", secondMoment }];
}

/**
 * Throws unless the parameters (θ per tensor, after this kept step) are as close to the case as test/golden/README.md,
 * "Tolerance", demands.
 */
export function assertWithinTolerance(
  golden: GoldenCase,
  step: number,
  parameters: readonly ArrayLike<number>[],
): void {
  const outputs = present(golden.expected.get(step), `step ${step} of ${golden.name}`);
  const errors = difference(parameters, outputs.parameters);
  assertAtMost(golden, step, "largest absolute error", maxAbs(errors), maxAbsErrorAllowed(golden));

  if (outputs.referenceF32 !== undefined) {
    const referenceError = euclidean(difference(outputs.referenceF32, outputs.parameters));
    const allowed =
      1.25 * referenceError + 2e-8 * euclidean(outputs.parameters.map((values) => Array.from(values)).flat());
    assertAtMost(golden, step, "‖error‖₂", euclidean(errors), allowed);
  }
}

function maxAbsErrorAllowed({ referenceMaxAbsError }: GoldenCase): number {
  return referenceMaxAbsError === undefined ? 2e-7 : Math.max(2 * referenceMaxAbsError, 1e-7);
}

function assertAtMost(
  { name }: GoldenCase,
  step: number,
  what: string,
  measured: number,
  allowed: number,
): void {
  // The comparison is written so that NaN fails.
  if (!(measured <= allowed)) {
    const numbers = `${measured.toExponential(3)}, allowed ${allowed.toExponential(3)}`;
    throw new Error(`${name}, after step ${step}: ${what} ${numbers}`);
  }
}

/** Compares element by element over all tensors. */
export function difference(
  actual: readonly ArrayLike<number>[],
  expected: readonly ArrayLike<number>[],
): number[] {
  const lengths = (lists: readonly ArrayLike<number>[]): string => lists.map(({ length }) => length).join();
  if (lengths(actual) !== lengths(expected)) {
    throw new Error(`lengths differ: ${lengths(expected)} expected, ${lengths(actual)} came`);
  }
  return expected.flatMap((values, tensor) => {
    const compared = present(actual[tensor], `tensor ${tensor}`);
    return Array.from(values, (value, k) => present(compared[k], `element ${k}`) - value);
  });
}

export function maxAbs(values: readonly number[]): number {
  return values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

export function euclidean(values: readonly number[]): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

interface Hyperparameters {
  steps: number;
  gradientScale: number;
  tags: number[] | undefined;
  groups: Partial<GroupOptions>[] | undefined;
  options: OracleOptions;
}

/** An unknown key is an error: a test that ignores an option would pass for the wrong reason. */
function readHyperparameters(json: string): Hyperparameters {
  const { steps, gradientScale, tags, groups, ...given } = JSON.parse(json) as {
    steps: number;
    gradientScale?: number;
    tags?: number[];
    groups?: Partial<GroupOptions>[];
  } & Partial<OracleOptions> & { terms: number };
  const defaults = defaultOptions(given.terms);
  for (const options of [given, ...(groups ?? [])]) {
    const unknown = Object.keys(options).filter((key) => !(key in defaults));
    if (unknown.length > 0) throw new Error(`unknown hyperparameters: ${unknown.join(", ")}`);
  }
  return { steps, gradientScale: gradientScale ?? 1, tags, groups, options: { ...defaults, ...given } };
}

interface GoldenFile {
  metadata(key: string): string;
  optionalMetadata(key: string): string | undefined;
  f32(key: string): Float32Array;
  optionalF32(key: string): Float32Array | null;
  f64(key: string): Float64Array;
}

function openGolden(path: string): GoldenFile {
  const { metadata, tensors } = parseSafetensors(readFileSync(path));
  const data = (key: string, dtype: string): ArrayBuffer | undefined => {
    const tensor = tensors.get(key);
    if (tensor === undefined) return undefined;
    if (tensor.dtype !== dtype) throw new Error(`${path}: ${key} is ${tensor.dtype}, not ${dtype}`);
    return tensor.data;
  };
  return {
    metadata: (key) => present(metadata[key], `${path}: metadata ${key}`),
    optionalMetadata: (key) => metadata[key],
    f32: (key) => new Float32Array(present(data(key, "F32"), `${path}: ${key}`)),
    optionalF32: (key) => {
      const buffer = data(key, "F32");
      return buffer === undefined ? null : new Float32Array(buffer);
    },
    f64: (key) => new Float64Array(present(data(key, "F64"), `${path}: ${key}`)),
  };
}

function present<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`${what} is missing`);
  return value;
}
