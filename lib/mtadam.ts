import { createHash } from "node:crypto";
import { inspect } from "node:util";
import { StepOutcome, type NativeOptimizer, type NativeStream } from "./addon/native";
import { addGradientPairs, readGradientPairs } from "./add-gradients";
import { checkKeys } from "./arguments";
import {
  CallOptions,
  type CallValues,
  type GroupValues,
  type ReplayOptions,
  type StepOptions,
} from "./call-options";
import { capturedKey, CapturedStep } from "./captured-step";
import { checkDict, copyState, DictSource, restoreDict, stateDict } from "./checkpoint/dict";
import { writeNowhere, type Writer } from "./checkpoint/atomic-file";
import { CheckpointFile, deferErrors, maxHeaderBytes, saveCheckpoint } from "./checkpoint/file";
import {
  checkOptions as checkFileOptions,
  type CheckpointProgress,
  type LoadOptions,
  type PathLike,
  type SaveOptions,
} from "./checkpoint/options";
import { Place } from "./checkpoint/path";
import { savePiece } from "./checkpoint/pieces";
import type { Restoration } from "./checkpoint/restore";
import { countSkipped, type StateDict, type StateOwner } from "./checkpoint/state";
import type { Diagnostics } from "./diagnostics";
import { agree, together } from "./distributed/communicator";
import { fromNative, fromNativePromise, mustBe, MTAdamError } from "./errors";
import { Generation } from "./generation";
import type { Gradients, GradientTable, TermGradients } from "./gradients";
import { Guard } from "./guard";
import { customInspect } from "./inspect";
import { Listeners, type StatsListener, type StepListener } from "./listeners";
import { addonOf, type Device, type DeviceKind } from "./memory/device";
import { makeNativeOptimizer, stateBytes } from "./native-optimizer";
import {
  checkOneTermAtATime,
  checkOptions,
  checkLearningRate,
  checkWeights,
  learningRate,
  recheckGroup,
  type CheckedOptions,
  type GroupOptions,
  type LearningRate,
  type MTAdamOptions,
  type StateDtype,
  type Weights,
} from "./options";
import {
  checkWritable,
  makeParamGroups,
  resolveGroups,
  setGroupOptions,
  type ParamGroup,
} from "./param-groups";
import { NonFiniteWarning } from "./non-finite-warning";
import { flattenParameters, withGroup, type ParameterGroup, type Parameters } from "./parameters";
import { preparedKey, PreparedGradients } from "./prepared-gradients";
import { DiagnosticsReading, ReadingQueue } from "./readings";
import { checkReceivers } from "./receiver";
import { readCallbacks, type TermCallbacks } from "./term-callbacks";
import { checkNewTerm } from "./term-names";
import { makeUncloneable } from "./uncloneable";

/** A summary of an optimizer. */
export interface OptimizerSummary {
  device: DeviceKind;
  iterations: number;
  terms: readonly string[];
  weights: readonly number[];
  /** The number of layers. */
  layers: number;
  stateDtype: StateDtype;
  /** The options of each group and its number of parameters. JSON leaves out a learning rate that is a schedule. */
  groups: (GroupOptions & { parameters: number })[];
}

/** The arguments of a step, as read. */
interface StepValues {
  call: CallValues;
  /** Undefined: those of the open step. */
  groups: readonly GroupValues[] | undefined;
}

/** The options of a call that may continue a step. */
interface PartValues {
  call: CallValues;
  /** The weights of the step, without those of the call. */
  stepWeights: readonly number[];
}

/** {@link MTAdam.loadStateDict}, done when it returns: for the clients. */
export let loadNow: (optimizer: MTAdam, state: StateDict) => void;

/**
 * MTAdam (Malkiel and Wolf 2020, arXiv:2006.14683): Adam for a loss of several terms. Takes the gradient of each term
 * separately, rescales the terms to the same norm in every layer, keeps Adam's moments per term, and divides the sum
 * of the steps by the largest second moment. With one term it is Adam.
 *
 * @example
 * const optimizer = new MTAdam([weight, bias], { terms: ["content", "style"], lr: 1e-3 });
 * optimizer.step({ content: [weightGrad0, biasGrad0], style: [weightGrad1, biasGrad1] });
 */
export class MTAdam<Term extends string = string, Parameter extends string = string> {
  readonly #guard: Guard;
  readonly #calls: CallOptions;
  readonly #readings = new ReadingQueue();
  readonly #listeners = new Listeners(this.#readings);
  readonly #nonFiniteWarning: NonFiniteWarning;
  /** The options as given; the terms may have changed since. */
  readonly #options: CheckedOptions;
  #current: Generation;
  /** The generation that a call is changing to. */
  #next: Generation | undefined;
  /** The weights of the open step, as they were when it began. */
  #openWeights: readonly number[] = [];

