/** Calls with valid arguments. Each is checked against the twin and the shadow. */

import path from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { inspect } from "node:util";
import {
  DeviceBuffer,
  MTAdam,
  openDevice,
  tuneWeights,
  type HostArray,
  type LearningRate,
  type ParameterGroup,
  type StateDict,
  type StepOptions,
  type Weights,
} from "../../../lib";
import type { CallOptions } from "../oracle";
import type { Draw } from "./draw";
import { checkKept } from "./kept";
import { codesOf, valuesOf } from "./bfloat16";
import { Disagreement, LEAN_LENGTH } from "./shadow";
import {
  codeOf,
  drawDtype,
  drawGroup,
  drawLength,
  outcomeOf,
  sameBits,
  sameState,
  withData,
  type Table,
  type World,
} from "./world";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as (options?: { type: "minor" | "major" }) => void;

/** Everything that is unreachable, or what is young: the first takes a tenth of a second among Jest's own objects. */
function collectGarbage(draw: Draw): void {
  gc({ type: draw.chance(0.1) ? "major" : "minor" });
}

/** What a call needs: the world, and its own random choices. */
export interface Turn {
  readonly world: World;
  readonly draw: Draw;
}

export type Call = (turn: Turn) => unknown;

/** Returned by a call that does not apply, and was not made. */
export const SKIPPED = Symbol("skipped");

/** States in which the optimizer refuses calls that need a closed step, or all terms at once. */
export const isOpen = ({ shadow }: World): boolean => shadow.open !== undefined;
export const takesTerms = ({ fixed }: World): boolean => fixed.nonFinite !== "skipStep" && !fixed.cosines;

/** Weights as they are given, in order or some of them by name, and completed by the current ones. */
function drawWeights(
  { world, draw }: Turn,
  choices: readonly number[],
  current: readonly number[],
): { given: Weights; all: number[] } {
  const { terms } = world.shadow;
  const values = terms.map(() => draw.one(choices));
  if (draw.chance(0.5)) return { given: values, all: values };
  const some = terms.map(() => draw.chance(0.5));
  return {
    given: Object.fromEntries(terms.flatMap((term, k) => (some[k]! ? [[term, values[k]!] as const] : []))),
    all: values.map((value, k) => (some[k]! ? value : current[k]!)),
  };
}

/** Options of a step, and their values for the twin and the shadow. */
function stepOptions(
  { world, draw }: Turn,
  withStream = true,
): {
  given: StepOptions | undefined;
  call: CallOptions;
} {
  const call: CallOptions = {};
  const given: StepOptions = withStream && draw.chance(0.2) ? { stream: null } : {};
  if (draw.chance(0.3)) {
    const weights = drawWeights({ world, draw }, [1, 2, 0.25, 0], world.shadow.defaultWeights);
    given.weights = weights.given;
    call.weights = weights.all;
  }
  if (draw.chance(0.3)) call.gradientScale = given.gradientScale = draw.one([1024, 3, 0.5]);
  return { given: Object.keys(given).length === 0 && draw.chance(0.5) ? undefined : given, call };
}

/** An object with a getter that runs code of the user's in the middle of the call. */
export function withGetter<T extends object>(value: T, key: keyof T, run: () => void): T {
  const own = value[key];
  return Object.defineProperty({ ...value }, key, {
    enumerable: true,
    get() {
      run();
      return own;
    },
  });
}

/** A call that is BUSY in the middle of another one. */
function busyCall({ world, draw }: Turn): void {
  const { optimizer } = world;
  const inner = draw.one<() => void>([
    () => optimizer.step([]),
    () => optimizer.update(),
    () => optimizer.discard(),
    () => optimizer.accumulate(0, null),
    () => optimizer.addTerm("busy"),
    () => optimizer.removeTerm(0),
    () => optimizer.addParamGroup({ parameters: [] }),
    () => optimizer.prepare([]),
    () => optimizer.refresh(),
    () => optimizer.addGradients([], []),
  ]);
  let code = "accepted";
  try {
    inner();
  } catch (error) {
    code = codeOf(error);
  }
  if (code !== "BUSY") throw new Disagreement(`${String(inner)} in a getter: ${code}, not BUSY`);
}

