import fc from "fast-check";
import type { OracleOptions } from "./oracle";

/** The forms of the moments, as options. */
export type Form = Pick<OracleOptions, "firstMoment" | "secondMoment">;
export const FORMS: readonly Form[] = [
  { firstMoment: "perTerm", secondMoment: "perTerm" },
  { firstMoment: "summed", secondMoment: "perTerm" },
  { firstMoment: "summed", secondMoment: "summed" },
];

/** Records as of `fc.record`, with the options of a form besides. */
export function withForms<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T & Form> {
  return fc
    .tuple(fc.record(model), fc.constantFrom(...FORMS))
    .map(([own, form]) => ({ ...(own as T), ...form }));
}
