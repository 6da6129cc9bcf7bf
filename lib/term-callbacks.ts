import { mustBe } from "./errors";
import type { TermGradients } from "./gradients";
import type { Names } from "./per-name";

type MaybePromise<T> = T | PromiseLike<T>;
/** Runs one term's backward pass and returns its gradients; null: the term is absent in this step. */
export type TermCallback = () => MaybePromise<TermGradients>;
/** A callback per term, in order or by name. */
export type TermCallbacks =
  readonly (TermCallback | null | undefined)[] | Readonly<Record<string, TermCallback | null | undefined>>;

/** The callbacks in the order of the terms. @throws MTAdamError LENGTH, TERM, OPTION */
export function readCallbacks(callbacks: unknown, terms: Names): (TermCallback | undefined)[] {
  const given = terms.read("callbacks", callbacks);
  return terms.list.map((_, term) => {
    const callback = given[term];
    if (callback === undefined || callback === null) return undefined;
    if (typeof callback !== "function") throw mustBe("OPTION", "callbacks", "be functions", callback);
    return callback as TermCallback;
  });
}