const step: Call = (turn) => {
  const { world, draw } = turn;
  if (isOpen(world)) return SKIPPED;
  const table = world.table(draw);
  const { given, call } = stepOptions(turn);
  world.optimizer.step(world.gradients(table, draw), given);
  world.stepAll(table, call);
};

/** A step whose arguments run code that makes other calls, collects garbage or changes gradients. */
const stepWithGetters: Call = (turn) => {
  const { world, draw } = turn;
  if (isOpen(world)) return SKIPPED;
  const table = world.table(draw);
  const { given = {}, call } = stepOptions(turn);
  const run = draw.one([
    () => busyCall(turn),
    () => collectGarbage(draw),
    () => {
      upload(turn);
    },
  ]);
  const options = withGetter({ ...given, gradientScale: call.gradientScale ?? 1 }, "gradientScale", run);
  const rows = table.map((row) => world.termGradients(row, draw));
  const named: Record<string, unknown> = Object.fromEntries(
    rows.map((row, k) => [world.shadow.terms[k]!, row]),
  );
  const gradients = withGetter(named, draw.one(world.shadow.terms), run);
  world.optimizer.step(gradients as never, options);
  world.stepAll(table, call);
};

const accumulate: Call = (turn) => {
  const { world, draw } = turn;
  const { shadow } = world;
  const rest = [...shadow.terms.keys()].filter((term) => !shadow.open?.has(term));
  if (rest.length === 0 || !takesTerms(world)) return SKIPPED;
  const term = draw.one(rest);
  const row = world.row(draw);
  const { given, call } = stepOptions(turn);
  world.optimizer.accumulate(
    draw.chance(0.5) ? term : shadow.terms[term]!,
    world.termGradients(row, draw),
    given,
  );
  world.accumulateAll(term, row, call);
};

const update: Call = ({ world, draw }) => {
  world.changed();
  world.optimizer.update(draw.chance(0.3) ? { stream: null } : undefined);
  world.twin.update();
  world.shadow.update();
};

const discard: Call = ({ world }) => {
  world.changed();
  world.optimizer.discard();
  world.twin.discard();
  world.shadow.discard();
};

class CallbackFailed extends Error {}

const stepEach: Call = async (turn) => {
  const { world, draw } = turn;
  const { shadow, optimizer } = world;
  if (!takesTerms(world)) return SKIPPED;
  const { given, call } = stepOptions(turn);
  const rows = shadow.terms.map(() => (draw.chance(0.85) ? world.row(draw) : undefined));
  const failing = draw.chance(0.2) ? draw.below(rows.length) : -1;
  const accumulated: number[] = [];
  const callbacks = rows.map((row, term) => {
    if (row === undefined) return undefined;
    const run = (): unknown => {
      if (term === failing) throw new CallbackFailed("in a callback");
      if (draw.chance(0.1)) busyCall(turn);
      if (draw.chance(0.05)) collectGarbage(draw);
      accumulated.push(term);
      return world.termGradients(row, draw);
    };
    return draw.chance(0.5) ? run : async () => Promise.resolve().then(run);
  });
  world.changed();
  // A schedule gets the iterations of the beginning of the step.
  const defaults = call.weights ?? [...shadow.defaultWeights];
  const before = new Set(shadow.open);
  const promise = optimizer.stepEach(
    // An object must name a term.
    callbacks.every((callback) => callback === undefined)
      ? callbacks
      : (Object.fromEntries(
          callbacks.flatMap((callback, k) => (callback === undefined ? [] : [[shadow.terms[k]!, callback]])),
        ) as never),
    given,
  );
  if (draw.chance(0.3)) busyCall(turn);
  let failed = false;
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof CallbackFailed)) throw error;
    failed = true;
  }
  if (failed !== (failing >= 0 && rows[failing] !== undefined && !before.has(failing))) {
    throw new Disagreement(`stepEach ${failed ? "failed" : "did not fail"}`);
  }
  for (const term of accumulated) world.accumulateAll(term, rows[term]!, { ...call, weights: defaults });
  if (failed) return;
  world.twin.update();
  shadow.update();
};

