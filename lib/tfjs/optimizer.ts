import type { NamedTensorMap, Scalar, serialization, Tensor, Variable } from "@tensorflow/tfjs-core";
import type { StateDict } from "../checkpoint/state";
import { MTAdamError, mustBe } from "../errors";
import { isArray, isRecord } from "../inspect";
import { loadNow, MTAdam } from "../mtadam";
import {
  checkLearningRate,
  checkOptions,
  type CheckedOptions,
  type LearningRate,
  type MTAdamOptions,
} from "../options";
import type { ParameterDescription } from "../parameters";
import { Names } from "../per-name";
import { tf } from "./core";
import { registered, TrainedVariable } from "./trained-variable";
import { decodeState, encodeState, rename, type NamedTensor } from "./weights";

/** Options of {@link MTAdamOptimizer}: those of `MTAdam` without `gradientDtype`, and `layer`. `terms` may be left out. */
export interface MTAdamOptimizerOptions<Term extends string = string> extends Omit<
  MTAdamOptions,
  "terms" | "gradientDtype"
> {
  /** The names of the loss terms, or their number. Default: one, "loss". */
  terms?: number | readonly Term[] | undefined;
  /** The layer tag of a variable: variables with the same tag are balanced together. Default: none has a tag. */
  layer?: ((variable: Variable) => string | undefined) | undefined;
}

/** A loss per term. A term that is left out, or whose loss returns null, is absent in this step. One must be present. */
export type TermLosses<Term extends string = string> = Readonly<Partial<Record<Term, () => Scalar | null>>>;

/** A variable, or a weight of a `tf.layers` model, such as those in `model.trainableWeights`. */
export type TrainableVariable = Variable | { read(): Tensor };

/** A gradient per variable, as `applyGradients` takes it; null: the term does not reach the variable. */
export type VariableGradients = Readonly<Record<string, Tensor | null>> | readonly NamedTensor[];

/** The losses and the gradients of the terms that were computed. */
export interface TermComputation<Term extends string = string> {
  value: Partial<Record<Term, Scalar>>;
  grads: Partial<Record<Term, NamedTensorMap>>;
}

/**
 * MTAdam as an optimizer of TensorFlow.js. {@link minimizeTerms} is `minimize` for a loss of several terms; with one term,
 * `minimize` and `model.fit` work too.
 *
 * A variable becomes a parameter with its first gradient.
 *
 * @example
 * const optimizer = new MTAdamOptimizer({ terms: ["content", "style"], lr: 1e-3 });
 * optimizer.minimizeTerms({ content: () => contentLoss(), style: () => styleLoss() });
 */
export class MTAdamOptimizer<const Term extends string = string> extends tf.Optimizer {
  /** The name in saved models. */
  static readonly className = "MTAdam";

  readonly #options: MTAdamOptions;
  readonly #checked: CheckedOptions;
  readonly #layer: (variable: Variable) => string | undefined;
  /** The parameters, by name. */
  readonly #variables = new Map<string, TrainedVariable>();
  #inner: MTAdam | undefined;
  /** A state that waits for the variables. */
  #pending: StateDict | undefined;
  /** The last result of {@link getWeights}, which nobody else disposes of. */
  #weights: NamedTensor[] = [];

  /** @throws MTAdamError OPTION, TERM */
  constructor(options: MTAdamOptimizerOptions<Term> = {}) {
    super();
    if (!isRecord(options)) throw mustBe("OPTION", "options", "be an object", options);
    const { layer = () => undefined, terms, ...others }: MTAdamOptimizerOptions<Term> = options;
    if (typeof layer !== "function") throw mustBe("OPTION", "layer", "be a function of a variable", layer);
    this.#layer = layer;
    this.#options = { ...others, terms: terms ?? ["loss"] };
    this.#checked = checkOptions(this.#options);
  }

  /** The optimizer with the state: diagnostics, norms, weights, options. Undefined before the first step or {@link build}. */
  get inner(): MTAdam | undefined {
    return this.#inner;
  }

  get terms(): readonly string[] {
    return this.#inner?.terms ?? this.#checked.terms;
  }

  /** Completed steps. */
  override get iterations(): number {
    return this.#inner?.iterations ?? this.#pending?.metadata.iterations ?? 0;
  }

  /** The learning rate: a number, or a function of {@link iterations}. */
  get lr(): number | LearningRate {
    return this.#inner?.lr ?? this.#options.lr ?? this.#checked.group.lr;
  }

