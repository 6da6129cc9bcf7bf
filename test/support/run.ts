import {
  MTAdam,
  type DeviceBuffer,
  type MTAdamOptions,
  type ParameterDescription,
  type StateDict,
} from "../../lib";
import type { Device } from "../../lib/memory/device";
import type { OracleOptions } from "./oracle";

/** A model and its training as data, so that it can be run in every way that must give the same bits. */
export interface Experiment {
  readonly init: readonly Float32Array[];
  /** A layer tag per tensor. */
  readonly tags?: readonly (string | number | undefined)[] | undefined;
  /** Options per tensor. */
  readonly groups?: readonly Partial<MTAdamOptions>[] | undefined;
  readonly options: MTAdamOptions;
  readonly gradientScale?: number;
  /** [step][term][tensor]; null = absent. */
  readonly gradients: readonly (readonly (readonly (Float32Array | null)[])[])[];
}

/** The ways to take a step. Where the anchor is the first term, all give the same bits. */
const WAYS = ["step", "accumulate", "stepEach", "prepared"] as const;
export type Way = (typeof WAYS)[number];

const comesAtOnce = (way: Way): boolean => way === "step" || way === "prepared";

/** The ways that these options allow: only a step with all terms at once can be skipped as a whole. */
export function waysOf({ nonFinite }: MTAdamOptions): Way[] {
  return WAYS.filter((way) => nonFinite !== "skipStep" || comesAtOnce(way));
}

/**
 * The simplest way with the same bits as this one. Anchors other than "first" depend on the norms known when a term
 * comes.
 */
export function plainestLike(way: Way, { anchor = "first" }: MTAdamOptions): "step" | "accumulate" {
  return anchor === "first" || comesAtOnce(way) ? "step" : "accumulate";
}

/** The oracle's options by the library's names: terms are named by their number. */
export function libraryOptions(options: Partial<OracleOptions> & { terms: number }): MTAdamOptions {
  const { anchor, ...others } = options;
  return { ...others, ...(anchor === undefined ? {} : { anchor: String(anchor) }) };
}

export interface RunOptions {
  readonly device: Device;
  readonly way?: Way;
  /** Before this step, the state is saved and a fresh optimizer continues with it. */
  readonly restoreBefore?: number;
  /** Called after every step with θ per tensor. */
  readonly afterStep?: (step: number, parameters: Float32Array[], optimizer: MTAdam) => Promise<void> | void;
}

export interface Outcome {
  /** θ per tensor, after the last step. */
  readonly parameters: Float32Array[];
  readonly state: StateDict;
}

/** An optimizer over buffers of `device` that start as `init`. */
export function makeOptimizer(
  { tags, groups, options }: Experiment,
  init: readonly Float32Array[],
  device: Device,
): { optimizer: MTAdam; buffers: DeviceBuffer<"float32">[] } {
  const buffers = init.map((values) => device.buffer(values));
  const parameters = buffers.map((data, tensor): ParameterDescription => {
    const tag = tags?.[tensor];
    return { name: `tensor${tensor}`, data, ...(tag === undefined ? {} : { layer: `tag ${tag}` }) };
  });
  const described =
    groups === undefined
      ? parameters
      : parameters.map((parameter, k) => ({ parameters: [parameter], ...groups[k] }));
  return { optimizer: new MTAdam(described, options), buffers };
}

export async function run(experiment: Experiment, options: RunOptions): Promise<Outcome> {
  const { device, way = "step", restoreBefore, afterStep } = options;
  let { optimizer, buffers } = makeOptimizer(experiment, experiment.init, device);
  for (const [step, gradients] of experiment.gradients.entries()) {
    if (step === restoreBefore) {
      const state = await optimizer.stateDict();
      const fresh = makeOptimizer(experiment, await downloadAll(buffers), device);
      await fresh.optimizer.loadStateDict(state);
      optimizer.dispose();
      ({ optimizer, buffers } = fresh);
    }
    const onDevice = gradients.map((ofTerm) => ofTerm.map((values) => values && device.buffer(values)));
    await takeStep(optimizer, onDevice, way, experiment.gradientScale);
    for (const buffer of onDevice.flat()) buffer?.dispose();
    await afterStep?.(step, await downloadAll(buffers), optimizer);
  }
  const outcome = { parameters: await downloadAll(buffers), state: await optimizer.stateDict() };
  optimizer.dispose();
  return outcome;
}

async function takeStep(
  optimizer: MTAdam,
  gradients: (DeviceBuffer | null)[][],
  way: Way,
  gradientScale = 1,
): Promise<void> {
  const options = { gradientScale };
  switch (way) {
    case "step":
      optimizer.step(gradients, options);
      break;
    case "accumulate":
      for (const [term, ofTerm] of gradients.entries()) optimizer.accumulate(term, ofTerm, options);
      optimizer.update();
      break;
    case "stepEach":
      await optimizer.stepEach(
        gradients.map((ofTerm, term) => (term % 2 === 0 ? () => ofTerm : () => Promise.resolve(ofTerm))),
        options,
      );
      break;
    case "prepared":
      optimizer.step(optimizer.prepare(gradients), options);
      break;
  }
}

function downloadAll(buffers: readonly DeviceBuffer<"float32">[]): Promise<Float32Array[]> {
  return Promise.all(buffers.map((buffer) => buffer.download()));
}

/** Throws unless parameters and state have the same bits (NaNs count as equal). */
export function expectSameBits(actual: Outcome, expected: Outcome): void {
  for (const [tensor, values] of expected.parameters.entries()) {
    expectEqual(`tensor ${tensor}`, actual.parameters[tensor], values);
  }
  expect(actual.state.metadata).toEqual(expected.state.metadata);
  expect(Object.keys(actual.state)).toEqual(Object.keys(expected.state));
  for (const [key, values] of Object.entries(expected.state)) {
    if (key === "metadata") continue;
    expectEqual(key, actual.state[key] as Float32Array, values as Float32Array);
  }
}

// Jest compares large arrays element by element through its matchers, which takes seconds.
function expectEqual(
  what: string,
  actual: ArrayLike<unknown> | undefined,
  expected: ArrayLike<unknown>,
): void {
  if (actual?.length !== expected.length) throw new Error(`${what}: lengths differ`);
  for (let k = 0; k < expected.length; ++k) {
    if (Object.is(actual[k], expected[k])) continue;
    throw new Error(`${what}, element ${k}: ${String(actual[k])} is not ${String(expected[k])}`);
  }
}
