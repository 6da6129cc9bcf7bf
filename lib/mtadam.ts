import {
  native,
  packValues,
  valuesLength,
  type GroupValues,
  type NativeOptimizer,
  type NativeShape,
  type NativeStream,
} from "./addon/native";
import { checkKeys } from "./arguments";
import type { ReplayOptions, StepOptions } from "./call-options";
import { capturedKey, CapturedStep } from "./captured-step";
import { checkDict, DictSource, restoreDict, stateDict } from "./checkpoint/dict";
import { CheckpointFile, deferErrors, saveCheckpoint, type ProgressListener } from "./checkpoint/file";
import type { Restoration } from "./checkpoint/restore";
import type { StateDict, StateOwner } from "./checkpoint/state";
import { readDiagnostics, StatsListeners, type Diagnostics, type StatsListener } from "./diagnostics";
import { fromNative, fromNativePromise, MTAdamError, mustBe } from "./errors";
import {
  GradientTable,
  PreparedGradients,
  preparedKey,
  type Gradients,
  type GradientTarget,
  type TermGradients,
} from "./gradients";
import { isArray, isPlainObject } from "./inspect";
import { addonOf, nativeDevice, type Device } from "./memory/device";
import { checkSource, nativeSource, recheckSource } from "./memory/source";
import { SourceList } from "./memory/source-list";
import { checkStream, type StreamLike } from "./memory/stream";
import {
  checkGradientScale,
  checkNewTerm,
  checkOptions,
  checkWeights,
  learningRate,
  recheckGroup,
  unknownTerm,
  type CheckedOptions,
  type GroupOptions,
  type LearningRate,
  type MTAdamOptions,
  type Weights,
} from "./options";
import {
  checkLayerBetas,
  flattenParameters,
  withGroup,
  type FlatParameters,
  type Parameter,
  type ParameterGroup,
  type Parameters,
} from "./parameters";

export interface SaveOptions {
  /** Called again and again, at last with `bytes === total`. */
  onProgress?: ProgressListener;
}

export interface LoadOptions extends SaveOptions {
  /** False: load what matches, and leave the rest as it is. Default true. */
  strict?: boolean;
}

/** The options of a group as they stand; a change is checked and takes effect at the next step. */
export interface ParamGroup extends GroupOptions {
  betas: [number, number, number];
  /** The names of its parameters. */
  readonly parameters: readonly string[];
}

/** Whatever handed out the stream of an optimizer's last call: alive until it is given another. */
const streamOwners = new WeakMap<MTAdam, unknown>();

type MaybePromise<T> = T | PromiseLike<T>;
/** Runs one term's backward pass and gives its gradients; null: the term is absent in this step. */
export type TermCallback = () => MaybePromise<TermGradients>;
/** A callback per term, in order or by name. */
export type TermCallbacks =
  readonly (TermCallback | null | undefined)[] | Readonly<Record<string, TermCallback | null | undefined>>;

/**
 * MTAdam (Malkiel and Wolf 2020, arXiv:2006.14683): Adam for a loss of several terms. Takes the gradient of each term
 * separately, rescales the terms to the same norm in every layer, keeps Adam's moments per term, and divides the sum
 * of the steps by the largest second moment. One term alone is Adam.
 *
 * @example
 * const optimizer = new MTAdam([weight, bias], { terms: ["content", "style"], lr: 1e-3 });
 * optimizer.step({ content: [weightGrad0, biasGrad0], style: [weightGrad1, biasGrad1] });
 */
export class MTAdam {
  #flat: FlatParameters;
  /** Of the parameters. */
  #sources: SourceList;
  #indices: ReadonlyMap<string, number>;
  #options: CheckedOptions;
  #groups: readonly ParamGroup[];
  /** Of the gradients of one call. */
  #table: GradientTable | undefined;
  #values: Float64Array;
  readonly #stream: NativeStream;
  #native: NativeOptimizer | undefined;
  #weights: readonly number[];
  #iterations = 0;
  readonly #listeners = new StatsListeners();
  /** Of diagnostics; never rejects. */
  #lastReading: Promise<unknown> = Promise.resolve();
  /** The terms accumulated in the open step. */
  readonly #accumulated = new Set<number>();
  #isOpen = false;
  /** The weights when the open step began. */
  #weightsOfStep: readonly number[] = [];
  /** Another one whenever terms or parameters come or go: what was made for those of before is of no more use. */
  #era = {};
  /** The call that has not ended: it waits for a promise, or runs code of the user's to read its arguments. */
  #busy: string | undefined;
  /** A load broke off while it changed the state, which is then of two halves. */
  #isTorn = false;

