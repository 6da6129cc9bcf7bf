/** Calls that must be refused with a code, and change nothing. */

import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { MTAdam, openDevice, type StateDict } from "../../../lib";
import { isOpen, takesTerms, withGetter, type Turn } from "./accepted";

/** A call, and the codes that it may be refused with. */
interface Refused {
  codes: string[];
  call: () => unknown;
}
/** Undefined where it does not apply. */
type Refusal = (turn: Turn) => Refused | undefined;

const other = openDevice("cpu", { threads: 1 });
const foreign = other.buffer(3);
const narrowForeign = other.buffer(3, "bfloat16");

class Mischief extends Error {
  override name = "Mischief";
}

const fail = (): never => {
  throw new Mischief();
};

const throwing = new Proxy(
  {},
  { get: fail, has: fail, ownKeys: fail, getOwnPropertyDescriptor: fail, getPrototypeOf: fail },
);

/** Values that no argument of this package may have, except where null and undefined stand for nothing. */
const NONSENSE: readonly unknown[] = [
  ...[NaN, -1, 1.5, Infinity, "", "nothing", true, Symbol("value"), -1n, 2n ** 64n],
  ...[
    () => 1,
    [1, [2]],
    { unknown: 1 },
    new Date(0),
    new Map(),
    new Float64Array(3),
    new Uint8Array(2),
    new ArrayBuffer(8),
  ],
  ...[
    new Proxy<unknown[]>([], {}),
    throwing,
    Object.create(null, { unknown: { value: 1, enumerable: true } }) as object,
    /x/,
    new WeakRef({}),
  ],
];

const ANY_MEMORY = ["DTYPE", "LENGTH", "HOST_POINTER", "INVALID_POINTER", "OPTION", "Mischief", "TypeError"];
const ANY_OPTION = ["OPTION", "TERM", "LENGTH", "Mischief", "TypeError"];

/** Arguments of a step of which one is wrong. */
const gradients: Refusal = ({ world, draw }) => {
  const table = world.table(draw, 1);
  const { terms, tensors } = world.shadow;
  const rows: unknown[][] = table.map((row) => row.map((handle) => handle!.data));
  const [term, parameter] = [draw.below(terms.length), draw.below(tensors.length)];
  const row = rows[term]!;
  const { length } = tensors[parameter]!;
  const dtype = world.fixed.gradientDtype;
  const set = (value: unknown): unknown[][] => {
    row[parameter] = value;
    return rows;
  };
  const named = (): Record<string, unknown> => Object.fromEntries(rows.map((one, k) => [terms[k]!, one]));
  const [codes, given] = draw.one<() => [string[], unknown]>([
    () => [["LENGTH"], rows.slice(1)],
    () => [["LENGTH"], [...rows, row]],
    () => [["TERM"], { ...named(), absent: row }],
    () => [["OPTION"], { ...named(), [terms[term]!]: { unknown: null } }],
    () => [["LENGTH"], { ...named(), [terms[term]!]: row.slice(1) }],
    () => [ANY_MEMORY, set(draw.one(NONSENSE))],
    () => [ANY_MEMORY, { ...named(), [terms[term]!]: draw.one(NONSENSE) }],
    () => [ANY_OPTION, draw.one([null, ...NONSENSE])],
    () => [["LENGTH"], set(world.device.buffer(length + 1, dtype))],
    () => [["DTYPE", "LENGTH"], set(world.device.buffer(length, "float64"))],
    () => [["INVALID_POINTER"], set(dtype === "float32" ? foreign : narrowForeign)],
    () => {
      const disposed = world.device.buffer(length, dtype);
      disposed.dispose();
      return [["DISPOSED"], set(disposed)];
    },
    () => {
      const { data } = world.parameters[parameter]!;
      const code = dtype === tensors[parameter]!.dtype ? "INVALID_POINTER" : "DTYPE";
      return length === 0 ? [["LENGTH"], []] : [[code], set(data)];
    },
  ])();
  const { optimizer } = world;
  const ofTerm = Array.isArray(given) ? (given as unknown[])[term] : row;
  const ways = [
    { codes, call: () => optimizer.step(given as never) },
    { codes, call: () => optimizer.prepare(given as never) },
    ...(row[parameter] !== table[term]![parameter]!.data && takesTerms(world)
      ? [{ codes, call: () => optimizer.accumulate(term, ofTerm as never) }]
      : []),
  ];
  return draw.one(ways);
};

