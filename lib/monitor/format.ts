/**
 * The lines of a monitor's file, which docs/monitor.md describes. Keys may be added; a change that breaks readers
 * changes the version. null stands for a value that is not a finite number.
 */

export const FORMAT = "mtadam-monitor";
export const VERSION = 1;

/** Precedes the records of one set of terms and layers: first in the file, after a change, and where a run resumes. */
export interface HeaderLine {
  format: typeof FORMAT;
  version: typeof VERSION;
  terms: readonly string[];
  layers: readonly string[];
}

/** Values of terms × layers, row by row. */
type Pairs = (number | null)[];

/** One step's values. */
export interface RecordLine {
  iteration: number;
  /** Milliseconds since 1970. */
  time: number;
  /** Of each group in the step; null where a schedule throws. */
  lr: (number | null)[];
  /** Means since the line before. */
  values: Record<string, number | null>;
  norms: Pairs;
  scales: Pairs;
  sharesBefore: Pairs;
  shares: Pairs;
  skipped: Pairs;
  /** Per term. */
  effectiveWeights: (number | null)[];
  /** Per layer: the index of a term, or −1. */
  anchors: number[];
  /** Terms × terms × layers; only with the option `cosines`. */
  cosines?: Pairs;
}

/** The last line, if values were recorded after the last record. */
export type ValuesLine = Pick<RecordLine, "iteration" | "time" | "values">;

/** Six digits, since the values are float32 and files are long. */
export function rounded(values: ArrayLike<number>): (number | null)[] {
  return Array.from(values, (value) => (Number.isFinite(value) ? Number(value.toPrecision(6)) : null));
}