  /**
   * @param parameters parameters, or groups of them; updated in place by every step
   * @throws MTAdamError OPTION, TERM, LENGTH, DTYPE, HOST_POINTER, INVALID_POINTER, DISPOSED, OUT_OF_MEMORY, CUDA
   */
  constructor(parameters: Parameters, options: MTAdamOptions) {
    const checked = checkOptions(options);
    const flat = flattenParameters(parameters, checked.group, checked.device);
    this.#stream = checkStream(checked.stream);
    streamOwners.set(this, checked.stream);
    this.#options = checked;
    this.#flat = flat;
    this.#sources = sourcesOf(flat);
    this.#weights = Object.freeze(checked.weights);
    this.#indices = new Map(flat.parameters.map(({ name }, index) => [name, index]));
    this.#groups = Object.freeze(
      flat.groups.map((group, index) => paramGroup(group, index, flat.parameters)),
    );
    this.#values = new Float64Array(valuesLength(checked.terms.length, flat.groups.length));
    this.#native = this.#makeNative(flat);
    try {
      this.#table = this.#makeTable();
    } catch (error) {
      this.dispose(); // rather than when it is collected
      throw error;
    }
  }

  /** The bytes that the state of such an optimizer takes on its device, parameters and gradients not included. */
  static stateBytes(parameters: Parameters, options: MTAdamOptions): number {
    const checked = checkOptions(options);
    const flat = flattenParameters(parameters, checked.group, checked.device);
    return fromNative(() => native.stateBytes(nativeShape(flat, checked)));
  }

  /** Completed steps: calls of `step` and `update`, from 0. */
  get iterations(): number {
    return this.#iterations;
  }

  /** The names of the terms, in order. */
  get terms(): readonly string[] {
    return this.#options.terms;
  }

  /** The names of the layers in order of first appearance: the columns of {@link norms}. */
  get layers(): readonly string[] {
    return this.#flat.layers;
  }

  get device(): Device {
    return this.#flat.device;
  }

  /** The options of each group. A change is checked at the next step, and holds from then on. */
  get paramGroups(): readonly ParamGroup[] {
    return this.#groups;
  }

  /** w of each term, in order. */
  get weights(): readonly number[] {
    return this.#weights;
  }

  /** In order, or by name, where a term that is left out keeps its weight. */
  set weights(weights: Weights) {
    this.#weights = Object.freeze(checkWeights(weights, this.terms, this.#weights));
  }

  /** The learning rate of the first group. */
  get lr(): number | LearningRate {
    return this.#groups[0]!.lr;
  }

  /** Sets that of all groups. */
  set lr(lr: number | LearningRate) {
    const checked = recheckGroup({ ...this.#groups[0]!, lr }).lr;
    for (const group of this.#groups) group.lr = checked;
  }

  /**
   * One step from all terms' gradients: steps 1 to 7 of the algorithm.
   *
   * @param gradients by term, then by parameter, each in order or by name; or what {@link prepare} made of them
   * @throws MTAdamError STATE while a step is open, TERM, LENGTH, DTYPE, INVALID_POINTER, OPTION, BUSY, DISPOSED
   */
  step(gradients: Gradients | PreparedGradients, options?: StepOptions): void {
    this.#checkIdle("step");
    const { call, groups, table } = this.#reading("step", () => ({
      call: this.#checkCall(options),
      groups: this.#resolveGroups(),
      table: this.#tableOf(gradients),
    }));
    // Whatever code of the user's was to run (getters, schedules) has run. It may have disposed of things.
    const engine = this.#alive();
    this.#recheckParameters();
    table.recheckAll();
    packValues(this.#values, call.gradientScale, call.weights, groups);
    fromNative(() => {
      engine.step(table.native, this.#values, call.stream);
    });
    this.#completed(engine);
  }

  /**
   * One term's part of a step, steps 1 to 6; {@link update} ends the step. The same gradient buffers may serve term
   * after term. Terms given in order give the same bits as {@link step}. The step has the options that hold at its
   * first `accumulate`.
   *
   * @param term its name or index
   * @throws MTAdamError STATE where the term has been accumulated, TERM, LENGTH, DTYPE, INVALID_POINTER, OPTION (also
   * with `nonFinite: "skipStep"` or `cosines`), BUSY, DISPOSED
   */
  accumulate(term: string | number, gradients: TermGradients, options?: StepOptions): void {
    this.#checkUsable();
    this.#checkStreaming("accumulate");
    const index = this.#checkTerm(term);
    const read = this.#reading("accumulate", () => {
      return this.#readTerm(index, gradients, this.#checkCall(options));
    });
    this.#accumulate(index, read);
  }

  /**
   * Ends the step, step 7: the parameters move by what was accumulated. With nothing accumulated they stay, and the
   * call counts as an iteration all the same.
   *
   * @throws MTAdamError LENGTH, BUSY, DISPOSED
   */
  update(options?: Pick<StepOptions, "stream">): void {
    this.#checkUsable();
    const stream = this.#reading("update", () =>
      this.#checkCallStream(checkKeys<StepOptions>("options", options, ["stream"]).stream),
    );
    this.#update(this.#alive(), stream);
  }

  /**
   * The loop over the loss terms: calls each callback in the order of `terms`, accumulates what it gives, and updates.
   * A term without a callback is absent. If a callback throws or rejects, so does this, and the step stays open.
   *
   * @throws MTAdamError as {@link accumulate}; until it settles, other calls are BUSY
   */
  async stepEach(callbacks: TermCallbacks, options?: StepOptions): Promise<void> {
    this.#checkUsable();
    this.#checkStreaming("stepEach");
    this.#busy = "stepEach";
    try {
      const inOrder = this.#checkCallbacks(callbacks);
      const call = this.#checkCall(options);
      for (const [term, callback] of inOrder.entries()) {
        if (callback === undefined) continue;
        const gradients = await callback();
        this.#accumulate(term, this.#readTerm(term, gradients, call));
      }
      this.#update(this.#alive(), call.stream);
    } finally {
      this.#busy = undefined;
    }
  }

  /**
   * Gradients whose memory stays, for many steps: `step(prepared)` then looks at none of them.
   *
   * @throws MTAdamError as {@link step}
   */
  prepare(gradients: Gradients): PreparedGradients {
    this.#checkUsable();
    const table = this.#makeTable();
    this.#reading("prepare", () => table.assign(gradients));
    const era = this.#era;
    return new PreparedGradients(preparedKey, table, {
      optimizer: this,
      isCurrent: () => era === this.#era,
      resolve: (term, parameter) => [this.#checkTerm(term), this.#checkParameter(parameter)],
      zero: (own) => {
        const engine = this.#checkUsable();
        own.recheckAll();
        fromNative(() => {
          engine.zero(own.native, this.#stream);
        });
      },
    });
  }

  /**
   * Records a step with these gradients as a CUDA graph, without taking it. What `prepared` holds later does not change
   * it; options and weights are those of each replay.
   *
   * @param options `stream`: where it is recorded and replayed, one that was created (the default stream cannot be
   * recorded); default: a stream of its own, which orders itself with the default stream
   * @throws MTAdamError OPTION on the CPU, STATE while a step is open, DISPOSED, BUSY, CUDA
   */
  captureStep(prepared: PreparedGradients, options?: { stream?: StreamLike | null }): CapturedStep {
    this.#checkIdle("captureStep");
    const stream = this.#reading("captureStep", () =>
      this.#checkCallStream(checkKeys<StepOptions>("options", options, ["stream"]).stream),
    );
    const engine = this.#alive();
    const table = PreparedGradients.table(prepared, this);
    if (table === undefined) {
      throw mustBe("OPTION", "prepared", "be what `prepare()` made", prepared);
    }
    this.#recheckParameters();
    table.recheckAll();
    const gradients = table.snapshot();
    const step = fromNative(() => new (addonOf(this.device).CapturedStep)(engine, table.native, stream));
    const era = this.#era;
    return new CapturedStep(capturedKey, step, (own, given) => {
      this.#checkIdle("replay");
      if (era !== this.#era) {
        throw new MTAdamError(
          "STATE",
          "`captureStep` must be called again: the optimizer has got other terms or parameters since.",
        );
      }
      const { call, groups } = this.#reading("replay", () => ({
        call: this.#checkCall(checkKeys<ReplayOptions>("options", given, ["weights", "gradientScale"])),
        groups: this.#resolveGroups(),
      }));
      const engine = this.#alive();
      this.#recheckParameters();
      gradients.recheck();
      packValues(this.#values, call.gradientScale, call.weights, groups);
      fromNative(() => {
        own.replay(this.#values);
      });
      this.#completed(engine);
    });
  }

  /**
   * Adds one set of a term's gradients into another, in place: for micro-batches, whose sum is what a step wants.
   *
   * @param target it must have a gradient wherever `source` has one
   * @throws MTAdamError OPTION, LENGTH, DTYPE, INVALID_POINTER, BUSY, DISPOSED
   */
  addGradients(target: TermGradients, source: TermGradients): void {
    this.#checkUsable();
    const { device, parameters } = this.#flat;
    const pairs = this.#reading("addGradients", () => {
      const [targets, sources] = [this.#byParameter("target", target), this.#byParameter("source", source)];
      return parameters.flatMap(({ name, length }, index) => {
        const from = sources[index] ?? null;
        if (from === null) return [];
        const key = `[${JSON.stringify(name)}]`;
        return [
          {
            key,
            length,
            to: checkSource(`target${key}`, targets[index], length, device, "write"),
            from: checkSource(`source${key}`, from, length, device),
          },
        ];
      });
    });
    const engine = this.#alive();
    for (const { key, to, from, length } of pairs) {
      // Reading the others may have run code of the user's.
      recheckSource(() => `target${key}`, to, length);
      recheckSource(() => `source${key}`, from, length);
    }
    fromNative(
      () => {
        engine.add(
          pairs.map(({ to }) => nativeSource(to)),
          pairs.map(({ from }) => nativeSource(from)),
          Float64Array.from(pairs, ({ length }) => length),
          this.#stream,
        );
      },
      ({ index = 0, role = "target" }) => `${role}${pairs[index]?.key}`,
    );
  }

  /**
   * A term more, after the others, with the weight 1: it has not occurred yet. Prepared gradients and captured steps of
   * before have to be made again.
   *
   * @throws MTAdamError OPTION, STATE while a step is open, BUSY, DISPOSED, OUT_OF_MEMORY
   */
  addTerm(name: string): void {
    const engine = this.#checkIdle("addTerm");
    const terms = [...this.terms, checkNewTerm(name, this.terms)];
    fromNative(() => {
      engine.addTerm();
    });
    this.#setTerms(terms, [...this.#weights, 1]);
  }

  /**
   * Ends a term and frees its state; those after it move up. Where first moments are summed, what it has added to the
   * sum fades with it. Otherwise as {@link addTerm}.
   *
   * @param term its name or index; not the anchor, and not the only one
   * @throws MTAdamError TERM, OPTION, STATE while a step is open, BUSY, DISPOSED
   */
  removeTerm(term: string | number): void {
    const engine = this.#checkIdle("removeTerm");
    const index = this.#checkTerm(term);
    const name = this.terms[index]!;
    if (name === this.#options.anchor) throw mustBe("OPTION", "term", "not be the anchor", name);
    if (this.terms.length === 1) throw mustBe("OPTION", "term", "not be the only one", name);
    fromNative(() => {
      engine.removeTerm(index);
    });
    this.#setTerms(
      this.terms.filter((_, other) => other !== index),
      this.#weights.filter((_, other) => other !== index),
    );
  }

  /**
   * Parameters more, after the others, which keep their state. It is copied once, by way of the host, so this is not for
   * every step. Prepared gradients and captured steps of before have to be made again.
   *
   * @param group options that are left out are those given to the constructor
   * @throws MTAdamError as the constructor; STATE while a step is open, BUSY. Nothing is changed then
   */
  addParamGroup(group: ParameterGroup): void {
    const before = this.#checkIdle("addParamGroup");
    const flat = this.#reading("addParamGroup", () => withGroup(this.#flat, group, this.#options.group));
    const added = flat.groups.length - 1;
    const groups = Object.freeze([...this.#groups, paramGroup(flat.groups[added]!, added, flat.parameters)]);
    const state = new DictSource(stateDict(this.#stateOwner(this.#alive())));
    const engine = this.#makeNative(flat);
    try {
      const owner = { ...this.#stateOwner(engine), parameters: flat.parameters, layers: flat.layers, groups };
      restoreDict(state, checkDict(owner, state, false));
    } catch (error) {
      engine.dispose();
      throw error;
    }
    this.#native = engine;
    before.dispose();
    this.#flat = flat;
    this.#sources = sourcesOf(flat);
    this.#groups = groups;
    this.#indices = new Map(flat.parameters.map(({ name }, index) => [name, index]));
    this.#changed();
  }

  /** n: the moving averages of the gradient norms, terms × layers, row by row; NaN where a pair never occurred. */
  async norms(): Promise<Float32Array> {
    return (await this.diagnostics()).norms;
  }

  /**
   * Norms, scales, shares, what was skipped and, with that option, cosines, as they are after the calls so far. Nothing
   * is stopped for it. Several settle in the order in which they were asked for, and after the listeners of
   * {@link onStats} have been told of the steps before.
   *
   * @throws MTAdamError BUSY, DISPOSED, OUT_OF_MEMORY, CUDA (the promise rejects)
   */
  async diagnostics(): Promise<Diagnostics> {
    return this.#readDiagnostics(this.#checkUsable());
  }

  /**
   * Calls `listener` with {@link diagnostics} after every so manyth step, without stopping anything for it: when it is
   * called, further steps may have been taken. One that comes while the last is still under way is left out. An error
   * thrown by the listener is an unhandled rejection.
   *
   * @param options `every`: steps, 100 by default
   * @returns a function that ends it
   * @throws MTAdamError OPTION
   */
  onStats(listener: StatsListener, options?: { every?: number }): () => void {
    if (typeof listener !== "function") throw mustBe("OPTION", "listener", "be a function", listener);
    const { every = 100 } = checkKeys<{ every: number }>("options", options, ["every"]);
    if (!Number.isSafeInteger(every) || every < 1) {
      throw mustBe("OPTION", "every", "be a whole number of steps from 1", every);
    }
    return this.#listeners.add(listener, every);
  }

  /**
   * A copy of the whole state: see {@link StateDict}.
   *
   * @throws MTAdamError STATE while a step is open, OPTION where one in `paramGroups` has become invalid, BUSY, DISPOSED
   */
  async stateDict(): Promise<StateDict> {
    return stateDict(this.#stateOwner(this.#checkIdle("stateDict")));
  }

  /**
   * Puts back what {@link stateDict} gave: norms, moments, clocks, iterations, weights and the groups' options
   * (a learning-rate schedule stays). Going on then gives the same bits as never having stopped. Parameters and terms
   * are matched by name, in any order. A state with first moments per term can be loaded where they are summed.
   *
   * @param options `strict: false`: load what matches, and leave the rest as it is
   * @throws MTAdamError CHECKPOINT where the state does not fit, STATE while a step is open; nothing is loaded then
   */
  async loadStateDict(state: StateDict, options?: { strict?: boolean }): Promise<void> {
    this.#checkLoadable("loadStateDict");
    const { strict, source } = this.#reading("loadStateDict", () => ({
      strict: checkStrict(checkKeys<LoadOptions>("options", options, ["strict"]).strict),
      source: new DictSource(state),
    }));
    const restoration = checkDict(this.#stateOwner(this.#alive()), source, strict);
    const finish = this.#beginRestoring(restoration, strict);
    restoreDict(source, restoration);
    finish();
  }

  /**
   * Writes the state to a safetensors file, with the tensors of {@link stateDict}. Until all of it is on the disk, what
   * was at `path` before stays there, whatever happens. The parameters themselves are the caller's to save.
   *
   * @param options `onProgress`: what it throws ends the call, and there is no new file
   * @throws MTAdamError STATE while a step is open, OPTION, BUSY, DISPOSED, CUDA; errors of the file system as they are.
   * Until it settles, other calls are BUSY
   */
  async save(path: string, options?: SaveOptions): Promise<void> {
    this.#checkIdle("save");
    await this.#during("save", async () => {
      const { onProgress } = checkKeys<SaveOptions>("options", options, ["onProgress"]);
      const listener = checkListener(onProgress);
      checkPath(path);
      await this.synchronize(); // so that no read waits on this thread for steps under way
      await saveCheckpoint(path, this.#stateOwner(this.#alive()), (progress) => {
        listener?.(progress);
        this.#alive();
      });
    });
  }

  /**
   * Puts back what {@link save} wrote, as {@link loadStateDict} does. The file is checked before anything changes.
   *
   * @param options `onProgress`: what it throws rejects the promise once the state is loaded; it is not called again
   * @throws MTAdamError CHECKPOINT where the file is damaged or does not fit, STATE while a step is open, OPTION, BUSY,
   * DISPOSED, CUDA; errors of the file system as they are. Nothing is loaded then, unless the reading of the tensors
   * breaks off (a disk that fails, a file that somebody cuts): all calls but another load are STATE from there on.
   * Until it settles, other calls are BUSY
   */
  async load(path: string, options?: LoadOptions): Promise<void> {
    this.#checkLoadable("load");
    await this.#during("load", async () => {
      const given = checkKeys<LoadOptions>("options", options, ["strict", "onProgress"]);
      const strict = checkStrict(given.strict);
      const { report, rethrow } = deferErrors(checkListener(given.onProgress));
      checkPath(path);
      await this.synchronize();
      const file = await CheckpointFile.open(path);
      try {
        const restoration = await file.check(this.#stateOwner(this.#alive()), strict);
        const finish = this.#beginRestoring(restoration, strict);
        await file.restore(restoration, report);
        finish();
      } finally {
        await file.close();
      }
      rethrow();
    });
  }

  /**
   * Waits, off the event loop, until all that the optimizer has enqueued is done. On the CPU that is always so.
   *
   * @throws MTAdamError CUDA for what went wrong on the device since, DISPOSED (the promise rejects)
   */
  async synchronize(): Promise<void> {
    const engine = this.#alive();
    await fromNativePromise(fromNative(() => engine.synchronize()));
  }

  /** The same, on the calling thread. */
  synchronizeSync(): void {
    const engine = this.#alive();
    fromNative(() => {
      engine.synchronizeNow();
    });
  }

  /** Frees the state now; otherwise it is freed when the optimizer is collected. */
  dispose(): void {
    this.#native?.dispose();
    this.#native = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Reads one term's gradients, and the groups' options where they open a step; runs code of the user's. */
  #readTerm(term: number, gradients: unknown, call: CallValues): CallValues & { groups: GroupValues[] } {
    this.#checkNew(term);
    const groups = this.#isOpen ? [] : this.#resolveGroups();
    this.#gradients.assignTerm(term, gradients);
    return { ...call, groups };
  }

  #accumulate(
    term: number,
    { weights, gradientScale, stream, groups }: CallValues & { groups: GroupValues[] },
  ): void {
    const engine = this.#alive();
    this.#recheckParameters();
    this.#gradients.recheck(term, 1);
    packValues(this.#values, gradientScale, weights, groups);
    fromNative(() => {
      engine.accumulate(this.#gradients.native, this.#values, stream, term, !this.#isOpen);
    });
    if (!this.#isOpen) this.#weightsOfStep = this.#weights;
    this.#isOpen = true;
    this.#accumulated.add(term);
  }

  #update(engine: NativeOptimizer, stream: NativeStream): void {
    this.#recheckParameters();
    fromNative(() => {
      engine.update(stream);
    });
    this.#isOpen = false;
    this.#accumulated.clear();
    this.#completed(engine);
  }

  #setTerms(terms: readonly string[], weights: readonly number[]): void {
    this.#options = { ...this.#options, terms: Object.freeze(terms) };
    this.#weights = Object.freeze(weights);
    this.#changed();
  }

  /** Terms or parameters have come or gone. */
  #changed(): void {
    this.#era = {};
    this.#table = undefined;
    this.#values = new Float64Array(valuesLength(this.terms.length, this.#groups.length));
  }

  #makeNative(flat: FlatParameters): NativeOptimizer {
    const { device, parameters } = flat;
    const sources = parameters.map(({ source }) => nativeSource(source));
    try {
      return fromNative(
        () =>
          new (addonOf(device).Optimizer)(
            nativeDevice(device),
            nativeShape(flat, this.#options),
            sources,
            this.#stream,
          ),
        ({ index = 0 }) => String(parameters[index]?.name),
      );
    } catch (error) {
      const cause = (error as Error).cause as { parameters?: number[] } | undefined;
      const overlapping = cause?.parameters;
      if (overlapping === undefined) throw error;
      const names = overlapping.map((index) => JSON.stringify(parameters[index]?.name));
      throw new MTAdamError(
        "INVALID_POINTER",
        `\`parameters\` must not overlap; got ${names.join(" and ")}, which share memory.`,
      );
    }
  }

  /** The table of calls that are given gradients. Another is made only where terms or parameters have changed. */
  get #gradients(): GradientTable {
    return (this.#table ??= this.#makeTable());
  }

  #makeTable(): GradientTable {
    const target: GradientTarget = {
      device: this.device,
      terms: this.terms,
      parameters: this.#flat.parameters,
      indices: this.#indices,
    };
    const engine = this.#alive();
    return new GradientTable(
      target,
      fromNative(() => new (addonOf(this.device).Gradients)(engine)),
    );
  }

  #tableOf(gradients: Gradients | PreparedGradients): GradientTable {
    const prepared = PreparedGradients.table(gradients, this);
    if (prepared !== undefined) return prepared;
    this.#gradients.assign(gradients);
    return this.#gradients;
  }

  #readDiagnostics(engine: NativeOptimizer): Promise<Diagnostics> {
    const { iterations: iteration, terms, layers } = this;
    const { cosines } = this.#options;
    const reading = readDiagnostics(engine, { iteration, terms, layers }, cosines, this.#lastReading);
    const done = (): void => undefined;
    this.#lastReading = reading.then(done, done);
    return reading;
  }

  /** A step has been taken. */
  #completed(engine: NativeOptimizer): void {
    this.#iterations += 1;
    this.#listeners.stepped(this.#iterations, () => this.#readDiagnostics(engine));
  }

  #stateOwner(engine: NativeOptimizer): StateOwner {
    return {
      native: engine,
      options: this.#options,
      terms: this.terms,
      weights: this.#weights,
      parameters: this.#flat.parameters,
      layers: this.layers,
      groups: this.#groups,
      iterations: this.#iterations,
    };
  }

  /** @returns what ends it, when the state is in place */
  #beginRestoring({ iterations, weights }: Restoration, strict: boolean): () => void {
    this.#alive();
    const wasTorn = this.#isTorn;
    this.#isTorn = true;
    return () => {
      this.#alive();
      this.#isTorn = wasTorn && !strict;
      this.#iterations = iterations;
      this.#weights = Object.freeze(weights);
    };
  }

  #alive(): NativeOptimizer {
    if (this.#native === undefined) throw new MTAdamError("DISPOSED", "The optimizer has been disposed of.");
    return this.#native;
  }

  #checkUsable(): NativeOptimizer {
    const engine = this.#checkFree();
    if (!this.#isTorn) return engine;
    throw new MTAdamError("STATE", "The state must be loaded again: the last load broke off in the middle.");
  }

  #checkFree(): NativeOptimizer {
    const engine = this.#alive();
    if (this.#busy === undefined) return engine;
    throw new MTAdamError("BUSY", `\`${this.#busy}\` has not settled; wait for it before the next call.`);
  }

  #checkIdle(operation: string): NativeOptimizer {
    this.#checkUsable();
    return this.#checkLoadable(operation);
  }

  #checkLoadable(operation: string): NativeOptimizer {
    const engine = this.#checkFree();
    if (!this.#isOpen) return engine;
    throw new MTAdamError("STATE", `\`${operation}\` must wait for \`update()\`: a step is open.`);
  }

  /**
   * A step is skipped as a whole only where no term has moved anything before the others' norms are known, and cosines
   * want all gradients at hand.
   */
  #checkStreaming(operation: string): void {
    const { nonFinite, cosines } = this.#options;
    if (nonFinite !== "skipStep" && !cosines) return;
    const rule = cosines ? "`cosines` must not be true" : '`nonFinite` must not be "skipStep"';
    throw new MTAdamError(
      "OPTION",
      `${rule} for \`${operation}\`, whose terms come one at a time; use \`step\`.`,
    );
  }

  #checkNew(term: number): void {
    if (!this.#accumulated.has(term)) return;
    throw new MTAdamError(
      "STATE",
      `\`accumulate\` must get each term once per step; got ${JSON.stringify(this.terms[term])} again (for ` +
        "micro-batches, add the gradients up first, with `addGradients`, and pass the sum once with `gradientScale`).",
    );
  }

  #checkTerm(term: unknown): number {
    const index = typeof term === "string" ? this.terms.indexOf(term) : term;
    if (typeof index === "number" && Number.isInteger(index) && index >= 0 && index < this.terms.length)
      return index;
    throw unknownTerm(term, this.terms);
  }

  #checkParameter(parameter: unknown): number {
    const index = typeof parameter === "string" ? this.#indices.get(parameter) : parameter;
    const count = this.#flat.parameters.length;
    if (typeof index === "number" && Number.isInteger(index) && index >= 0 && index < count) return index;
    throw mustBe("OPTION", "parameter", "be the name of a parameter or its index", parameter);
  }

  #checkCall(options: unknown): CallValues {
    const standing = this.#isOpen ? this.#weightsOfStep : this.#weights;
    if (options === undefined) return { weights: standing, gradientScale: 1, stream: this.#stream };
    const { weights, gradientScale, stream } = checkKeys<StepOptions>("options", options, STEP_KEYS);
    return {
      stream: this.#checkCallStream(stream),
      weights: weights === undefined ? standing : checkWeights(weights, this.terms, standing),
      gradientScale: checkGradientScale(gradientScale),
    };
  }

  #checkCallStream(stream: unknown): NativeStream {
    if (stream === undefined) return this.#stream;
    streamOwners.set(this, stream);
    return checkStream(stream);
  }

  #checkCallbacks(callbacks: unknown): (TermCallback | undefined)[] {
    const named = new Array<unknown>(this.terms.length);
    if (isArray(callbacks)) {
      if (callbacks.length !== this.terms.length) {
        throw mustBe("LENGTH", "callbacks", `have ${this.terms.length} entries, one per term`, callbacks);
      }
      for (const term of this.terms.keys()) named[term] = callbacks[term];
    } else if (isPlainObject(callbacks)) {
      for (const [name, callback] of Object.entries(callbacks)) named[this.#checkTerm(name)] = callback;
    } else {
      throw mustBe("OPTION", "callbacks", "be an array or an object by name of the term", callbacks);
    }
    return Array.from(named, (callback, term) => {
      if (callback === undefined || callback === null) return undefined;
      if (typeof callback !== "function") throw mustBe("OPTION", "callbacks", "be functions", callback);
      this.#checkNew(term);
      return callback as TermCallback;
    });
  }

  /** The groups' options as numbers, as they stand now. */
  #resolveGroups(): GroupValues[] {
    const groups = this.#groups.map(recheckGroup);
    checkLayerBetas(this.#flat.parameters, this.layers, groups);
    return groups.map((group) => ({ ...group, lr: learningRate(group.lr, this.#iterations) }));
  }

  #recheckParameters(): void {
    this.#sources.recheck((at) => this.#flat.parameters[at]!.name);
  }

  #byParameter(subject: string, gradients: unknown): unknown[] {
    const { parameters } = this.#flat;
    if (gradients === null || gradients === undefined) return [];
    if (isArray(gradients)) {
      if (gradients.length === parameters.length) return [...gradients];
      throw mustBe("LENGTH", subject, `have ${parameters.length} entries, one per parameter`, gradients);
    }
    if (!isPlainObject(gradients)) {
      throw mustBe("OPTION", subject, "be an array or an object by name of the parameter", gradients);
    }
    const list: unknown[] = [];
    for (const [name, gradient] of Object.entries(gradients)) list[this.#checkParameter(name)] = gradient;
    return list;
  }

  /**
   * Runs what reads a call's arguments. Getters and schedules of the user's may run in it: they are not to begin
   * another call of this optimizer in the middle of this one.
   */
  #reading<T>(operation: string, read: () => T): T {
    this.#busy = operation;
    try {
      return read();
    } finally {
      this.#busy = undefined;
    }
  }

  /** Runs what takes its time. Until it settles, other calls are BUSY. */
  async #during(operation: string, run: () => Promise<void>): Promise<void> {
    this.#busy = operation;
    try {
      await run();
    } finally {
      this.#busy = undefined;
    }
  }
}