/** One of the options of a step is wrong. */
const options: Refusal = ({ world, draw }) => {
  const { optimizer, shadow } = world;
  const table = world.table(draw);
  const { terms } = shadow;
  const [codes, given] = draw.one<() => [string[], object]>([
    () => [["OPTION"], { unknown: 1 }],
    () => [["OPTION"], { gradientscale: 1 }],
    () => [["OPTION"], { gradientScale: draw.one([0, -1, NaN, Infinity, 1e-46, 1e39, "1", null, 1n]) }],
    () => [["LENGTH"], { weights: [...terms, 1].map(() => 1) }],
    () => [["OPTION"], { weights: terms.map(() => draw.one([-1, NaN, Infinity, "1", null, 1e39])) }],
    () => [["TERM"], { weights: { absent: 1 } }],
    () => [ANY_OPTION, { weights: draw.one(NONSENSE) }],
    () => [ANY_OPTION, { stream: draw.one([NaN, -1, 1.5, "0", {}, [], throwing, 2n ** 64n]) }],
    () => [["Mischief"], withGetter({ gradientScale: 1 }, "gradientScale", fail)],
  ])();
  const gradients = world.gradients(table, draw);
  const next = [...terms.keys()].find((term) => !shadow.open?.has(term));
  const ways = [{ codes, call: () => optimizer.step(gradients, given) }];
  if (takesTerms(world)) {
    if (next !== undefined) ways.push({ codes, call: () => optimizer.accumulate(next, null, given) });
    ways.push({
      codes,
      call: () => optimizer.stepEach([() => null, ...terms.slice(1).map(() => null)], given) as never,
    });
  }
  return draw.one(ways);
};

const setters: Refusal = ({ world, draw }) => {
  const { optimizer, shadow } = world;
  return draw.one<() => Refused>([
    () => ({ codes: ["LENGTH"], call: () => (optimizer.weights = shadow.terms.map(() => 1).concat(1)) }),
    () => ({
      codes: ["OPTION"],
      call: () => (optimizer.weights = shadow.terms.map(() => draw.one([-1, NaN, Infinity]))),
    }),
    () => ({ codes: ["TERM"], call: () => (optimizer.weights = { absent: 1 }) }),
    () => ({
      codes: ["Mischief"],
      call: () => (optimizer.weights = withGetter({ [shadow.terms[0]!]: 1 }, shadow.terms[0]!, fail)),
    }),
    () => ({
      codes: ["OPTION"],
      call: () => (optimizer.lr = draw.one([-1, NaN, Infinity, 1e39, "1", null, 1n]) as never),
    }),
    () => ({
      codes: ["TypeError"],
      call: () => Object.assign(optimizer.paramGroups[0]!, { learningRate: 1 }),
    }),
    () => ({ codes: ["TypeError"], call: () => (optimizer.terms as string[]).push("more") }),
  ])();
};

/** An invalid option of a group is reported by the next step, and is then set back. */
const groupOptions: Refusal = ({ world, draw }) => {
  const { optimizer } = world;
  if (isOpen(world)) return undefined;
  const group = draw.one(optimizer.paramGroups);
  const [key, value] = draw.one<[string, unknown]>([
    ["lr", -1],
    ["lr", () => NaN],
    ["lr", fail],
    ["betas", [0.9, 1, 0.9]],
    ["betas", [0.9, 0.999]],
    ["betas", throwing],
    ["eps", 0],
    ["weightDecay", -1],
    ["decoupledWeightDecay", 1],
    ["maximize", undefined],
  ]);
  const before = group[key as "lr"];
  const gradients = world.gradients(world.table(draw), draw);
  return {
    codes: ["OPTION", "Mischief"],
    call: () => {
      try {
        Object.assign(group, { [key]: value });
        optimizer.step(gradients);
      } finally {
        Object.assign(group, { [key]: before });
      }
    },
  };
};

