import { MTAdamError, mustBe } from "../errors";
import { isRecord, nameClass } from "../inspect";
import { checkReceivers } from "../receiver";
import type { JaxArray, JaxFunction, JaxModule, JaxTreeStructure } from "./module";
import { reachedInputs } from "./reach";

/** A parameter of the model, as `new MTAdam` takes it: a leaf of the tree. */
export interface JaxParameter {
  /** The leaf's place in the tree, such as "hidden.0.weight"; "parameters" for a tree that is one array. */
  readonly name: string;
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** One term's gradients by name of the parameter; null = absent. */
export type JaxTermGradients = Record<string, Float32Array | null>;

/** A loss: a pure function of the parameters and the batch, which gives a scalar. */
export type JaxLoss<Tree, Batch extends readonly unknown[]> = (parameters: Tree, ...batch: Batch) => JaxArray;

interface Term {
  readonly name: string;
  readonly loss: JaxFunction;
  /** The loss and its gradient, compiled. */
  readonly compiled: JaxFunction & { dispose: () => void };
  /** Per parameter whether the loss depends on it. Known at the first call. */
  reached: readonly boolean[] | undefined;
}

/**
 * Makes a model of jax-js ready to be trained: its parameters become Float32Arrays, and the gradient of each loss is compiled.
 *
 * @param jax the module: `import * as jax from "@jax-js/jax"`
 * @param parameters a tree of float32 arrays, which is consumed
 * @param losses a function per term
 * @throws MTAdamError OPTION, DTYPE (the promise rejects)
 */
export async function openJax<Tree, Batch extends readonly unknown[], Name extends string>(
  jax: JaxModule,
  parameters: Tree,
  losses: Readonly<Record<Name, JaxLoss<Tree, Batch>>>,
): Promise<JaxModel<Tree, Batch, Name>> {
  checkModule(jax);
  if (!isRecord(losses) || Object.keys(losses).length === 0) {
    throw mustBe("OPTION", "losses", "be an object with a function per term", losses);
  }
  for (const [term, loss] of Object.entries(losses)) {
    if (typeof loss !== "function") throw mustBe("OPTION", `losses.${term}`, "be a function", loss);
  }
  const [leaves, structure] = jax.tree.flatten(parameters as never);
  const names = namesOf(structure);
  if (names.length === 0) throw mustBe("OPTION", "parameters", "be a tree of arrays", parameters);
  for (const [k, leaf] of leaves.entries()) checkLeaf(names[k]!, leaf);
  const known = new Set<string>();
  const twice = names.find((name) => known.size === known.add(name).size);
  if (twice !== undefined)
    throw mustBe("OPTION", "parameters", "have a path of its own for each array", twice);
  const arrays = (leaves as JaxArray[]).map((leaf) => ({ leaf, shape: [...leaf.shape] }));
  const described = await Promise.all(
    arrays.map(async ({ leaf, shape }, k): Promise<JaxParameter> => {
      return { name: names[k]!, data: (await leaf.data()) as Float32Array, shape };
    }),
  );
  return new JaxModel<Tree, Batch, Name>(token, jax, structure, described, losses);
}

const token = Symbol("JaxModel");

/** A model of jax-js that is trained from here. {@link openJax} makes it. */
export class JaxModel<
  Tree = unknown,
  Batch extends readonly unknown[] = readonly unknown[],
  Name extends string = string,
> {
  readonly #jax: JaxModule;
  readonly #structure: JaxTreeStructure;
  readonly #terms: readonly Term[];
  #losses: Readonly<Record<string, number>> = {};
  #isClosed = false;
  /** The leaves of the tree in order. The optimizer updates their arrays in place. */
  readonly parameters: readonly JaxParameter[];

  /** @internal */
  constructor(
    key: symbol,
    jax: JaxModule,
    structure: JaxTreeStructure,
    parameters: readonly JaxParameter[],
    losses: Readonly<Record<string, JaxFunction>>,
  ) {
    if (key !== token) throw mustBe("OPTION", "JaxModel", "be made by `openJax`", undefined);
    this.#jax = jax;
    this.#structure = structure;
    this.parameters = parameters;
    this.#terms = Object.entries(losses).map(([name, loss]) => ({
      name,
      loss,
      compiled: jax.jit(jax.valueAndGrad(loss)),
      reached: undefined,
    }));
  }

  /** The names of the loss terms, for the option `terms` of `new MTAdam`. */
  get terms(): readonly Name[] {
    return this.#terms.map(({ name }) => name as Name);
  }

  /** The last loss of each term that was computed. */
  get losses(): Readonly<Partial<Record<Name, number>>> {
    return this.#losses as Readonly<Partial<Record<Name, number>>>;
  }

  /** The tree of parameters as they are now, in new arrays: the caller's, to consume or dispose of. */
  get tree(): Tree {
    const { numpy, tree } = this.#jax;
    const arrays = this.parameters.map(({ data, shape }) => numpy.array(data, { shape: [...shape] }));
    return tree.unflatten(this.#structure as never, arrays as never) as Tree;
  }

  /**
   * A callback per term, for `optimizer.stepEach`: each computes the loss and the gradient of one term. The batch stays the
   * caller's, and must live until the promise of `stepEach` has settled.
   *
   * @throws MTAdamError DISPOSED
   */
  callbacks(...batch: Batch): Record<Name, () => Promise<JaxTermGradients>> {
    this.#check();
    const entries = this.#terms.map((term) => [term.name, () => this.#gradients(term, batch)]);
    return Object.fromEntries(entries) as Record<Name, () => Promise<JaxTermGradients>>;
  }

  /**
   * The losses and gradients of all terms: `optimizer.step(await model.gradients(batch))`. The batch stays the caller's.
   *
   * @throws MTAdamError DISPOSED; what a loss throws
   */
  async gradients(...batch: Batch): Promise<Record<Name, JaxTermGradients>> {
    const all: [string, JaxTermGradients][] = [];
    for (const [term, callback] of Object.entries<() => Promise<JaxTermGradients>>(
      this.callbacks(...batch),
    )) {
      all.push([term, await callback()]);
    }
    // Not by assignment: a term may be named "__proto__".
    return Object.fromEntries(all) as Record<Name, JaxTermGradients>;
  }

  /** Frees what was compiled. The parameters stay. */
  close(): void {
    if (!this.#isClosed) for (const { compiled } of this.#terms) compiled.dispose();
    this.#isClosed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    if (this.#isClosed) throw new MTAdamError("DISPOSED", "The model has been closed.");
  }

  async #gradients(term: Term, batch: Batch): Promise<JaxTermGradients> {
    this.#check(); // the model may have been closed since the callback was made
    const { tree } = this.#jax;
    const held = tree.leaves(batch as never).filter(isArrayOfJax);
    const counts = held.map(({ refCount }) => refCount);
    const parameters = this.tree;
    const own = tree.leaves(parameters as never) as JaxArray[];
    let result: [JaxArray, Tree];
    try {
      term.reached ??= this.#reached(term, parameters, batch);
      result = term.compiled(parameters, ...tree.ref(batch)) as [JaxArray, Tree];
    } catch (error) {
      // The call may have consumed some of its arguments, or none.
      for (const leaf of own) if (leaf.refCount > 0) leaf.dispose();
      for (const [k, leaf] of held.entries()) while (leaf.refCount > counts[k]!) leaf.dispose();
      throw error;
    }
    const [value, gradient] = result;
    const leaves = tree.leaves(gradient as never) as JaxArray[];
    const reached = term.reached;
    const [loss, arrays] = await Promise.all([
      value.data() as Promise<ArrayLike<number>>,
      Promise.all(
        leaves.map(async (leaf, k) => {
          if (reached[k] === true) return (await leaf.data()) as Float32Array;
          leaf.dispose();
          return null;
        }),
      ),
    ]);
    this.#losses = { ...this.#losses, [term.name]: loss[0]! };
    return Object.fromEntries(this.parameters.map(({ name }, k) => [name, arrays[k]!]));
  }

  #reached({ loss }: Term, parameters: Tree, batch: Batch): boolean[] {
    const { jaxpr: closed } = this.#jax.makeJaxpr(loss)(parameters, ...batch);
    // The constants of a program come before its arguments.
    const inputs = closed.jaxpr.inBinders.slice(closed.consts.length);
    const reached = reachedInputs(closed.jaxpr);
    closed.dispose();
    return this.parameters.map((_, k) => reached.has(inputs[k]!));
  }

  static {
    const isModel = (value: unknown): boolean => typeof value === "object" && value !== null && #jax in value;
    checkReceivers("a JaxModel", this.prototype, isModel);
    nameClass(this.prototype, "JaxModel");
  }
}