function checkStrict(strict: unknown = true): boolean {
  if (typeof strict === "boolean") return strict;
  throw mustBe("OPTION", "strict", "be true or false", strict);
}

function checkListener(onProgress: unknown): ProgressListener | undefined {
  if (onProgress === undefined || typeof onProgress === "function") return onProgress as ProgressListener;
  throw mustBe("OPTION", "onProgress", "be a function", onProgress);
}

function checkPath(path: unknown): void {
  if (typeof path !== "string" || path === "") throw mustBe("OPTION", "path", "be the path of a file", path);
}

interface CallValues {
  weights: readonly number[];
  gradientScale: number;
  stream: NativeStream;
}

const STEP_KEYS = ["weights", "gradientScale", "stream"] as const;

function sourcesOf({ parameters }: FlatParameters): SourceList {
  const sources = new SourceList(parameters.length);
  for (const [index, { source, length }] of parameters.entries()) sources.set(index, source, length);
  return sources;
}

function nativeShape(flat: FlatParameters, options: CheckedOptions): NativeShape {
  return {
    lengths: Float64Array.from(flat.parameters, ({ length }) => length),
    layers: Uint32Array.from(flat.parameters, ({ layer }) => layer),
    groups: Uint32Array.from(flat.parameters, ({ group }) => group),
    groupCount: flat.groups.length,
    terms: options.terms.length,
    summed: options.firstMoment === "summed",
    amsgrad: options.amsgrad,
    mean: options.stepScale === "mean",
    nonFinite: options.nonFinite,
    cosines: options.cosines,
    anchor: nativeAnchor(options),
    balance: options.balance,
    initialNorm: options.initialNorm === "first" ? 0 : options.initialNorm,
  };
}

function nativeAnchor({ anchor, terms }: CheckedOptions): NativeShape["anchor"] {
  const term = terms.indexOf(anchor);
  return term < 0 ? (anchor as "first" | "max" | "mean") : term;
}

/** Sealed, so that a misspelled option is an error of the language. */
function paramGroup(group: GroupOptions, index: number, parameters: readonly Parameter[]): ParamGroup {
  const names = parameters.filter((parameter) => parameter.group === index).map(({ name }) => name);
  return Object.seal({ ...group, betas: [...group.betas], parameters: Object.freeze(names) });
}