  set lr(lr: number | LearningRate) {
    this.#options.lr = checkLearningRate(lr);
    if (this.#inner !== undefined) this.#inner.lr = lr;
    // A loaded state would bring its own rate back.
    for (const group of this.#pending?.metadata.groups ?? []) group.lr = typeof lr === "function" ? null : lr;
  }

  /** The same as {@link lr}, by the name that optimizers of TensorFlow.js have. */
  get learningRate(): number | LearningRate {
    return this.lr;
  }

  set learningRate(lr: number | LearningRate) {
    this.lr = lr;
  }

  /**
   * Makes the optimizer's state for these variables now, rather than in the first step that has a gradient for them. Those
   * that it has already stay as they are.
   *
   * @returns {@link inner}
   * @throws MTAdamError OPTION, DTYPE, OUT_OF_MEMORY, CHECKPOINT
   */
  build(variables: readonly TrainableVariable[]): MTAdam {
    const fresh = variables
      .map(variableOf)
      .filter(({ name }) => !this.#variables.has(name))
      .map((variable) => new TrainedVariable(variable));
    if (this.#inner === undefined) this.#inner = this.#open(fresh);
    else if (fresh.length > 0) {
      this.#inner.addParamGroup({ ...this.#inner.paramGroups[0]!, parameters: fresh.map(this.#describe) });
    }
    for (const variable of fresh) this.#variables.set(variable.name, variable);
    return this.#inner;
  }

  /**
   * Computes each loss and its gradient, takes a step with all of them, and disposes of the gradients.
   *
   * @param losses a function per term, as that of `minimize`
   * @param returnCost whether to return the losses
   * @param varList the variables to train. Default: all trainable ones
   * @returns the losses by term, which the caller disposes of, or null
   * @throws MTAdamError TERM, OPTION, DTYPE, LENGTH; what a loss throws. The variables have not changed then
   */
  minimizeTerms(
    losses: TermLosses<Term>,
    returnCost = false,
    varList?: readonly TrainableVariable[],
  ): Partial<Record<Term, Scalar>> | null {
    const value = tf.tidy(() => {
      const { value, grads } = this.computeTermGradients(losses, varList);
      this.applyTermGradients(grads);
      return returnCost ? value : {};
    });
    return returnCost ? value : null;
  }

  /**
   * The losses and their gradients, by term and by name of the variable. A variable that a term does not reach is absent
   * from its gradients. The caller disposes of all.
   *
   * @throws MTAdamError TERM; OPTION where a loss is not a function, returns something other than a scalar or null, or
   * depends on no variable; what a loss throws
   */
  computeTermGradients(
    losses: TermLosses<Term>,
    varList?: readonly TrainableVariable[],
  ): TermComputation<Term> {
    const inOrder = new Names("term", this.terms).read("losses", losses);
    const variables = varList?.map(variableOf);
    return tf.tidy(() => {
      const value: [string, Scalar][] = [];
      const grads: [string, NamedTensorMap][] = [];
      for (const [k, term] of this.terms.entries()) {
        const loss = inOrder[k];
        if (loss === undefined) continue;
        if (typeof loss !== "function") throw mustBe("OPTION", `losses.${term}`, "be a function", loss);
        const computed = differentiate(`losses.${term}`, loss as () => unknown, variables);
        if (computed === undefined) continue;
        value.push([term, computed.value]);
        grads.push([term, computed.grads]);
      }
      // Not by assignment: a term may be named "__proto__".
      return { value: Object.fromEntries(value), grads: Object.fromEntries(grads) };
    }) as TermComputation<Term>;
  }

  /**
   * Takes a step with the gradients of {@link computeTermGradients}, which stay the caller's. Absent are: a term that is left
   * out, a variable that a term's gradients leave out. At least one term must be present.
   *
   * @throws MTAdamError TERM, OPTION, DTYPE, LENGTH; the variables have not changed then
   */
  applyTermGradients(gradients: Readonly<Partial<Record<Term, VariableGradients | null>>>): void {
    const names = new Set<string>();
    const byTerm = new Map<string, Map<string, Float32Array>>();
    const inOrder = new Names("term", this.terms).read("gradients", gradients);
    for (const [k, term] of this.terms.entries()) {
      const given = (inOrder[k] ?? undefined) as VariableGradients | undefined;
      if (given === undefined) continue;
      const subject = `gradients[${JSON.stringify(term)}]`;
      if (!isArray(given) && !isRecord(given)) {
        throw mustBe("OPTION", subject, "be an object or a list of named tensors", given);
      }
      const ofTerm = new Map<string, Float32Array>();
      for (const [name, gradient] of entriesOf(given)) {
        if (typeof gradient.dataSync !== "function") {
          throw mustBe("OPTION", `${subject}[${JSON.stringify(name)}]`, "be a Tensor", gradient);
        }
        checkShape(`${subject}[${JSON.stringify(name)}]`, gradient, registered(name));
        // Only reads: the array may be the tensor's own memory.
        ofTerm.set(name, gradient.dataSync<"float32">());
        names.add(name);
      }
      byTerm.set(term, ofTerm);
    }
    const moving = [...names];
    if (moving.length === 0 && this.#inner === undefined)
      throw mustBe("OPTION", "gradients", "reach a variable in the first step", gradients);
    const inner = this.build(
      moving.map((name) => {
        const variable = registered(name);
        if (variable === undefined) throw mustBe("OPTION", "gradients", "be of variables", name);
        return variable;
      }),
    );
    for (const name of moving) this.#variables.get(name)!.refresh();
    inner.step(
      Object.fromEntries(Array.from(byTerm, ([term, ofTerm]) => [term, Object.fromEntries(ofTerm)])),
    );
    for (const name of moving) this.#variables.get(name)!.publish();
    this.#disposeWeights();
  }

  /**
   * {@link minimizeTerms} for an optimizer with one term; `model.fit` calls it.
   *
   * @returns the loss, or null
   * @throws MTAdamError TERM if the optimizer has several terms; as {@link minimizeTerms}
   */
  override minimize(f: () => Scalar, returnCost = false, varList?: Variable[]): Scalar | null {
    const term = this.#onlyTerm();
    const losses = { [term]: f } as TermLosses<Term>;
    return this.minimizeTerms(losses, returnCost, varList)?.[term] ?? null;
  }

  /** {@link applyTermGradients} for an optimizer with one term. @throws MTAdamError TERM if it has several */
  override applyGradients(gradients: NamedTensorMap | NamedTensor[]): void {
    this.applyTermGradients({ [this.#onlyTerm()]: gradients } as Record<Term, VariableGradients>);
  }

  #onlyTerm(): Term {
    const { terms } = this;
    if (terms.length === 1) return terms[0] as Term;
    throw new MTAdamError(
      "TERM",
      "`minimize`, `model.fit` and `applyGradients` have one loss; this optimizer has the terms " +
        `${terms.join(", ")}: call \`minimizeTerms\` or \`applyTermGradients\`.`,
    );
  }

  /**
   * The options, for `model.save`. Of a schedule, the current learning rate; `device`, `stream`, `distributed` and `layer` are
   * left out.
   */
  override getConfig(): serialization.ConfigDict {
    const { lr } = this;
    const { anchor, seed } = this.#options;
    const options = Object.entries(this.#options).filter(([key]) => !LEFT_OUT.includes(key));
    return {
      ...Object.fromEntries<serialization.ConfigDictValue>(
        options as [string, serialization.ConfigDictValue][],
      ),
      lr: typeof lr === "function" ? lr(this.iterations) : lr,
      weights: [...(this.#inner?.weights ?? this.#checked.weights)],
      // TensorFlow.js changes strings to snake case and back, except under the key "name".
      terms: this.terms.map((name) => ({ name })),
      ...(anchor === undefined ? {} : { anchor: { name: anchor } }),
      ...(typeof seed === "bigint" ? { seed: { name: String(seed) } } : {}), // JSON has no bigint
    };
  }

  static override fromConfig<T extends serialization.Serializable>(
    cls: serialization.SerializableConstructor<T>,
    config: serialization.ConfigDict,
  ): T {
    const { terms, anchor, seed, ...options } = config as unknown as SavedConfig;
    delete options.customObjects;
    return new cls({
      ...options,
      terms: terms.map(({ name }) => name),
      ...(anchor === undefined ? {} : { anchor: anchor.name }),
      ...(seed === undefined ? {} : { seed: typeof seed === "object" ? BigInt(seed.name) : seed }),
    });
  }

  /**
   * The number of steps and the whole state as tensors, for `model.save` with `includeOptimizer`. The next step and the next
   * call dispose of them.
   */
  override async getWeights(): Promise<NamedTensor[]> {
    const state = (await this.#inner?.stateDict()) ?? this.#pending;
    this.#disposeWeights();
    const iter = { name: "iter", tensor: tf.scalar(this.iterations, "int32") };
    this.#weights = [iter, ...(state === undefined ? [] : encodeState(state))];
    return this.#weights;
  }

  /**
   * Restores what {@link getWeights} gave. Before the first step, the state waits for the variables: they match it by name,
   * or in order if the names differ.
   *
   * @throws MTAdamError CHECKPOINT
   */
  override async setWeights(weights: NamedTensor[]): Promise<void> {
    if (!isArray(weights))
      throw mustBe("CHECKPOINT", "weights", "be the tensors that `getWeights` gave", weights);
    const tensors = weights.filter(({ name }) => name !== "iter");
    if (tensors.length === 0 && weights.length === 1 && this.#inner === undefined) return;
    const state = await decodeState(tensors);
    if (this.#inner === undefined) this.#pending = state;
    else loadNow(this.#inner, rename(state, [...this.#variables.values()]));
  }

  /** Frees the state. The variables stay. */
  override dispose(): void {
    this.#disposeWeights();
    this.#inner?.dispose();
  }

  #disposeWeights(): void {
    for (const { tensor } of this.#weights.splice(0)) tensor.dispose();
  }

  readonly #describe = ({ name, shape, data }: TrainedVariable): ParameterDescription => {
    const layer = this.#layer(registered(name)!);
    return { name, shape, data, ...(layer === undefined ? {} : { layer }) };
  };

  #open(fresh: readonly TrainedVariable[]): MTAdam {
    if (this.#pending === undefined) return new MTAdam(fresh.map(this.#describe), this.#options);
    const state = rename(this.#pending, fresh);
    const { parameters, groups } = state.metadata;
    const known = new Map(fresh.map((variable) => [variable.name, variable]));
    for (const { name } of parameters) {
      const variable = known.get(name) ?? registered(name);
      if (variable === undefined) {
        throw new MTAdamError(
          "CHECKPOINT",
          `The state's ${JSON.stringify(name)} must be a variable; there is none.`,
        );
      }
      known.set(name, variable instanceof TrainedVariable ? variable : new TrainedVariable(variable));
    }
    const inner = new MTAdam(
      groups.map((_, k) => ({
        parameters: parameters
          .filter(({ group }) => group === k)
          .map(({ name }) => this.#describe(known.get(name)!)),
      })),
      this.#options,
    );
    loadNow(inner, state);
    for (const [name, variable] of known) this.#variables.set(name, variable);
    this.#pending = undefined;
    return inner;
  }
}

/** @throws MTAdamError OPTION */
function variableOf(given: TrainableVariable): Variable {
  const variable = "read" in given ? given.read() : given;
  if (variable instanceof tf.Variable) return variable as Variable;
  throw mustBe("OPTION", "variables", "be a list of variables", given);
}

const ABSENT = Symbol("absent");

/** The loss of a term with its gradients; undefined where it is null. @throws MTAdamError OPTION; what the loss throws */
function differentiate(
  subject: string,
  loss: () => unknown,
  variables: Variable[] | undefined,
): ReturnType<typeof tf.variableGrads> | undefined {
  const state = { isComputed: false };
  const scalar = (): Scalar => {
    const value = loss();
    // Leaves the tape as an error does.
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- it is caught below
    if (value === null) throw ABSENT;
    if (!(value instanceof tf.Tensor)) throw mustBe("OPTION", subject, "return a scalar or null", value);
    const { rank, shape } = value as Tensor;
    if (rank > 0) {
      throw new MTAdamError(
        "OPTION",
        `\`${subject}\` must return a scalar or null; got a tensor of shape [${shape.join(", ")}].`,
      );
    }
    state.isComputed = true;
    return value as Scalar;
  };
  try {
    return tf.variableGrads(scalar, variables);
  } catch (error) {
    if (error === ABSENT) return undefined;
    if (!state.isComputed) throw error;
    const { message } = error as Error;
    throw new MTAdamError(
      "OPTION",
      `\`${subject}\` must have a gradient, or return null where the term is absent: ${message}`,
      { cause: error },
    );
  }
}

/** Refuses what has as many elements, but is a transpose, for example. @throws MTAdamError LENGTH */
function checkShape(subject: string, { size, shape }: Tensor, variable: Variable | undefined): void {
  if (size !== variable?.size || tf.util.arraysEqual(shape, variable.shape)) return;
  const [own, other] = [variable.shape, shape].map((sizes) => `[${sizes.join(", ")}]`);
  throw new MTAdamError("LENGTH", `\`${subject}\` must have the shape ${own}; got ${other}.`);
}

/** Options that belong to the process. */
const LEFT_OUT: readonly string[] = ["device", "stream", "distributed"] satisfies (keyof MTAdamOptions)[];

/** What {@link MTAdamOptimizer.getConfig} gave. */
interface SavedConfig extends Omit<MTAdamOptions, "terms" | "anchor" | "seed"> {
  terms: { name: string }[];
  anchor?: { name: string };
  seed?: number | { name: string };
  /** Added by `loadLayersModel`. */
  customObjects?: unknown;
}

function entriesOf(gradients: VariableGradients): [string, Tensor][] {
  const entries = Array.isArray(gradients)
    ? (gradients as readonly NamedTensor[]).map(({ name, tensor }): [string, Tensor | null] => [name, tensor])
    : Object.entries(gradients);
  // `minimize` leaves the tensor undefined where there is no gradient.
  return entries.filter((entry): entry is [string, Tensor] => (entry[1] ?? null) !== null);
}

tf.serialization.registerClass(MTAdamOptimizer);