const prepare: Call = ({ world, draw }) => {
  const table = world.table(draw);
  const object = world.optimizer.prepare(world.gradients(table, draw));
  world.prepared.push({ object, table, generation: world.generation });
  if (world.prepared.length > 4) world.prepared.shift();
};

const setPrepared: Call = ({ world, draw }) => {
  const current = world.current(world.prepared);
  if (current.length === 0) return SKIPPED;
  const { object, table } = draw.one(current);
  const { terms, tensors } = world.shadow;
  const [term, parameter] = [draw.below(terms.length), draw.below(tensors.length)];
  const handle = draw.chance(0.2) ? null : draw.one(world.pool[parameter]!);
  object.set(
    draw.chance(0.5) ? term : terms[term]!,
    draw.chance(0.5) ? parameter : tensors[parameter]!.name,
    handle?.data ?? null,
  );
  table[term]![parameter] = handle;
};

const zeroPrepared: Call = ({ world, draw }) => {
  const current = world.current(world.prepared);
  if (current.length === 0) return SKIPPED;
  const { object, table } = draw.one(current);
  object.zero();
  for (const handle of table.flat()) handle?.values.fill(0);
};

const stepPrepared: Call = (turn) => {
  const { world, draw } = turn;
  const current = world.current(world.prepared);
  if (current.length === 0 || isOpen(world)) return SKIPPED;
  const { object, table } = draw.one(current);
  const { given, call } = stepOptions(turn);
  world.optimizer.step(object, given);
  world.stepAll(table, call);
};

const captureStep: Call = ({ world, draw }) => {
  const current = world.current(world.prepared);
  if (current.length === 0 || isOpen(world) || world.device.kind === "cpu") return SKIPPED;
  const { object: prepared, table } = draw.one(current);
  const object = world.optimizer.captureStep(prepared);
  world.captured.push({ object, table: table.map((row) => [...row]), generation: world.generation });
  if (world.captured.length > 3) world.captured.shift()!.object.dispose();
};

const replay: Call = (turn) => {
  const { world, draw } = turn;
  const current = world.current(world.captured);
  if (current.length === 0 || isOpen(world)) return SKIPPED;
  const { object, table } = draw.one(current);
  const { given, call } = stepOptions(turn, false);
  object.replay(given);
  world.stepAll(table, call);
};

const refresh: Call = (turn) => {
  const { world } = turn;
  if (isOpen(world) || world.device.kind === "cpu") return SKIPPED;
  world.optimizer.refresh(stepOptions(turn).given);
};

// ---- Options ----

const setWeights: Call = ({ world, draw }) => {
  world.changed();
  const { given, all } = drawWeights({ world, draw }, [1, 0.5, 4, 0, 1e-3], world.shadow.weights);
  world.optimizer.weights = given;
  world.shadow.weights = all;
  world.twin.weights = all;
};

const setLearningRate: Call = ({ world, draw }) => {
  world.changed();
  const lr: number | LearningRate = draw.one<number | LearningRate>([0.05, 1e-3, 0, (n) => 0.1 / (1 + n)]);
  world.optimizer.lr = lr;
  world.twin.lr = lr;
  for (const group of world.shadow.groups) group.lr = lr;
};

const setGroupOption: Call = ({ world, draw }) => {
  world.changed();
  const index = draw.below(world.shadow.groups.length);
  const { betas, ...options } = drawGroup(draw, world.beta3);
  const key = draw.one([...Object.keys(options), "betas", "beta1"]);
  for (const groups of [world.optimizer.paramGroups, world.twin.paramGroups, world.shadow.groups]) {
    const group = groups[index]!;
    if (key === "beta1") (group.betas as number[])[0] = betas[0];
    else Object.assign(group, key === "betas" ? { betas: [...betas] } : { [key]: options[key as "lr"] });
  }
};

// ---- Terms and parameters ----

