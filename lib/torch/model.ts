import { native } from "../addon/native";
import { checkBoolean, checkKeys } from "../arguments";
import type { PathLike } from "../checkpoint/options";
import { fromNative, mustBe } from "../errors";
import { isArray, nameClass } from "../inspect";
import { Names } from "../per-name";
import type { DeviceBuffer } from "../memory/device";
import { DTYPES, type ParameterDtype } from "../memory/dtype";
import { checkReceivers } from "../receiver";
import { makeUncloneable } from "../uncloneable";
import { CudaMemory } from "./cuda-memory";
import { placeTensors } from "./layout";
import {
  checkArguments,
  checkOptions,
  checkSignal,
  type PythonArguments,
  type TorchCallOptions,
  type TorchDeviceOptions,
  type TorchGradientsOptions,
  type TorchOptions,
} from "./options";
import { TorchProcess } from "./process";
import type { PythonValue } from "./wire";

/**
 * Memory that the Python process shares: of a model on the CPU an array (of parameters of 16 bits, of their bits), on a CUDA
 * device a buffer.
 */
export type TorchData = Float32Array | Uint16Array | DeviceBuffer<ParameterDtype>;

/** A parameter of the model, as `new MTAdam` takes it. Its elements lie in memory that the Python process shares. */
export interface TorchParameter<Data extends TorchData = Float32Array> {
  readonly name: string;
  readonly data: Data;
  readonly shape: readonly number[];
  readonly dtype: ParameterDtype;
  readonly gradientDtype: ParameterDtype;
}

/**
 * The gradients by term, then by parameter, as `optimizer.step` takes them; null = absent. The arrays are the same in every
 * call: the next call overwrites them.
 */
export type TorchGradients<Data extends TorchData = Float32Array> = Record<
  string,
  Record<string, Data | null> | null
>;

/** What the process tells about the model. */
interface Plan {
  terms: string[];
  parameters: { name: string; shape: number[]; dtype: ParameterDtype }[];
}

interface GradientsAnswer {
  losses: Record<string, number | null>;
  /** Per term the indices of the parameters that it did not reach; null: the term is absent. */
  absent: (number[] | null)[];
}

/**
 * Opens a PyTorch model in a Python process of its own, to be trained from here: `await openTorch("model.py")`.
 *
 * The file defines a class `Model`, a `torch.nn.Module` with `terms`, a list of the names of the loss terms, and
 * `losses(batch)`, which returns a dict of one scalar per term. Linux only; the parameters must be float32, float16 or
 * bfloat16, on the CPU or, with the option `device`, on that device. For a model on the CPU with parameters of 16 bits, say
 * so to TypeScript: `openTorch<Float32Array | Uint16Array>(…)`.
 *
 * @param file the path or the file URL of the Python file
 * @throws MTAdamError OPTION, OUT_OF_MEMORY; TORCH where the process, PyTorch or the model fails; with `device` also CUDA,
 *   INVALID_POINTER, DISPOSED
 */
