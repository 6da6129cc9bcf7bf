import type { StateDict } from "../../../lib";
import { Disagreement } from "./shadow";

/**
 * Throws unless terms and parameters that are in both states have kept their values, bit for bit, and new ones start
 * from nothing. So does a summed first moment that holds gradients of a term whose second moment is gone.
 *
 * @throws Disagreement
 */
export function checkKept(before: StateDict, after: StateDict): void {
  const [old, now] = [before.metadata, after.metadata];
  const names = old.parameters.map(({ name }) => name);
  const membersOf = ({ parameters }: typeof old, layer: string): number =>
    parameters.filter((parameter) => parameter.layer === layer).length;
  for (const [term, termName] of now.terms.entries()) {
    const formerTerm = old.terms.indexOf(termName);
    for (const [parameter, { name }] of now.parameters.entries()) {
      const former = names.indexOf(name);
      const isNew = formerTerm < 0 || former < 0;
      const [at, formerAt] = [term * now.parameters.length + parameter, formerTerm * names.length + former];
      for (const key of ["t", "P1", "P2", "q"]) {
        const nothing = key === "t" ? 0n : key === "q" ? 0 : 1;
        const list = after[key] as Float64Array | undefined;
        if (list === undefined) continue;
        same(
          `${key} of ${termName}, ${name}`,
          list[at],
          isNew ? nothing : (before[key] as Float64Array)[formerAt],
        );
      }
      for (const plane of ["m", "v", "x"]) {
        const values = after[`${plane}.${term}.${parameter}`] as Float32Array | undefined;
        const formerValues = before[`${plane}.${formerTerm}.${former}`] as Float32Array | undefined;
        values?.forEach((value, k) => {
          same(`${plane} of ${termName}, ${name}`, value, isNew ? 0 : formerValues![k]);
        });
      }
    }
    for (const [layer, name] of now.layers.entries()) {
      const former = old.layers.indexOf(name);
      const isNew = formerTerm < 0 || former < 0;
      // With the network as one unit, the norm of a layer that has got a second tensor becomes its own.
      if (!isNew && membersOf(old, name) !== membersOf(now, name)) continue;
      for (const key of ["n", "occurred", "skipped"]) {
        const value = (after[key] as Float64Array)[term * now.layers.length + layer];
        const formerValue = (before[key] as Float64Array)[formerTerm * old.layers.length + former];
        same(`${key} of ${termName}, ${name}`, Number(value), isNew ? 0 : Number(formerValue));
      }
    }
  }
  for (const [parameter, { name }] of now.parameters.entries()) {
    const former = names.indexOf(name);
    const isNew = former < 0;
    const begins = isNew || (isBoundedByTerms(old) && hasLostTerm(before, now, former));
    for (const key of ["T", "T.P1", "T.P2"]) {
      const list = after[key] as Float64Array | undefined;
      if (list === undefined) continue;
      const nothing = key === "T" ? 0n : 1;
      same(`${key} of ${name}`, list[parameter], begins ? nothing : (before[key] as Float64Array)[former]);
    }
    for (const plane of ["M", "V", "x"]) {
      const values = after[`${plane}.${parameter}`] as Float32Array | undefined;
      const formerValues = before[`${plane}.${former}`] as Float32Array | undefined;
      const isNothing = plane === "M" ? begins : isNew;
      values?.forEach((value, k) => {
        same(`${plane} of ${name}`, value, isNothing ? 0 : formerValues![k]);
      });
    }
  }
}

/** Whether the second moments of the terms are all that bounds a first moment. */
function isBoundedByTerms({ options }: StateDict["metadata"]): boolean {
  return options.firstMoment === "summed" && options.secondMoment !== "summed" && !options.amsgrad;
}

/** Whether a term is gone that has had gradients for a parameter. */
function hasLostTerm({ metadata, t }: StateDict, now: StateDict["metadata"], parameter: number): boolean {
  return metadata.terms.some(
    (name, term) =>
      !now.terms.includes(name) && (t as BigInt64Array)[term * metadata.parameters.length + parameter]! > 0n,
  );
}

function same(what: string, actual: unknown, expected: unknown): void {
  if (Object.is(actual, expected)) return;
  throw new Disagreement(`${what}: ${String(actual)}, and it was ${String(expected)}`);
}