const terms: Refusal = ({ world, draw }) => {
  const { optimizer, shadow, fixed } = world;
  const { terms } = shadow;
  return draw.one<() => Refused | undefined>([
    () => ({
      codes: ["OPTION"],
      call: () => optimizer.addTerm(draw.one(["", "first", "max", "mean", terms[0]!, 5, null, {}]) as string),
    }),
    () => ({
      codes: ["TERM"],
      call: () => optimizer.removeTerm(draw.one(["absent", -1, 99, 0.5, NaN, null, {}]) as string),
    }),
    () =>
      terms.includes(fixed.anchor)
        ? { codes: ["OPTION"], call: () => optimizer.removeTerm(fixed.anchor) }
        : undefined,
    () => (terms.length === 1 ? { codes: ["OPTION"], call: () => optimizer.removeTerm(0) } : undefined),
    () =>
      takesTerms(world)
        ? { codes: ["TERM"], call: () => optimizer.accumulate(draw.one(["absent", -1, 99, 0.5]), null) }
        : { codes: ["OPTION"], call: () => optimizer.accumulate(0, null) },
    () =>
      takesTerms(world)
        ? draw.one([
            { codes: ["TERM"], call: () => optimizer.stepEach({ absent: () => null }) },
            { codes: ["OPTION"], call: () => optimizer.stepEach(terms.map(() => 1) as never) },
          ])
        : { codes: ["OPTION"], call: () => optimizer.stepEach(optimizer.terms.map(() => null)) },
    () => {
      const done = [...(shadow.open ?? [])];
      return done.length === 0
        ? undefined
        : { codes: ["STATE"], call: () => optimizer.accumulate(draw.one(done), null) };
    },
  ])();
};

const newGroup: Refusal = ({ world, draw }) => {
  const { optimizer, shadow, device } = world;
  const place = draw.one(shadow.tensors);
  const name = `new${draw.below(1000)}`;
  const betas = [0.9, 0.999, world.beta3];
  const [codes, group] = draw.one<() => [string[], unknown]>([
    () => [["OPTION"], { betas, parameters: [{ name: place.name, data: device.buffer(1) }] }],
    () => [["OPTION"], { betas, parameters: [] }],
    () => [["OPTION"], { betas, lr: -1, parameters: [device.buffer(1)] }],
    () => [["OPTION"], { betas, unknown: 1, parameters: [device.buffer(1)] }],
    () => [["LENGTH"], { betas, parameters: [{ name, data: device.buffer(2), length: 3 }] }],
    () => [["LENGTH"], { betas, parameters: [{ name, data: device.buffer(2), shape: [3] }] }],
    () => [["DTYPE"], { betas, parameters: [{ name, data: device.buffer(2, "float64") }] }],
    () => [
      ["DTYPE"],
      { betas, parameters: [{ name, data: device.buffer(2, "bfloat16"), dtype: "float16" }] },
    ],
    () => [["INVALID_POINTER"], { betas, parameters: [{ name, data: foreign }] }],
    () => [["Mischief"], { betas, parameters: [withGetter({ name, data: device.buffer(2) }, "name", fail)] }],
    () => {
      const { data } = world.parameters[shadow.tensors.indexOf(place)]!;
      return place.length === 0
        ? [["OPTION"], null]
        : [
            ["INVALID_POINTER"],
            { betas, parameters: [{ name, data, shape: [place.length], dtype: place.dtype }] },
          ];
    },
    () => [[...ANY_OPTION, ...ANY_MEMORY], draw.one(NONSENSE)],
    () => [[...ANY_OPTION, ...ANY_MEMORY], { betas, parameters: [draw.one(NONSENSE)] }],
  ])();
  return { codes, call: () => optimizer.addParamGroup(group as never) };
};