export async function openTorch(
  file: PathLike,
  options: TorchDeviceOptions,
): Promise<TorchModel<DeviceBuffer<ParameterDtype>>>;
export async function openTorch<Data extends Float32Array | Uint16Array = Float32Array>(
  file: PathLike,
  options?: TorchOptions,
): Promise<TorchModel<Data>>;
export async function openTorch(
  file: PathLike,
  options?: TorchOptions | TorchDeviceOptions,
): Promise<TorchModel<TorchData>> {
  const checked = checkOptions(file, options);
  const { signal, args, device } = checked;
  signal?.throwIfAborted();
  const memory = fromNative(() => new native.SharedMemory());
  const own = new TorchProcess(checked, memory.descriptor);
  const abort = (): void => own.kill();
  signal?.addEventListener("abort", abort);
  try {
    const plan = (await own.request("Model", {
      command: "open",
      file: checked.file,
      args,
      memory: device === undefined ? "cpu" : "cuda",
    })) as Plan;
    const layout = placeTensors(plan.parameters, plan.terms.length);
    const map = (): Promise<unknown> => own.request("openTorch", { command: "map", ...layout.message });
    if (device !== undefined) {
      const handle = (await map()) as { data: Uint8Array };
      return new TorchModel<TorchData>(token, own, plan, new CudaMemory(device, handle.data, layout));
    }
    const elementBytes = Float64Array.from(layout.dtypes, (dtype) => DTYPES[dtype].bytes);
    const buffers = fromNative(() =>
      memory.map(layout.byteLength, layout.offsets, layout.lengths, elementBytes),
    );
    await map();
    return new TorchModel<TorchData>(token, own, plan, { buffers });
  } catch (error) {
    own.kill();
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

const token = Symbol("TorchModel");

/** Where the tensors of a model lie. On the CPU, there is nothing to wait for, and the arrays stay valid. */
interface SharedTensors<Data> {
  /** The parameters, then each term's gradients. */
  readonly buffers: readonly Data[];
  ready?(): Promise<void>;
  dispose?(): void;
}

/** Kills the process of a model that nothing refers to. */
const forgotten = new FinalizationRegistry<{ own: TorchProcess; tensors: SharedTensors<unknown> }>(
  ({ own, tensors }) => {
    tensors.dispose?.();
    own.kill();
  },
);

/** A PyTorch model that is trained from here. {@link openTorch} makes it. */
export class TorchModel<Data extends TorchData = Float32Array> {
  readonly #process: TorchProcess;
  readonly #tensors: SharedTensors<Data>;
  readonly #terms: Names;
  readonly #names: Names;
  /** By term, then by parameter. */
  readonly #gradients: readonly (readonly Data[])[];
  #losses: Readonly<Record<string, number | null>> = {};
  /** In the order of `model.named_parameters()`, without those that require no gradient. */
  readonly parameters: readonly TorchParameter<Data>[];

  /** @internal */
  constructor(key: symbol, own: TorchProcess, plan: Plan, tensors: SharedTensors<Data>) {
    if (key !== token) throw mustBe("OPTION", "TorchModel", "be made by `openTorch`", undefined);
    const count = plan.parameters.length;
    const { buffers } = tensors;
    this.#process = own;
    this.#tensors = tensors;
    this.#terms = new Names("term", plan.terms);
    this.#names = new Names(
      "parameter",
      plan.parameters.map(({ name }) => name),
    );
    this.parameters = plan.parameters.map(({ name, shape, dtype }, k) => ({
      name,
      data: buffers[k]!,
      shape,
      dtype,
      gradientDtype: dtype,
    }));
    this.#gradients = plan.terms.map((_, term) => buffers.slice((term + 1) * count, (term + 2) * count));
    forgotten.register(this, { own, tensors }, this);
    void own.ended.then(() => tensors.dispose?.());
    makeUncloneable(this);
  }

  /** The names of the loss terms, for the option `terms` of `new MTAdam`. */
  get terms(): readonly string[] {
    return this.#terms.list;
  }

  /** The losses of the last {@link gradients}; null where the term was absent. Empty before. */
  get losses(): Readonly<Record<string, number | null>> {
    return this.#losses;
  }

  /**
   * Calls `losses(batch)` once, and computes the gradient of each term: `optimizer.step(await model.gradients(batch))`.
   * The batch's arrays must not change until the promise has settled. With `add: true`, the result is the sum with the
   * gradients of the calls before: for micro-batches.
   *
   * @throws MTAdamError TORCH where Python raised an exception or the process ended; OPTION, TERM, DTYPE, LENGTH, BUSY,
   *   DISPOSED
   */
  async gradients(batch: PythonValue, options?: TorchGradientsOptions): Promise<TorchGradients<Data>> {
    const keys = ["signal", "terms", "parameters", "add"];
    const given = checkKeys<TorchGradientsOptions>("options", options, keys);
    const { add = false } = given;
    const terms = select("terms", this.#terms, given.terms);
    const parameters = select("parameters", this.#names, given.parameters);
    if (this.#tensors.ready !== undefined) await this.#tensors.ready();
    const answer = (await this.#process.request(
      "gradients",
      { command: "gradients", batch, terms, parameters, add: checkBoolean("add", add) },
      { signal: checkSignal(given.signal), owner: this },
    )) as GradientsAnswer;
    this.#losses = answer.losses;
    return Object.fromEntries(
      terms.map((term, k) => [this.terms[term]!, this.#ofTerm(term, parameters, answer.absent[k] ?? null)]),
    );
  }

  #ofTerm(
    term: number,
    parameters: readonly number[],
    absent: readonly number[] | null,
  ): Record<string, Data | null> | null {
    if (absent === null) return null;
    const missing = new Set(absent);
    return Object.fromEntries(
      parameters.map((k) => [this.#names.list[k]!, missing.has(k) ? null : this.#gradients[term]![k]!]),
    );
  }

  /**
   * Calls a method of the model, for example one that evaluates it: `await model.call("accuracy", [images, labels])`.
   *
   * @param args a list in order, or an object by keyword
   * @returns what the method returns: a tensor as `{ data, shape }`, a tensor without dimensions as a number
   * @throws MTAdamError as {@link gradients}
   */
  async call(method: string, args?: PythonArguments, options?: TorchCallOptions): Promise<unknown> {
    if (typeof method !== "string" || method === "") {
      throw mustBe("OPTION", "method", "be the name of a method of the model", method);
    }
    const { signal } = checkKeys<TorchCallOptions>("options", options, ["signal"]);
    if (this.#tensors.ready !== undefined) await this.#tensors.ready();
    return this.#process.request(
      method,
      { command: "call", name: method, args: checkArguments("args", args ?? []) },
      { signal: checkSignal(signal), owner: this },
    );
  }

  /**
   * Ends the process; a call that has not settled rejects with DISPOSED. The arrays of parameters and gradients stay
   * readable, and their memory is given back once nothing refers to them. Buffers of a CUDA device are disposed of.
   */
  async close(): Promise<void> {
    forgotten.unregister(this);
    this.#tensors.dispose?.();
    await this.#process.close();
  }

  /** The same as {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  static {
    const isModel = (value: unknown): boolean =>
      typeof value === "object" && value !== null && #process in value;
    checkReceivers("a TorchModel", this.prototype, isModel);
    nameClass(this.prototype, "TorchModel");
  }
}

function select(subject: string, names: Names, given: unknown): number[] {
  if (given === undefined) return names.list.map((_, k) => k);
  if (!isArray(given)) throw mustBe("OPTION", subject, "be a list of names", given);
  return [...new Set(given.map((name) => names.indexOf(name)))];
}
