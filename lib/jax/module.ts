// What is used of jax-js, structurally: it has one copy for `import` and one for `require`, whose classes differ.

/** An array of jax-js. A call consumes its arguments; `ref` keeps an array for one more use. */
export interface JaxArray {
  readonly shape: readonly number[];
  readonly dtype: unknown;
  readonly refCount: number;
  readonly ref: this;
  /** Copies the elements out, and consumes the array. */
  data(): Promise<unknown>;
  dispose(): void;
}

/** The structure of a tree: the keys of an object are its metadata. */
export interface JaxTreeStructure {
  readonly nodeType: unknown;
  readonly nodeMetadata: unknown;
  readonly childTreedefs: readonly JaxTreeStructure[];
}

/** An input or result in a program. Literals have no `id`. */
export interface JaxAtom {
  readonly aval: { readonly dtype: unknown };
}

export interface JaxProgram {
  readonly inBinders: readonly JaxAtom[];
  readonly eqns: readonly {
    readonly primitive: unknown;
    readonly inputs: readonly JaxAtom[];
    readonly outBinders: readonly JaxAtom[];
  }[];
  readonly outs: readonly JaxAtom[];
  /** Without nested programs of `jit`. */
  flatten(): JaxProgram;
}

/** A pure function of jax-js. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- arrays in trees of any structure
export type JaxFunction = (...args: any[]) => any;

/** The module `@jax-js/jax`, as `import * as jax from "@jax-js/jax"` gives it. */
export interface JaxModule {
  jit(f: JaxFunction): JaxFunction & { dispose: () => void };
  valueAndGrad(f: JaxFunction): JaxFunction;
  makeJaxpr(f: JaxFunction): (...args: unknown[]) => {
    jaxpr: { readonly jaxpr: JaxProgram; readonly consts: readonly unknown[]; dispose(): void };
  };
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- typed arrays of one kind of buffer, in some versions
  readonly numpy: { array(values: any, options: { shape: number[] }): JaxArray };
  readonly tree: {
    flatten(tree: never): [unknown[], JaxTreeStructure];
    unflatten(structure: never, leaves: never): unknown;
    leaves(tree: never): unknown[];
    ref<T>(tree: T): T;
  };
}
