/** The data that the scripts in page/ draw. null stands for a value that is not a finite number. */
export interface PageData {
  title: string;
  notes: readonly string[];
  /** At least one. */
  runs: readonly Run[];
}

export type Values = readonly (number | null)[];

/** One file of a monitor. Arrays have an entry per column: a record that the page shows. */
export interface Run {
  name: string;
  terms: readonly string[];
  layers: readonly string[];
  steps: readonly number[];
  /** How many records the file has. */
  records: number;
  /** Learning rates and what the user has recorded, by the name of a chart. */
  charts: readonly { title: string; series: readonly { name: string; values: Values }[] }[];
  effectiveWeights: readonly Values[];
  anchors: readonly Values[];
  norms: readonly Values[];
  scales: readonly Values[];
  sharesBefore: readonly Values[];
  shares: readonly Values[];
  skipped: readonly Values[];
  /** Layers × pairs of terms i < j, row by row: (0, 1), (0, 2), …; undefined without cosines. */
  cosines: readonly Values[] | undefined;
}
