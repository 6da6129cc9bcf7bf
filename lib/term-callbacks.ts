import { mustBe } from "./errors";
import type { TermGradients } from "./gradients";
import type { ByName, Names } from "./per-name";

type MaybePromise<T> = T | PromiseLike<T>;
/** Runs one term's backward pass and returns its gradients; null: the term is absent in this step. */
export type TermCallback<Parameter extends string = string> = () => MaybePromise<TermGradients<Parameter>>;
/** A callback per term, in order or by name. */
export type TermCallbacks<Term extends string = string, Parameter extends string = string> =
  readonly (TermCallback<Parameter> | null | undefined)[] | ByName<Term, TermCallback<Parameter> | null>;

/** The callbacks in the order of the terms. @throws MTAdamError LENGTH, TERM, OPTION */
export function readCallbacks(callbacks: unknown, terms: Names): (TermCallback | undefined)[] {
  const given = terms.read("callbacks", callbacks, 1);
  return terms.list.map((_, term) => {
    const callback = given[term];
    if (callback === undefined || callback === null) return undefined;
    if (typeof callback !== "function") throw mustBe("OPTION", "callbacks", "be functions", callback);
    return callback as TermCallback;
  });
}