/** Adds or removes a term or parameters; the others must keep their state. */
async function reshape(world: World, change: () => void): Promise<void> {
  await world.verify();
  const before = await world.optimizer.stateDict();
  world.changed();
  change();
  world.generation += 1;
  await world.adopt();
  checkKept(before, await world.optimizer.stateDict());
}

const addTerm: Call = async ({ world }) => {
  const { shadow } = world;
  if (isOpen(world) || shadow.terms.length >= 7) return SKIPPED;
  const name = `term${++world.names}`;
  await reshape(world, () => {
    world.optimizer.addTerm(name);
    world.twin.addTerm(name);
    shadow.terms = [...shadow.terms, name];
    shadow.weights = [...shadow.weights, 1];
  });
};

const removeTerm: Call = async ({ world, draw }) => {
  const { shadow } = world;
  if (isOpen(world) || shadow.terms.length === 1) return SKIPPED;
  const term = draw.below(shadow.terms.length);
  const name = shadow.terms[term]!;
  if (name === world.fixed.anchor) return SKIPPED;
  const others = <T>(list: readonly T[]): T[] => list.filter((_, other) => other !== term);
  await reshape(world, () => {
    world.optimizer.removeTerm(draw.chance(0.5) ? term : name);
    world.twin.removeTerm(name);
    shadow.terms = others(shadow.terms);
    shadow.weights = others(shadow.weights);
  });
};

const addParamGroup: Call = async ({ world, draw }) => {
  const { shadow } = world;
  if (isOpen(world) || shadow.tensors.length >= 7) return SKIPPED;
  const group = drawGroup(draw, world.beta3);
  const places = Array.from({ length: 1 + draw.below(2) }, () => ({
    name: `q${++world.names}`,
    length: drawLength(draw),
    layer: draw.chance(0.4) ? draw.one(["shared", "other", "third"]) : undefined,
    group: shadow.groups.length,
    dtype: drawDtype(draw),
  }));
  const parameters = places.map((place) => world.makeParameter(place, draw));
  const options = (): Omit<ParameterGroup, "parameters"> => ({
    ...group,
    betas: [...group.betas] as [number, number, number],
  });
  const given = { ...options(), parameters: parameters.map((parameter) => parameter.given) };
  await reshape(world, () => {
    world.optimizer.addParamGroup(
      draw.chance(0.3) ? withGetter(given, "eps", () => busyCall({ world, draw })) : given,
    );
    world.twin.addParamGroup({
      ...options(),
      parameters: parameters.map(({ given, twin }) => withData(given, twin)),
    });
    world.parameters = [...world.parameters, ...parameters];
    world.pool = [...world.pool, ...places.map(({ length }) => world.makeHandles(length, draw))];
    shadow.tensors = [...shadow.tensors, ...places];
    shadow.groups = [...shadow.groups, group];
  });
};

// ---- State ----

const stateDict: Call = async ({ world }) => {
  if (isOpen(world)) return SKIPPED;
  const [state, twin] = await Promise.all([world.optimizer.stateDict(), world.twin.stateDict()]);
  sameState(state, twin);
  world.saved.push({ state, generation: world.generation });
  if (world.saved.length > 3) world.saved.shift();
};

/**
 * A state that was loaded. Without the groups' options: a schedule stays where the state has a number. Without masters, which
 * follow a parameter that has changed since.
 */
async function expectLoaded({ optimizer }: World, state: StateDict): Promise<void> {
  const comparable = (one: StateDict): StateDict => ({
    ...(Object.fromEntries(
      Object.entries(one).filter(([key]) => !key.startsWith("master.")),
    ) as unknown as StateDict),
    metadata: { ...one.metadata, groups: [] },
  });
  sameState(comparable(await optimizer.stateDict()), comparable(state));
}

const loadStateDict: Call = async ({ world, draw }) => {
  if (world.saved.length === 0) return SKIPPED;
  const { state, generation } = draw.one(world.saved);
  const isWhole = generation === world.generation;
  const options = isWhole && draw.chance(0.5) ? undefined : { strict: false };
  world.changed();
  await world.optimizer.loadStateDict(state, options);
  await world.twin.loadStateDict(state, options);
  world.shadow.discard();
  await world.adopt();
  if (isWhole) await expectLoaded(world, state);
};

