/** Which moments a step keeps: ALGORITHM's m for each term, or their sum. */
export type Form = "perTerm" | "summed";
/** All terms' gradients at once, `step`; or one at a time, `accumulate` and `update`. */
export type Way = "resident" | "streamed";

export const FORMS: readonly Form[] = ["perTerm", "summed"];
export const WAYS: readonly Way[] = ["resident", "streamed"];

/** Passes over whole arrays that read and write as much as a step does. */
export interface Traffic {
  /** Arrays that are only read, and those that are read and written. */
  readOnly: number;
  updated: number;
  /** Passes that read an array. */
  reads: number;
  /** Passes a = s·a + r with an array r. */
  sums: number;
  /** Passes a = s·a + b with a scalar b. */
  updates: number;
}

/**
 * The bytes per parameter that a step must read and write, in float32, where its gradients are read twice: once for the
 * norm and once for the moments.
 */
export function bytesPerParameter(form: Form, way: Way, terms: number): number {
  if (way === "resident") return form === "perTerm" ? 24 * terms + 8 : 16 * terms + 16;
  return form === "perTerm" ? 32 * terms + 8 : 28 * terms + 12;
}

/** The same where a gradient is read once for both, since it stays on the chip in between. */
export function bytesReadOnce(form: Form, way: Way, terms: number): number {
  return bytesPerParameter(form, way, terms) - 4 * terms;
}

/**
 * The same as passes. Each gradient is read for its norm and again with the moments that it changes. Moments that are
 * accumulated are written, and then read once more by the update.
 */
export function trafficOf(form: Form, way: Way, terms: number): Traffic {
  const moments = form === "perTerm" ? 2 * terms : terms + 1;
  const arrays = { readOnly: terms, updated: moments + 1, sums: terms };
  if (way === "resident") return { ...arrays, reads: terms, updates: moments + 1 - terms };
  // Two moments change with each term, whether m is its own or that of all.
  return { ...arrays, reads: terms + moments, updates: 2 * terms + 1 - terms };
}

export function bytesOfTraffic({ reads, sums, updates }: Traffic): number {
  return 4 * reads + 12 * sums + 8 * updates;
}