/** A state that does not fit, is incomplete or impossible. */
const state: Refusal = ({ world, draw }) => {
  const { optimizer } = world;
  const current = world.current(world.saved);
  const fits = current[0]?.state;
  const nonsense = {
    codes: ["CHECKPOINT", "OPTION", "Mischief", "TypeError"],
    call: () => optimizer.loadStateDict(draw.one([null, undefined, ...NONSENSE]) as StateDict),
  };
  if (fits === undefined) return nonsense;
  const { metadata } = fits;
  const keys = Object.keys(fits).filter((key) => key !== "metadata");
  const key = draw.one(keys);
  const required = draw.one(keys.filter((key) => key !== "skipped" && !key.startsWith("master.")));
  const change = draw.one<() => object>([
    () => ({ ...fits, [required]: undefined }),
    () => ({ ...fits, [key]: new Float32Array(99_991) }),
    () => ({ ...fits, [key]: draw.one([null, 1, "x", [], {}, new DataView(new ArrayBuffer(8))]) }),
    () => ({ ...fits, metadata: { ...metadata, terms: [...metadata.terms, "more"] } }),
    () => ({ ...fits, metadata: { ...metadata, version: 2 } }),
    () => ({ ...fits, metadata: { ...metadata, iterations: draw.one([-1, 0.5, NaN, 2 ** 60]) } }),
    () => ({ ...fits, metadata: { ...metadata, groups: [] } }),
    () => ({
      ...fits,
      metadata: { ...metadata, options: { ...metadata.options, amsgrad: !world.fixed.amsgrad } },
    }),
    () => ({ ...fits, metadata: { ...metadata, parameters: metadata.parameters.slice(1) } }),
    () => ({ ...fits, metadata: draw.one(NONSENSE) }),
    () => ({ ...fits, t: BigInt64Array.from(fits["t"] as BigInt64Array, () => -1n) }),
    () => ({ ...fits, occurred: Uint8Array.from(fits["occurred"] as Uint8Array, () => 2) }),
    () => ({ ...fits, P1: Float64Array.from(fits["P1"] as Float64Array, () => 2) }),
    () => ({ ...fits, n: Float64Array.from(fits["n"] as Float64Array, () => -1) }),
  ])();
  return draw.one([
    nonsense,
    { codes: ["CHECKPOINT", "Mischief"], call: () => optimizer.loadStateDict(change as StateDict) },
    {
      codes: ["OPTION"],
      call: () => optimizer.loadStateDict(fits, draw.one([{ strict: 1 }, { unknown: 1 }, 5]) as never),
    },
  ]);
};

const files: Refusal = ({ world, draw }) => {
  const { optimizer, folder } = world;
  const file = path.join(folder, "refused.safetensors");
  return draw.one<() => Refused>([
    () => ({ codes: ["ENOENT"], call: () => optimizer.load(path.join(folder, "absent")) }),
    () => ({ codes: ["OPTION"], call: () => optimizer.load(folder) }),
    () => ({ codes: ["OPTION"], call: () => optimizer.save(folder) }),
    () => ({ codes: ["ENOENT"], call: () => optimizer.save(path.join(folder, "absent", "file")) }),
    () => ({
      codes: ["OPTION", "Mischief"],
      call: () => optimizer.load(draw.one([null, 5, "", {}, throwing, "a\0b"]) as string),
    }),
    () => ({
      codes: ["OPTION", "Mischief"],
      call: () => optimizer.save(draw.one([null, 5, "", {}, throwing, "a\0b"]) as string),
    }),
    () => ({
      codes: ["Mischief"],
      call: () => optimizer.save(file, { onProgress: fail }),
    }),
    () => ({
      codes: ["CHECKPOINT"],
      call: async () => {
        await optimizer.save(file);
        const bytes = readFileSync(file);
        const cut = draw.below(bytes.length);
        writeFileSync(
          file,
          draw.chance(0.5) ? bytes.subarray(0, cut) : Buffer.concat([bytes, Buffer.alloc(1 + cut)]),
        );
        await optimizer.load(file);
      },
    }),
  ])();
};