const saveAndLoad: Call = async (turn) => {
  const { world, draw } = turn;
  if (isOpen(world)) return SKIPPED;
  await world.verify();
  const file = path.join(world.folder, `${draw.below(3)}.safetensors`);
  const state = await world.optimizer.stateDict();
  const saving = world.optimizer.save(
    file,
    draw.chance(0.3) ? { onProgress: () => busyCall(turn) } : undefined,
  );
  busyCall(turn);
  await saving;
  if (draw.chance(0.4)) step(turn);
  if (draw.chance(0.3)) await accumulate(turn);
  world.changed();
  const loading = world.optimizer.load(file);
  busyCall(turn);
  await loading;
  await world.twin.loadStateDict(state);
  world.shadow.discard();
  await world.adopt();
  await expectLoaded(world, state);
};

const diagnostics: Call = ({ world, draw }) => {
  world.read("diagnostics", world.optimizer.diagnostics(), world.twin.diagnostics());
  if (draw.chance(0.3)) world.read("norms", world.optimizer.norms(), world.twin.norms());
};

const onStats: Call = ({ world, draw }) => {
  if (world.listeners.length > 3) {
    world.listeners.shift()!();
    return;
  }
  const every = 1 + draw.below(3);
  const due: number[] = [];
  const endSteps = world.optimizer.onStep((iteration) => {
    if (iteration % every === 0) due.push(iteration);
  });
  const endStats = world.optimizer.onStats(
    ({ iteration, terms, layers, norms }) => {
      const expected = due.shift();
      if (iteration !== expected || norms.length !== terms.length * layers.length) {
        throw new Disagreement(
          `onStats: ${norms.length} norms in iteration ${iteration}; due was ${String(expected)}`,
        );
      }
    },
    { every },
  );
  world.listeners.push(() => {
    endSteps();
    endStats();
  });
};

// ---- Memory ----

/** Changes the elements of a gradient. */
function upload({ world, draw }: Turn): unknown {
  const handles = world.pool.flat();
  const handle = draw.one(handles);
  const { values, buffer } = handle;
  const fresh = draw.tensor(values.length, 10 ** (draw.below(5) - 2));
  if (fresh.length > 0 && draw.chance(0.06))
    fresh[draw.below(fresh.length)] = draw.one([NaN, Infinity, -Infinity]);
  values.set(world.stored(fresh));
  if (buffer === undefined) return SKIPPED; // an array, and no call
  const source = buffer.dtype === "float32" ? fresh : codesOf(fresh);
  buffer.upload(source, draw.chance(0.3) ? { stream: null } : undefined);
  // The array may be changed as soon as the call returns.
  return source.fill(7);
}

const fill: Call = ({ world, draw }) => {
  const { values, buffer } = draw.one(world.pool.flat());
  const value = draw.one([0, 1, -0.25, 1e-3]);
  values.set(world.stored(Float32Array.from(values).fill(value)));
  if (buffer === undefined) return SKIPPED;
  buffer.fill(value);
};

const download: Call = async ({ world, draw }) => {
  const { values, buffer } = draw.one(world.pool.flat());
  if (buffer === undefined) return SKIPPED;
  const isNarrow = buffer.dtype !== "float32";
  const elements = isNarrow ? codesOf(values) : values;
  const target = draw.chance(0.5) ? elements.slice() : undefined;
  target?.fill(7);
  const found = await buffer.download(target);
  // By values, since there is more than one code for NaN.
  sameBits("download", isNarrow ? valuesOf(found) : found, values);
};