function checkModule(jax: unknown): void {
  const { jit, valueAndGrad, makeJaxpr, numpy, tree } = (jax ?? {}) as Partial<JaxModule>;
  if ([jit, valueAndGrad, makeJaxpr].every((part) => typeof part === "function") && numpy && tree) return;
  throw mustBe("OPTION", "jax", 'be the module: import * as jax from "@jax-js/jax"', jax);
}

function isArrayOfJax(value: unknown): value is JaxArray {
  return typeof value === "object" && value !== null && "refCount" in value && "ref" in value;
}

function checkLeaf(name: string, leaf: unknown): void {
  if (!isArrayOfJax(leaf)) throw mustBe("DTYPE", name, "be an array of jax-js", leaf);
  if (leaf.dtype !== "float32") {
    throw new MTAdamError("DTYPE", `\`${name}\` must be float32; got an array of ${String(leaf.dtype)}.`);
  }
}

function namesOf(structure: JaxTreeStructure): string[] {
  const visit = ({ nodeType, nodeMetadata, childTreedefs }: JaxTreeStructure, place: string): string[] => {
    if (nodeType === "Leaf") return [place === "" ? "parameters" : place];
    return childTreedefs.flatMap((child, k) => {
      const key = nodeType === "Object" ? (nodeMetadata as string[])[k]! : String(k);
      return visit(child, place === "" ? key : `${place}.${key}`);
    });
  };
  return visit(structure, "");
}