const memory: Refusal = ({ world, draw }) => {
  const { device, optimizer } = world;
  const buffer = device.buffer(3);
  const disposed = device.buffer(3);
  disposed.dispose();
  return draw.one<() => Refused>([
    () => ({ codes: ["LENGTH"], call: () => buffer.upload(new Float32Array(4)) }),
    () => ({
      codes: ["DTYPE", "Mischief"],
      call: () => buffer.upload(draw.one([null, ...NONSENSE]) as Float32Array),
    }),
    () => ({ codes: ["LENGTH"], call: () => buffer.download(new Float32Array(2)) }),
    () => ({ codes: ["OPTION"], call: () => buffer.fill(draw.one(["1", null, 1n, {}]) as number) }),
    () => ({ codes: ["DISPOSED"], call: () => disposed.upload(new Float32Array(3)) }),
    () => ({ codes: ["DISPOSED"], call: () => disposed.download() }),
    () => ({ codes: ["DISPOSED"], call: () => disposed.fill(1) }),
    () => ({ codes: ["DISPOSED"], call: () => disposed.ptr }),
    () => ({
      codes: ["LENGTH", "DTYPE", "Mischief"],
      call: () => device.buffer(draw.one([-1, 0.5, NaN, 2 ** 41, {}, null, throwing, "3"]) as number),
    }),
    () => ({ codes: ["DTYPE"], call: () => device.buffer(3, "float8" as "float32") }),
    () => ({
      codes: [...ANY_MEMORY, ...ANY_OPTION],
      call: () => optimizer.addGradients([], draw.one([null, ...NONSENSE]) as never),
    }),
    () => ({
      codes: ["OPTION"],
      call: () => optimizer.onStats(draw.one([null, 1, {}]) as never),
    }),
    () => ({
      codes: ["OPTION"],
      call: () => optimizer.onStats(fail, { every: draw.one([0, 0.5, NaN, "1"]) as number }),
    }),
    () => ({
      codes: ["OPTION"],
      call: () => {
        new Proxy(optimizer, {}).step([]);
      },
    }),
    () => ({ codes: ["OPTION"], call: () => openDevice(draw.one(["gpu", "", 5, null]) as "cpu") }),
  ])();
};

const construction: Refusal = ({ world, draw }) => {
  const { device } = world;
  const given = { terms: 2, device };
  const data = device.buffer(3);
  return draw.one<() => Refused>([
    () => ({
      codes: ANY_OPTION,
      call: () => new MTAdam([data], draw.one([null, undefined, ...NONSENSE]) as never),
    }),
    () => ({
      codes: ANY_OPTION,
      call: () =>
        new MTAdam([data], {
          ...given,
          [draw.one(["terms", "betas", "amsgrad", "anchor", "unit"])]: draw.one([
            null,
            -1,
            "x",
            {},
            throwing,
          ]),
        }),
    }),
    () => ({
      codes: [...ANY_OPTION, ...ANY_MEMORY],
      call: () => new MTAdam(draw.one([null, undefined, ...NONSENSE]) as never, given),
    }),
    () => ({ codes: ANY_MEMORY, call: () => new MTAdam([data, draw.one(NONSENSE)] as never, given) }),
    () => ({ codes: ["INVALID_POINTER"], call: () => new MTAdam([data, data], given) }),
    () => ({
      codes: ["OPTION"],
      call: () =>
        new MTAdam(
          [
            { name: "a", data },
            { name: "a", data: device.buffer(1) },
          ],
          given,
        ),
    }),
    () => ({
      codes: ["OPTION", "TERM"],
      call: () => new MTAdam([data], { ...given, weights: { absent: 1 } }),
    }),
    () => ({ codes: ["OPTION"], call: () => new MTAdam([data], { ...given, preset: "none" as "paper" }) }),
  ])();
};