/** A gradient's memory is freed, and another takes its place. */
const replaceGradient: Call = ({ world, draw }) => {
  const parameter = draw.below(world.pool.length);
  const handles = world.pool[parameter]!;
  const at = draw.below(handles.length);
  const old = handles[at]!;
  handles[at] = world.makeHandle(old.values.length, draw);
  const uses = ({ table }: { table: Table }): boolean => table.flat().includes(old);
  // Pointers do not keep memory alive: their owner must. Graphs and prepared gradients may still use it.
  const isUsed = world.prepared.some(uses) || world.captured.some(uses);
  if (old.data === old.buffer && !isUsed && draw.chance(0.7)) old.buffer.dispose();
};

const addGradients: Call = ({ world, draw }) => {
  const target = world.pool.map((handles) => draw.one(handles));
  const source = world.pool.map((handles, k) =>
    draw.chance(0.7) ? draw.one(handles.filter((handle) => handle !== target[k])) : null,
  );
  world.optimizer.addGradients(world.termGradients(target, draw), world.termGradients(source, draw));
  for (const [k, from] of source.entries()) {
    const { values, buffer } = target[k]!;
    if (from === null || buffer === undefined) continue;
    for (let i = 0; i < values.length; ++i) values[i]! += from.values[i]!;
    values.set(world.stored(values));
  }
};

const buffers: Call = async ({ world, draw }) => {
  const length = draw.one([0, 1, 5, 64, 300]);
  const dtype = draw.one(["float32", "float64", "float16", "bfloat16"] as const);
  const buffer = world.device.buffer(length, dtype);
  const zero = await buffer.download();
  if (zero.some((value) => value !== 0)) throw new Disagreement("a new buffer is not 0");
  const array = (
    dtype === "float32"
      ? new Float32Array(length)
      : dtype === "float64"
        ? new Float64Array(length)
        : new Uint16Array(length)
  ) as HostArray;
  for (let k = 0; k < length; ++k) array[k] = draw.below(60000);
  buffer.upload(array);
  sameBits(dtype, await buffer.download(), array);
  sameBits("from", await DeviceBuffer.from(array, world.device, dtype).download(), array);
  buffer.fill(1);
  if (new Set(await buffer.download()).size > 1) throw new Disagreement("a filled buffer has several values");
  // Otherwise it is collected.
  if (draw.chance(0.5)) buffer.dispose();
};

// ---- Objects ----

const summary: Call = ({ world }) => {
  const { optimizer, shadow } = world;
  const json = JSON.parse(JSON.stringify(optimizer)) as {
    terms: string[];
    weights: number[];
    iterations: number;
  };
  const { terms, weights, iterations } = json;
  const expected = [shadow.terms, shadow.weights, shadow.iterations];
  if (JSON.stringify([terms, weights, iterations]) !== JSON.stringify(expected)) {
    throw new Disagreement(`toJSON: ${JSON.stringify(json)}, not ${JSON.stringify(expected)}`);
  }
  if (!inspect(optimizer).startsWith("MTAdam {")) throw new Disagreement(inspect(optimizer));
  for (const object of [optimizer, world.device, ...world.prepared.map((each) => each.object)]) {
    try {
      structuredClone(object); // throws where the runtime can
    } catch (error) {
      if ((error as Error).name !== "DataCloneError") throw error;
    }
  }
};

const stateBytes: Call = ({ world, draw }) => {
  const { terms } = world.shadow;
  const bytes = MTAdam.stateBytes(
    world.parameters.map(({ given }) => given),
    { ...world.fixed, terms, device: world.device, betas: [0.9, 0.999, world.beta3] },
  );
  const { stateDtype } = world.fixed;
  const bytesOf = (length: number): number =>
    stateDtype === "float32" || length < LEAN_LENGTH ? 4 : stateDtype === "8bit" ? 1 : 2;
  const size = world.shadow.tensors.reduce((sum, { length }) => sum + bytesOf(length) * length, 0);
  const { firstMoment, secondMoment } = world.fixed;
  const ofTerms = firstMoment === "summed" ? terms.length + 1 : 2 * terms.length;
  const planes = secondMoment === "summed" ? 2 : ofTerms;
  if (bytes < planes * size) throw new Disagreement(`stateBytes: ${bytes}`);
  if (draw.chance(0.1)) openDevice("cpu", { threads: 1 + draw.below(3) }).dispose();
};

