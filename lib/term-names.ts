import { mustBe } from "./errors";
import { isArray, ownEntries } from "./inspect";

/** The values of `anchor` that are not names of terms; no term may have one of these names. */
export const ANCHORS: readonly string[] = ["first", "max", "mean"];

const MAX_TERMS = 65536;

/** The names of the terms. @throws MTAdamError OPTION */
export function checkTerms(value: unknown): readonly string[] {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= MAX_TERMS) {
    return Array.from({ length: value }, (_, k) => String(k));
  }
  if (!isArray(value) || value.length === 0 || value.length > MAX_TERMS) {
    throw mustBe("OPTION", "terms", `be a whole number from 1 to ${MAX_TERMS} or a list of names`, value);
  }
  const seen = new Set<string>();
  for (const name of ownEntries(value)) seen.add(checkTermName("terms", name, seen));
  return [...seen];
}

function checkTermName(subject: string, name: unknown, others: ReadonlySet<string>): string {
  // Names with a NUL in front stand for the random streams of shared moments and of parameters (math/state_codes.h).
  const isFree = (own: string): boolean =>
    own !== "" && !own.startsWith("\0") && !ANCHORS.includes(own) && !others.has(own);
  if (typeof name === "string" && isFree(name)) return name;
  throw mustBe(
    "OPTION",
    subject,
    "be unique and not empty, not begin with a NUL, and not be first, max or mean",
    name,
  );
}

/** The name of a term to add. @throws MTAdamError OPTION */
export function checkNewTerm(name: unknown, terms: readonly string[]): string {
  if (terms.length >= MAX_TERMS) throw mustBe("OPTION", "terms", `be ${MAX_TERMS} at most`, terms.length + 1);
  return checkTermName("name", name, new Set(terms));
}