  static {
    const isOwn = (receiver: unknown): boolean =>
      typeof receiver === "object" && receiver !== null && #guard in receiver;
    checkReceivers("an MTAdam", this.prototype, isOwn);
    loadNow = (optimizer, state) => optimizer.#loadStateDict(state);
  }

  /**
   * @param parameters parameters, or groups of them; every step updates them in place
   * @throws MTAdamError OPTION, TERM, LENGTH, DTYPE, HOST_POINTER, INVALID_POINTER, DISPOSED, OUT_OF_MEMORY, CUDA
   */
  constructor(parameters: Parameters<Parameter>, options: MTAdamOptions<Term>) {
    makeUncloneable(this);
    this.#options = checkOptions(options);
    const { stream, terms, weights, scales, choosesNonFinite, distributed } = this.#options;
    this.#nonFiniteWarning = new NonFiniteWarning(!choosesNonFinite, scales);
    const flat = flattenParameters(parameters, this.#options);
    this.#calls = new CallOptions(stream, distributed?.size);
    const groups = makeParamGroups(flat);
    this.#current = new Generation(flat, terms, weights, groups);
    const native = makeNativeOptimizer(flat, this.#options, this.#calls.stream);
    this.#guard = new Guard(native);
    try {
      this.#current.table(native);
    } catch (error) {
      this.dispose(); // now, rather than when it is collected
      throw error;
    }
  }

  /** The bytes that the state of this optimizer takes on its device, without parameters and gradients. */
  static stateBytes(parameters: Parameters, options: MTAdamOptions): number {
    const checked = checkOptions(options);
    return stateBytes(flattenParameters(parameters, checked), checked);
  }

  /**
   * Completed steps: calls of `step` and `update` and replays, from 0. Steps that a CUDA graph of your own takes are
   * counted on the device; they are added whenever the state is read (`stateDict`, `save`, `addParamGroup`) and, where a
   * learning rate is a schedule, in {@link refresh}.
   */
  get iterations(): number {
    return this.#guard.iterations;
  }

  /** The names of the terms, in order. */
  get terms(): readonly Term[] {
    return this.#generation.terms.list as readonly Term[];
  }

  /** The names of the layers in order of first appearance: the columns of {@link norms}. */
  get layers(): readonly string[] {
    return this.#generation.flat.layers;
  }

  get device(): Device {
    return this.#generation.flat.device;
  }

  /** The options of each group. A change is checked at the next step and holds from then on. */
  get paramGroups(): readonly ParamGroup[] {
    return this.#generation.groups;
  }

  /** w of each term, in order. */
  get weights(): readonly number[] {
    return this.#generation.weights;
  }

  /** In order, or by name; a term that is left out keeps its weight. */
  set weights(weights: Weights<Term>) {
    const generation = this.#generation;
    generation.weights = Object.freeze(
      this.#guard.reading("weights", () => checkWeights(weights, generation.terms, generation.weights)),
    );
  }

  /** The learning rate of the first group. */
  get lr(): number | LearningRate {
    return this.paramGroups[0]!.lr;
  }

  /** Sets the learning rate of all groups. */
  set lr(lr: number | LearningRate) {
    const checked = checkLearningRate(lr);
    setGroupOptions(
      this.paramGroups,
      this.paramGroups.map(() => ({ lr: checked })),
    );
  }

  /**
   * The learning rate of the next step, of the first group: the number, or what its schedule returns.
   *
   * @throws MTAdamError OPTION if the options of the group are invalid, BUSY where the schedule itself reads it
   */
  get currentLr(): number {
    this.#guard.usable();
    return this.#guard.reading("currentLr", () =>
      learningRate(recheckGroup(this.paramGroups[0]!), () => this.iterations),
    );
  }

  /**
   * One step from all terms' gradients: steps 1 to 7 of the algorithm.
   *
   * On a CUDA stream that you are capturing, a step with prepared gradients becomes part of your graph and is not
   * taken: each launch of the graph takes the step, with the options that {@link refresh} or a step sent last. Keep the
   * optimizer, the prepared gradients and all memory as long as you launch the graph, and order its launches and the
   * optimizer's other calls. After `addTerm`, `removeTerm` and `addParamGroup`, the graph must not be launched again.
   *
   * @param gradients by term, then by parameter, each in order or by name; or the result of {@link prepare}. An object
   * must name a term; to take a step in which all terms are absent, give null for one
   * @throws MTAdamError STATE while a step is open, and on a stream that is being captured where the gradients are not
   * prepared or addresses, options or weights would have to be sent to the device; TERM, LENGTH, DTYPE, HOST_POINTER,
   * INVALID_POINTER, OPTION, BUSY, DISPOSED, CUDA, DISTRIBUTED
   */
  step(
    gradients: Gradients<Term, Parameter> | PreparedGradients<Term, Parameter>,
    options?: StepOptions<Term>,
  ): void {
    this.#guard.idle("step");
    const { given, table } = this.#guard.reading("step", () => ({
      given: this.#readStep(options),
      table: this.#assign(gradients),
    }));
    const native = this.#recheck(table);
    const values = this.#pack(given);
    const isPrepared = table !== this.#table;
    const { stream, reduced } = given.call;
    const outcome = fromNative(() => native.step(table.native, values, stream, isPrepared, reduced));
    if (outcome === StepOutcome.captured) return;
    if (outcome === StepOutcome.skippedATerm) this.#lookForSkipped(native);
    this.#stepped(native);
    this.#tell(native.iterations);
  }

  /**
   * CUDA: sends the options and weights of the next step to the device, for a step inside a graph of your own; a launch
   * that follows on the same stream uses them. A schedule gets the number of steps taken so far; to know it, this call
   * waits until the earlier launches on the stream are done.
   *
   * @param options those of the launches to come, until other options are sent
   * @throws MTAdamError OPTION (also on the CPU), STATE while a step is open or the stream is being captured, LENGTH, TERM,
   * BUSY, DISPOSED, CUDA
   */
  refresh(options?: StepOptions<Term>): void {
    this.#guard.idle("refresh");
    const call = this.#guard.reading("refresh", () => this.#readCall(options, this.#generation.weights));
    if (this.#generation.groups.some(({ lr }) => typeof lr === "function")) this.#readIterations(call.stream);
    const groups = this.#guard.reading("refresh", () => this.#resolveGroups());
    const native = this.#guard.alive();
    const values = this.#pack({ call, groups });
    fromNative(() => {
      native.refresh(values, call.stream);
    });
  }

  /**
   * One term's part of a step, steps 1 to 6; {@link update} ends the step. The same gradient buffers may serve term
   * after term. Terms given in order give the same bits as {@link step}. The step uses the group options of its first
   * `accumulate`.
   *
   * With `connectMpi`, the call copies the gradients, and the ranks exchange them while the caller goes on. The next call
   * waits for the exchange and throws its errors; a term whose exchange failed counts as not accumulated.
   *
   * @param term its name or index
   * @throws MTAdamError STATE if the step has the term already, TERM, LENGTH, DTYPE, HOST_POINTER, INVALID_POINTER, OPTION
   * (also with `nonFinite: "skipStep"` or `cosines`), BUSY, DISPOSED, CUDA, DISTRIBUTED
   */
  accumulate(term: Term | number, gradients: TermGradients<Parameter>, options?: StepOptions<Term>): void {
    this.#guard.usable();
    checkOneTermAtATime("accumulate", this.#options);
    const index = this.#generation.terms.indexOf(term);
    const given = this.#guard.reading("accumulate", () =>
      this.#readTerm(index, gradients, this.#readPart(options)),
    );
    this.#accumulate(index, given);
  }

  /**
   * Ends the step, step 7: moves the parameters by the accumulated terms. With no term accumulated, the parameters
   * stay, and the call still counts as an iteration.
   *
   * @throws MTAdamError OPTION, LENGTH, STATE after a call that ended midway, BUSY, DISPOSED, CUDA, DISTRIBUTED
   */
  update(options?: Pick<StepOptions, "stream">): void {
    const native = this.#guard.usable();
    this.#update(this.#guard.reading("update", () => this.#calls.readStream(options)));
    this.#tell(native.iterations);
  }

  /**
   * Ends the open step, if any, without moving a parameter: for a backward pass that failed. The norms, moments and
   * clocks of the accumulated terms stay changed; to undo that too, load an earlier state. Where second moments are
   * summed, both moments and their clock are as before the step. No iteration is counted.
   *
   * @throws MTAdamError STATE after a call that ended midway, BUSY, DISPOSED, CUDA
   */
  discard(): void {
    const native = this.#guard.usable();
    fromNative(() => {
      native.discard();
    });
  }

  /**
   * The loop over the loss terms: calls each callback in the order of `terms`, accumulates the gradients that it
   * returns, and updates. A term without a callback is absent. If a callback throws or rejects, so does this call, and
   * the step stays open: another call continues it with the remaining terms, {@link update} ends it with the
   * accumulated terms, and {@link discard} ends it without moving a parameter.
   *
   * @throws MTAdamError as {@link accumulate}; until the promise settles, other calls that use the state are BUSY
   */
  async stepEach(callbacks: TermCallbacks<Term, Parameter>, options?: StepOptions<Term>): Promise<void> {
    const native = this.#guard.usable();
    checkOneTermAtATime("stepEach", this.#options);
    const { inOrder, part } = this.#guard.reading("stepEach", () => ({
      inOrder: readCallbacks(callbacks, this.#generation.terms),
      part: this.#readPart(options),
    }));
    let iteration = 0; // a call that comes before the promise settles may take another step
    await this.#guard.during("stepEach", async () => {
      for (const [term, callback] of inOrder.entries()) {
        if (callback === undefined || native.isAccumulated(term)) continue;
        const gradients = await callback();
        this.#accumulate(term, this.#readTerm(term, gradients, part));
      }
      this.#update(part.call.stream);
      iteration = native.iterations;
    });
    this.#tell(iteration);
  }

  /**
   * Gradients whose memory stays the same for many steps: `step(prepared)` does not check them one by one.
   *
   * @throws MTAdamError as {@link step}
   */
  prepare(gradients: Gradients<Term, Parameter>): PreparedGradients<Term, Parameter> {
    const table = this.#generation.makeTable(this.#guard.usable());
    this.#guard.reading("prepare", () => {
      table.assign(gradients);
    });
    return new PreparedGradients(preparedKey, table, this.#guard, this.#calls.stream);
  }

  /**
   * Captures a step with these gradients as a CUDA graph, without taking it. Later changes of `prepared` do not change
   * the graph; each replay uses the options and weights that are current then.
   *
   * @param options `stream`: where the step is captured and replayed; not the default stream, which cannot be captured.
   * Default: the optimizer's `stream`; without one, a stream of the graph's own, ordered with the default stream
   * @throws MTAdamError OPTION on the CPU, STATE while a step is open, DISPOSED, BUSY, CUDA
   */
  captureStep(
    prepared: PreparedGradients<Term, Parameter>,
    options?: Pick<StepOptions, "stream">,
  ): CapturedStep<Term> {
    this.#guard.idle("captureStep");
    const stream = this.#guard.reading("captureStep", () => this.#calls.readStream(options));
    const { streamOwner } = this.#calls;
    const native = this.#guard.alive();
    const table = PreparedGradients.table(prepared, this.#guard);
    if (table === undefined) {
      throw mustBe("OPTION", "prepared", "be what `prepare()` made", prepared);
    }
    this.#recheck(table);
    const gradients = table.snapshot();
    const step = fromNative(() => new (addonOf(this.device).CapturedStep)(native, table.native, stream));
    const generation = this.#generation;
    return new CapturedStep(capturedKey, step, (own, options) => {
      this.#guard.idle("replay");
      this.#calls.streamOwner = streamOwner; // this keeps it alive as long as the step can be replayed
      if (!generation.isCurrent) {
        throw new MTAdamError(
          "STATE",
          "`captureStep` must be called again: the optimizer's terms or parameters have changed.",
        );
      }
      const given = this.#guard.reading("replay", () =>
        this.#readStep(checkKeys<ReplayOptions>("options", options, ["weights", "gradientScale"])),
      );
      const native = this.#recheck(gradients);
      const values = this.#pack(given);
      fromNative(() => {
        own.replay(values);
      });
      this.#stepped(native);
      this.#tell(native.iterations);
    });
  }

  /**
   * Adds one set of a term's gradients into another, in place: a step takes the sum over the micro-batches. The sums of
   * elements of 16 bits are in float32, and then rounded to the nearest.
   *
   * @param target it must have a gradient wherever `source` has one
   * @throws MTAdamError OPTION, LENGTH, DTYPE, HOST_POINTER, INVALID_POINTER, BUSY, DISPOSED, CUDA
   */
  addGradients(target: TermGradients<Parameter>, source: TermGradients<Parameter>): void {
    this.#guard.usable();
    const { parameters, flat } = this.#generation;
    const pairs = this.#guard.reading("addGradients", () =>
      readGradientPairs(target, source, parameters, flat),
    );
    addGradientPairs(this.#guard.alive(), pairs, this.#calls.stream);
  }

  /**
   * Adds a term after the others, with the weight 1 and no norm yet. Gradients prepared and steps captured before
   * become invalid.
   *
   * @returns this optimizer, with a type that has the new name, too
   * @throws MTAdamError OPTION, STATE while a step is open, BUSY, DISPOSED, OUT_OF_MEMORY
   */
  // eslint-disable-next-line @typescript-eslint/prefer-return-this-type -- the type has more names
  addTerm<Name extends string>(name: Name): MTAdam<Term | Name, Parameter> {
    const native = this.#guard.idle("addTerm");
    // Not by this.terms, which a subclass may replace.
    const { flat, groups, terms, weights } = this.#generation;
    const all = [...terms.list, checkNewTerm(name, terms.list)];
    this.#change(new Generation(flat, all, [...weights, 1], groups), () => {
      native.addTerm(name);
    });
    return this;
  }

  /**
   * Removes a term and frees its state, its norm included; later terms move up. Where it anchored, the scales of the
   * others change. With `firstMoment: "summed"` and second moments per term, without `amsgrad`, the summed moment begins
   * again in the tensors that the term has reached. Otherwise as {@link addTerm}.
   *
   * @param term its name or index; not the anchor, and not the only one
   * @throws MTAdamError TERM, OPTION, STATE while a step is open, BUSY, DISPOSED
   */
  removeTerm(term: Term | number): void {
    const native = this.#guard.idle("removeTerm");
    const { flat, groups, terms, weights } = this.#generation;
    const index = terms.indexOf(term);
    const name = terms.list[index]!;
    if (name === this.#options.anchor) throw mustBe("OPTION", "term", "not be the anchor", name);
    if (terms.list.length === 1) throw mustBe("OPTION", "term", "not be the only one", name);
    const isLeft = (_: unknown, other: number) => other !== index;
    const left = new Generation(flat, terms.list.filter(isLeft), weights.filter(isLeft), groups);
    this.#change(left, () => {
      native.removeTerm(index);
    });
  }

  /**
   * Adds parameters after the others, which keep their state. The state is copied once through the host, so do not call
   * this every step. Gradients prepared and steps captured before become invalid.
   *
   * @param group options that are left out are those given to the constructor
   * @returns this optimizer, with a type that has the names of the new parameters, too
   * @throws MTAdamError as the constructor; STATE while a step is open, BUSY. Nothing changes then
   */
  // eslint-disable-next-line @typescript-eslint/prefer-return-this-type -- the type has more names
  addParamGroup<Name extends string>(group: ParameterGroup<Name>): MTAdam<Term, Parameter | Name> {
    this.#guard.idle("addParamGroup");
    const { native, generation } = this.#guard.reading("addParamGroup", () => this.#withGroup(group));
    this.#change(generation, () => {
      this.#guard.replace(native);
    });
    return this;
  }

  /**
   * n: the moving averages of the gradient norms, terms × layers, row by row; NaN where a pair never occurred. With
   * `unit: "network"`, such a pair may have the norm of the unit.
   */
  async norms(): Promise<Float32Array> {
    return (await this.diagnostics()).norms;
  }

  /**
   * Norms, scales, shares, skipped counts and, with that option, cosines, after the calls so far. Steps do not wait for
   * it. Promises settle in the order of the calls, and after the listeners of {@link onStats} for earlier steps.
   *
   * @throws MTAdamError BUSY, DISPOSED, OUT_OF_MEMORY, CUDA (the promise rejects)
   */
  async diagnostics(): Promise<Diagnostics> {
    return this.#readDiagnostics(this.#guard.usable());
  }

  /**
   * Calls `listener` with {@link diagnostics} after every `every` steps, in order, none left out.
   *
   * On the CPU, the listener is called at the end of the step, before the call returns (with `stepEach`, before its
   * promise settles). On CUDA, it is called when the values have arrived, so further steps may have been taken by then;
   * with 64 readings under way, the next step that starts one waits until the oldest has arrived, and calls its listener.
   * The listener may call the optimizer. If it takes steps, their diagnostics are delivered after it has returned. An
   * error that it throws is an unhandled rejection. If a device fails to deliver diagnostics, there is a process warning,
   * MTADAM_STATS_LOST.
   *
   * @param options `every`: steps, 100 by default
   * @returns a function that removes the listener
   * @throws MTAdamError OPTION
   */
  onStats(listener: StatsListener, options?: { every?: number | undefined }): () => void {
    return this.#listeners.onStats(listener, options);
  }

  /**
   * Calls `listener` with {@link iterations} at the end of every step, before the call returns (with `stepEach`, before
   * its promise settles); on CUDA, the device may still be computing. Launches of your own graphs do not call it. The
   * listener may call the optimizer; a step that it takes calls it again. An error that it throws is an unhandled
   * rejection.
   *
   * @returns a function that removes the listener
   * @throws MTAdamError OPTION
   */
  onStep(listener: StepListener): () => void {
    return this.#listeners.onStep(listener);
  }

  /**
   * A copy of the whole state: see {@link StateDict}.
   *
   * @throws MTAdamError STATE while a step is open, OPTION if one in `paramGroups` is invalid, BUSY, DISPOSED
   */
  async stateDict(): Promise<StateDict> {
    const native = this.#guard.idle("stateDict");
    this.#lookForSkipped(native);
    this.#readIterations();
    return this.#guard.reading("stateDict", () => stateDict(this.#stateOwner(native)));
  }

  /**
   * Restores the result of {@link stateDict}: norms, moments, clocks, iterations, weights and the groups' options (a
   * learning-rate schedule stays). With the same options, `seed` among them, training continues with the same bits.
   * Parameters and terms are matched by name, in any order. A state with first moments per term can be loaded where they
   * are summed. An open step ends as with {@link discard}.
   *
   * @param options `strict: false`: load matching entries only
   * @throws MTAdamError CHECKPOINT if the state does not match, OPTION if an option in `paramGroups` is read-only, BUSY,
   * DISPOSED; then nothing is loaded
   */
  async loadStateDict(state: StateDict, options?: Pick<LoadOptions, "strict">): Promise<void> {
    this.#loadStateDict(state, options);
  }

  #loadStateDict(state: StateDict, options?: Pick<LoadOptions, "strict">): void {
    this.#guard.free();
    const { strict, source, restoration } = this.#guard.reading("loadStateDict", () => {
      const { strict } = checkFileOptions(options, ["strict"]);
      const source = new DictSource(state);
      const restoration = checkDict(this.#stateOwner(this.#guard.alive()), source, strict);
      return { strict, source, restoration };
    });
    const finish = this.#beginRestoring(restoration, strict);
    restoreDict(source, restoration);
    finish();
  }

  /**
   * Writes the state to a safetensors file, with the tensors of {@link stateDict}. A file at `path` stays as it is
   * until the new one is complete and on the disk. Its mode is kept, and its owner if the process may set it; if it is
   * a symbolic link, its target is replaced. The caller saves the parameters themselves.
   *
   * @param path a path, a `file:` URL or a Buffer; a later `chdir` does not change its meaning
   * @param options `onProgress`: if it throws or returns a promise that rejects, this promise rejects, and there is no new
   * file; `pieces`: a file per rank
   * @throws MTAdamError STATE while a step is open; OPTION, also where something other than a regular file is at `path`, or
   * one that cannot be replaced because it is a mount point; BUSY, DISPOSED, CUDA; other errors of the file system
   * unchanged. Until the promise settles, other calls that use the state are BUSY
   */
  async save(path: PathLike, options?: SaveOptions): Promise<void> {
    this.#guard.idle("save");
    const { onProgress, pieces, target } = this.#guard.reading("save", () => ({
      ...checkFileOptions(options, ["onProgress", "pieces"]),
      target: Place.of(path).target(),
    }));
    const { distributed, shard } = this.#options;
    if (pieces && shard === "none") {
      throw mustBe("OPTION", "pieces", 'be left out without `shard: "state"`', pieces);
    }
    const isShared = distributed !== undefined && shard !== "none";
    // With other ranks, only where it makes the call fail on all of them.
    if (!isShared) target.checkRegular();
    await this.#guard.during("save", async () => {
      await this.synchronize(); // so that no read blocks this thread for steps that still run
      this.#readIterations();
      this.#lookForSkipped(this.#guard.alive());
      const owner = this.#stateOwner(this.#guard.alive());
      const report = async (progress: CheckpointProgress): Promise<void> => {
        await onProgress?.(progress);
        this.#guard.alive();
      };
      const write = (writer?: Writer): Promise<void> => saveCheckpoint(target, owner, report, writer);
      if (!isShared) {
        await write();
      } else if (pieces) {
        await together(distributed, "save of pieces", () => savePiece(target, owner, distributed, report));
      } else {
        await together(distributed, "save", () => write(distributed.rank === 0 ? undefined : writeNowhere));
      }
    });
  }

  /**
   * Restores the file that {@link save} wrote, as {@link loadStateDict} does. The file is checked, moments included, before
   * anything changes.
   *
   * @param path as for {@link save}
   * @param options `onProgress`: if it throws or returns a promise that rejects, this promise rejects once the state is
   * loaded; it is not called again
   * @throws MTAdamError CHECKPOINT if the file is damaged or does not fit; OPTION, also where something other than a regular
   * file is at `path`; BUSY, DISPOSED, CUDA; DISTRIBUTED where ranks load different states; errors of the file system
   * unchanged. Nothing is loaded then, unless reading the tensors again, to load them, fails midway (a disk error, a file
   * that is changed meanwhile): all calls but another load are then STATE. Until the promise settles, other calls that
   * use the state are BUSY
   */
  async load(path: PathLike, options?: LoadOptions): Promise<void> {
    this.#guard.free();
    const { strict, onProgress, place } = this.#guard.reading("load", () => ({
      ...checkFileOptions(options, ["strict", "onProgress"]),
      place: Place.of(path),
    }));
    const { report, rethrow } = deferErrors(onProgress);
    const { distributed } = this.#options;
    if (distributed === undefined) place.checkRegular();
    const load = async (): Promise<void> => {
      const most = maxHeaderBytes(this.#stateOwner(this.#guard.alive()), strict);
      const file = await CheckpointFile.open(place, most, report);
      try {
        const hash = distributed === undefined ? undefined : createHash("sha256");
        const restoration = await file.check(this.#stateOwner(this.#guard.alive()), strict, hash);
        if (hash !== undefined) agree(distributed!, `load of ${hash.digest("hex").slice(0, 16)}`);
        const finish = this.#beginRestoring(restoration, strict);
        await file.restore(restoration);
        finish();
      } finally {
        await file.close();
      }
    };
    await this.#guard.during("load", async () => {
      await this.synchronize();
      await (distributed === undefined ? load() : together(distributed, "load", load));
      rethrow();
    });
  }

  /**
   * Waits, off the event loop, until everything that the optimizer has enqueued is done. On the CPU nothing is pending,
   * but for gradients that ranks exchange over MPI: for these, the event loop stands still.
   *
   * @throws MTAdamError CUDA for an earlier failure on the device, DISPOSED (the promise rejects)
   */
  async synchronize(): Promise<void> {
    const native = this.#guard.alive();
    await fromNativePromise(fromNative(() => native.synchronize()));
  }

  /** As {@link synchronize}, on the calling thread. */
  synchronizeSync(): void {
    const native = this.#guard.alive();
    fromNative(() => {
      native.synchronizeNow();
    });
  }

  /** Frees the state now; otherwise it is freed when the optimizer is collected. */
  dispose(): void {
    this.#guard.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A summary for logs, which `console.log` shows, too. The state is that of {@link stateDict}. */
  toJSON(): OptimizerSummary {
    const { device, iterations, terms, weights, layers, paramGroups } = this;
    const groups = paramGroups.map(({ parameters, ...options }) => {
      return { parameters: parameters.length, ...options };
    });
    return {
      device: device.kind,
      iterations,
      terms,
      weights,
      layers: layers.length,
      stateDtype: this.#options.stateDtype,
      groups,
    };
  }

  [customInspect](depth: number, options: object): string {
    return depth < 0 ? "[MTAdam]" : `MTAdam ${inspect(this.toJSON(), { ...options, depth })}`;
  }

  /** If JavaScript ended while a call changed the terms or groups, native code tells whether the change was made. */
  get #generation(): Generation {
    if (this.#next !== undefined) this.#settle();
    return this.#current;
  }

  /** Changes native code to another generation. */
  #change(next: Generation, change: () => void): void {
    this.#next = next;
    try {
      fromNative(change);
    } finally {
      this.#settle();
    }
  }

  #settle(): void {
    const next = this.#next;
    if (next !== undefined && !this.#guard.isDisposed && next.isOf(this.#guard.alive())) {
      this.#current.isCurrent = false;
      this.#current = next;
    }
    this.#next = undefined;
  }

  /** May run the user's code, as do the five methods that follow. */
  #readCall(options: unknown, weights: readonly number[]): CallValues {
    return this.#calls.read(options, this.#generation.terms, weights);
  }

  /** The same for a call that may continue a step. Weights that the user's code sets from here on are for later steps. */
  #readPart(options: unknown): PartValues {
    const stepWeights = this.#guard.alive().isOpen ? this.#openWeights : this.#generation.weights;
    return { call: this.#readCall(options, stepWeights), stepWeights };
  }

  #readStep(options: unknown): StepValues {
    return { call: this.#readCall(options, this.#generation.weights), groups: this.#resolveGroups() };
  }

  /** A step uses the group options that were current at its first term. */
  #readTerm(term: number, gradients: unknown, part: PartValues): StepValues & PartValues {
    this.#guard.checkNew(term, this.#generation.terms.list[term]);
    const groups = this.#guard.alive().isOpen ? undefined : this.#resolveGroups();
    this.#table.assignTerm(term, gradients);
    return { ...part, groups };
  }

  #assign(gradients: unknown): GradientTable {
    const prepared = PreparedGradients.table(gradients, this.#guard);
    if (prepared !== undefined) return prepared;
    this.#table.assign(gradients, 1);
    return this.#table;
  }

  #withGroup(group: ParameterGroup): { native: NativeOptimizer; generation: Generation } {
    const { flat: oldFlat, groups: oldGroups, terms, weights } = this.#generation;
    // Options may have changed since the groups were made.
    const current = { ...oldFlat, groups: oldGroups.map(recheckGroup) };
    const flat = withGroup(current, group, this.#options);
    this.#readIterations();
    const before = this.#stateOwner(this.#guard.alive());
    const groups = [...oldGroups, ...makeParamGroups(flat, oldGroups.length)];
    const generation = new Generation(flat, terms.list, weights, groups);
    const native = makeNativeOptimizer(flat, before.options, this.#calls.stream);
    try {
      copyState(before, { ...before, native, parameters: flat.parameters, layers: flat.layers, groups });
      this.#guard.alive();
    } catch (error) {
      native.dispose();
      throw error;
    }
    return { native, generation };
  }

  get #table(): GradientTable {
    return this.#generation.table(this.#guard.alive());
  }

  #resolveGroups(): GroupValues[] {
    const { groups, flat } = this.#generation;
    return resolveGroups(groups, flat, () => this.#guard.iterations);
  }

  /** Reading the arguments may have run user code, which may have disposed of the optimizer or its memory. */
  #recheck(gradients: { recheck(): void }): NativeOptimizer {
    const native = this.#guard.alive();
    this.#generation.recheckParameters();
    gradients.recheck();
    return native;
  }

  #pack({ call, groups }: StepValues): Float64Array {
    return this.#generation.pack(call, groups);
  }

  #accumulate(term: number, given: StepValues & PartValues): void {
    const table = this.#table;
    const native = this.#recheck({ recheck: () => table.recheck(term) });
    const values = this.#pack(given);
    this.#openWeights = given.stepWeights;
    const { stream, reduced } = given.call;
    const skipped = fromNative(() => native.accumulate(table.native, values, stream, term, reduced));
    if (skipped) this.#lookForSkipped(native);
  }

  #update(stream: NativeStream): void {
    const native = this.#guard.alive();
    this.#generation.recheckParameters();
    const skipped = fromNative(() => native.update(stream));
    if (skipped) this.#lookForSkipped(native);
    this.#stepped(native);
  }

  /** Waits for the stream, then adds the steps that the user's graphs have taken. */
  #readIterations(stream: NativeStream = null): void {
    const native = this.#guard.alive();
    fromNative(() => native.readIterations(stream));
  }

  /** Starts the readings that are due. */
  #stepped(native: NativeOptimizer): void {
    if (this.#listeners.isEmpty) return;
    this.#listeners.read(native.iterations, () => this.#startReading(native));
  }

  /** Calls the listeners, once the step's call allows others. */
  #tell(iteration: number): void {
    if (!this.#listeners.isEmpty) this.#listeners.tell(iteration);
  }

  /** Starts a reading, which warns if it shows a skipped term. */
  #lookForSkipped(native: NativeOptimizer): void {
    if (this.#nonFiniteWarning.isDue) this.#readDiagnostics(native).catch(() => undefined);
  }

  #readDiagnostics(native: NativeOptimizer): Promise<Diagnostics> {
    const reading = this.#startReading(native);
    return new Promise((resolve, reject) => {
      this.#readings.add(reading, (outcome) => {
        if (outcome.error !== undefined) reject(outcome.error);
        else resolve(outcome.diagnostics);
      });
      this.#readings.flush();
    });
  }

  #startReading(native: NativeOptimizer): DiagnosticsReading {
    const { terms, flat } = this.#generation;
    const names = { iteration: this.#guard.iterations, terms: terms.list, layers: flat.layers };
    return new DiagnosticsReading({
      native: () => new (addonOf(this.device).Diagnostics)(native),
      names,
      cosines: this.#options.cosines,
      warning: this.#nonFiniteWarning,
    });
  }

  #stateOwner(native: NativeOptimizer): StateOwner {
    const generation = this.#generation;
    const { terms, weights, groups, flat } = generation;
    return {
      native,
      options: { ...this.#options, terms: terms.list },
      terms: terms.list,
      weights,
      parameters: flat.parameters,
      layers: flat.layers,
      groups,
      iterations: native.iterations,
      recheckParameter: (index) => {
        generation.recheckParameter(index);
      },
    };
  }

  /**
   * @param isComplete whether the new state replaces all of the earlier one
   * @returns a function to call once the rest of the state is in place; without that call, the state must be loaded
   * again
   */
  #beginRestoring({ iterations, weights, groups }: Restoration, isComplete: boolean): () => void {
    const native = this.#guard.alive();
    checkWritable(this.#generation.groups, groups);
    fromNative(() => {
      native.beginRestore();
    });
    setGroupOptions(this.#generation.groups, groups);
    this.#generation.weights = Object.freeze(weights);
    return () => {
      const native = this.#guard.alive();
      fromNative(() => {
        native.endRestore(iterations, isComplete);
      });
      // Whoever saved the state has been warned of the terms that were skipped by then.
      if (this.#nonFiniteWarning.isDue) this.#nonFiniteWarning.know(countSkipped(this.#stateOwner(native)));
    };
  }
}