/** The optimizer is disposed of, and one over the same parameters takes its place. */
const renew: Call = async ({ world, draw }) => {
  await Promise.all(world.readings.splice(0));
  const { optimizer } = world;
  const { iterations } = world.shadow;
  optimizer.dispose();
  if (optimizer.iterations !== iterations)
    throw new Disagreement(`iterations after dispose: ${optimizer.iterations}`);
  const calls: (() => unknown)[] = [
    () => optimizer.step([]),
    () => optimizer.update(),
    () => optimizer.discard(),
    () => optimizer.stateDict(),
    () => optimizer.norms(),
    () => optimizer.synchronize(),
    () => optimizer.addTerm("x"),
    () => optimizer.save("nowhere"),
    ...world.captured.map(({ object }) => () => {
      object.replay();
    }),
    ...world.current(world.prepared).flatMap(({ object }) => [
      () => {
        object.zero();
      },
      () => {
        object.set(0, 0, null);
      },
    ]),
  ];
  for (const call of calls) {
    const code = await outcomeOf(call);
    if (code !== "DISPOSED") throw new Disagreement(`${String(call)} after dispose: ${code}`);
  }
  if (draw.chance(0.5)) optimizer.dispose();
  world.renew();
  if (draw.chance(0.5)) collectGarbage(draw);
  await world.adopt();
};

const synchronize: Call = async ({ world, draw }) => {
  if (draw.chance(0.5)) world.optimizer.synchronizeSync();
  else await world.optimizer.synchronize();
};

const garbage: Call = async ({ draw }) => {
  collectGarbage(draw);
  await new Promise(setImmediate);
};

const tune: Call = async ({ draw }) => {
  const terms = ["a", "b"] as const;
  const best = draw.one([0.1, 10]);
  const { weights } = await tuneWeights(({ a, b }) => Math.abs(a / b - best), {
    terms,
    steps: 9,
    seed: draw.below(99),
  });
  if (!(weights.a > 0 && weights.b > 0)) throw new Disagreement(`tuneWeights: ${JSON.stringify(weights)}`);
};

/** By name, with how often each is drawn. */
export const ACCEPTED: Readonly<Record<string, { often: number; call: Call }>> = {
  step: { often: 10, call: step },
  "step with getters": { often: 3, call: stepWithGetters },
  accumulate: { often: 10, call: accumulate },
  update: { often: 7, call: update },
  discard: { often: 1, call: discard },
  stepEach: { often: 3, call: stepEach },
  prepare: { often: 2, call: prepare },
  "prepared.set": { often: 2, call: setPrepared },
  "prepared.zero": { often: 1, call: zeroPrepared },
  "step with prepared gradients": { often: 4, call: stepPrepared },
  captureStep: { often: 1, call: captureStep },
  replay: { often: 3, call: replay },
  refresh: { often: 1, call: refresh },
  weights: { often: 2, call: setWeights },
  lr: { often: 2, call: setLearningRate },
  paramGroups: { often: 3, call: setGroupOption },
  addTerm: { often: 1, call: addTerm },
  removeTerm: { often: 1, call: removeTerm },
  addParamGroup: { often: 1, call: addParamGroup },
  stateDict: { often: 2, call: stateDict },
  loadStateDict: { often: 1, call: loadStateDict },
  "save and load": { often: 1, call: saveAndLoad },
  diagnostics: { often: 3, call: diagnostics },
  onStats: { often: 1, call: onStats },
  upload: { often: 4, call: upload },
  fill: { often: 1, call: fill },
  download: { often: 1, call: download },
  "a gradient is replaced": { often: 2, call: replaceGradient },
  addGradients: { often: 2, call: addGradients },
  buffers: { often: 1, call: buffers },
  toJSON: { often: 1, call: summary },
  stateBytes: { often: 1, call: stateBytes },
  "dispose and make another": { often: 1, call: renew },
  synchronize: { often: 1, call: synchronize },
  "collect garbage": { often: 1, call: garbage },
  tuneWeights: { often: 0.1, call: tune },
};
