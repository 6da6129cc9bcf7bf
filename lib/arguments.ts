import { MTAdamError, mustBe } from "./errors";
import { describeValue, isRecord } from "./inspect";

/**
 * An object's own entries, each read once. The result has no prototype, so that properties of Object.prototype are not
 * options.
 *
 * @throws MTAdamError OPTION if `value` is no object with fields or has a key that is not in `keys`
 */
export function checkKeys<T extends object>(
  subject: string,
  value: unknown,
  keys: readonly string[],
): Partial<T> {
  const entries = Object.create(null) as Record<string, unknown>;
  if (value === undefined) return entries as Partial<T>;
  if (!isRecord(value)) throw mustBe("OPTION", subject, "be an object", value);
  Object.assign(entries, value);
  for (const key of Object.keys(entries)) {
    if (keys.includes(key)) continue;
    const meant = nearest(key, keys);
    const hint = meant === undefined ? `it knows ${keys.join(", ") || "none"}` : `did you mean \`${meant}\`?`;
    throw new MTAdamError("OPTION", `\`${subject}\` has no option ${describeValue(key)} (${hint}).`);
  }
  return entries as Partial<T>;
}

/** @throws MTAdamError OPTION */
export function checkBoolean(subject: string, value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw mustBe("OPTION", subject, "be true or false", value);
}

/** Names that other libraries use, in lower case and without underscores. */
const SYNONYMS: Readonly<Record<string, string>> = {
  learningrate: "lr",
  epsilon: "eps",
  params: "parameters",
};

/** The name that a misspelled one was most likely meant to be. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const plain = name.toLowerCase().replaceAll("_", "");
  const synonym = Object.hasOwn(SYNONYMS, plain) ? SYNONYMS[plain] : undefined;
  return known.find((one) => one === synonym) ?? known.find((one) => isNear(name, one));
}

/** The distance of longer names takes too long, a time that grows with the square of their length. */
const LONGEST_COMPARED = 64;

/** Whether two names differ in case or by a few letters added, dropped or changed (Levenshtein's distance). */
function isNear(a: string, b: string): boolean {
  const most = Math.min(2, b.length - 1);
  if (Math.abs(a.length - b.length) > most || b.length > LONGEST_COMPARED) return false;
  const [from, to] = [a.toLowerCase(), b.toLowerCase()];
  let row = Array.from({ length: to.length + 1 }, (_, k) => k);
  for (let i = 0; i < from.length; ++i) {
    const next = [i + 1];
    for (let j = 0; j < to.length; ++j) {
      const changed = row[j]! + (from[i] === to[j] ? 0 : 1);
      next.push(Math.min(changed, row[j + 1]! + 1, next[j]! + 1));
    }
    row = next;
  }
  return row[to.length]! <= most;
}