/** A call that the open step does not allow. */
const whileOpen: Refusal = ({ world, draw }) => {
  if (!isOpen(world)) return undefined;
  const { optimizer } = world;
  const call = draw.one<() => unknown>([
    () => optimizer.step(world.gradients(world.table(draw), draw)),
    () => optimizer.stateDict(),
    () => optimizer.save(path.join(world.folder, "open.safetensors")),
    () => optimizer.addTerm("more"),
    () => optimizer.removeTerm(0),
    () => optimizer.addParamGroup({ parameters: [world.device.buffer(1)] }),
    () => optimizer.refresh(),
    () => optimizer.captureStep({} as never),
  ]);
  return { codes: ["STATE"], call };
};

const stale: Refusal = ({ world, draw }) => {
  const old = world.prepared.filter(({ generation }) => generation !== world.generation);
  const graphs = world.captured.filter(({ generation }) => generation !== world.generation);
  const { optimizer } = world;
  const codes = ["STATE", "OPTION", "DISPOSED"];
  return draw.one<() => Refused | undefined>([
    () => (old.length === 0 ? undefined : { codes, call: () => optimizer.step(draw.one(old).object) }),
    () => (old.length === 0 ? undefined : { codes, call: () => draw.one(old).object.set(0, 0, null) }),
    () => (old.length === 0 ? undefined : { codes, call: () => draw.one(old).object.zero() }),
    () => (graphs.length === 0 ? undefined : { codes, call: () => draw.one(graphs).object.replay() }),
    () => ({
      codes: ["OPTION"],
      call: () => optimizer.captureStep(draw.one([null, 5, {}, throwing]) as never),
    }),
    () => (world.device.kind === "cpu" ? { codes: ["OPTION"], call: () => optimizer.refresh() } : undefined),
  ])();
};

/** Reading the arguments frees a gradient, or the memory of one. */
const freedMeanwhile: Refusal = ({ world, draw }) => {
  if (isOpen(world)) return undefined;
  const table = world.table(draw, 1);
  const { terms, tensors } = world.shadow;
  const [term, parameter] = [draw.below(terms.length), draw.below(tensors.length)];
  const buffer = world.device.buffer(tensors[parameter]!.length, world.fixed.gradientDtype);
  const rows = table.map((row) => row.map((handle) => handle!.data));
  rows[term]![parameter] = buffer;
  const dispose = (): void => buffer.dispose();
  const call = draw.one([
    () => world.optimizer.step(rows, withGetter({ gradientScale: 1 }, "gradientScale", dispose)),
    () => {
      const last = terms.at(-1)!;
      const named: Record<string, unknown> = Object.fromEntries(rows.map((row, k) => [terms[k]!, row]));
      world.optimizer.step(withGetter(named, last, dispose) as never);
    },
  ]);
  return { codes: ["DISPOSED"], call };
};

/** By name, with how often each is drawn. */
export const REFUSED: Readonly<Record<string, { often: number; refusal: Refusal }>> = {
  gradients: { often: 8, refusal: gradients },
  options: { often: 5, refusal: options },
  setters: { often: 3, refusal: setters },
  "options of a group": { often: 2, refusal: groupOptions },
  terms: { often: 3, refusal: terms },
  "a new group": { often: 3, refusal: newGroup },
  "a state": { often: 3, refusal: state },
  files: { often: 2, refusal: files },
  memory: { often: 4, refusal: memory },
  construction: { often: 3, refusal: construction },
  "while a step is open": { often: 3, refusal: whileOpen },
  "of earlier terms and parameters": { often: 2, refusal: stale },
  "memory freed meanwhile": { often: 2, refusal: freedMeanwhile },
};
