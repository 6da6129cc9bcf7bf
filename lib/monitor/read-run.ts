import { MTAdamError } from "../errors";
import { FORMAT, VERSION, type HeaderLine, type RecordLine, type ValuesLine } from "./format";
import type { Run, Values } from "./page-data";

/** So many columns are as fine as a page is wide. */
const MOST_COLUMNS = 240;
/** Bounds a page to some megabytes. */
const MOST_VALUES = 600_000;
/** Pairs of a term and a layer: a page shows two records of each at least. */
const MOST_PAIRS = 1_000_000;

type Header = Pick<HeaderLine, "terms" | "layers">;

/**
 * Reads the lines of a monitor's file. Records that a run repeats after it has resumed replace the earlier ones, and a line
 * that a crash or a writer has cut off is left out. Terms and layers are those of the last header.
 */
export class RunReader {
  readonly #name: string;
  readonly #subject: string;
  #header: Header | undefined;
  #isEmpty = true;
  readonly #records: { header: Header; record: RecordLine }[] = [];

  /** @param subject the file, for messages */
  constructor(name: string, subject: string) {
    this.#name = name;
    this.#subject = subject;
  }

  /** @throws MTAdamError OPTION if the line is not of a monitor */
  add(line: string): void {
    this.#isEmpty &&= line === "";
    const parsed = parse(line);
    if (parsed === undefined) return;
    const records = this.#records;
    if ("format" in parsed) this.#header = this.#check(parsed);
    else if (this.#header === undefined) throw this.#foreign();
    else if (isRecordLine(parsed)) {
      while (records.length > 0 && records.at(-1)!.record.iteration >= parsed.iteration) records.pop();
      records.push({ header: this.#header, record: parsed });
    } else if (isValuesLine(parsed) && records.length > 0) {
      const { record } = records.at(-1)!;
      record.values = { ...record.values, ...parsed.values };
    }
  }

  /**
   * The run of the lines so far; before the first, one without terms.
   *
   * @throws MTAdamError OPTION if none was of a monitor
   */
  run(): Run {
    if (this.#header === undefined && !this.#isEmpty) throw this.#foreign();
    return makeRun(this.#name, this.#header ?? { terms: [], layers: [] }, this.#records);
  }

  #check(line: object): Header {
    const header = line as Partial<HeaderLine>;
    if (header.format !== FORMAT) throw this.#foreign();
    if (header.version !== VERSION) {
      const version = JSON.stringify(header.version);
      const text = `${this.#subject} must have version ${VERSION} of the monitor's format; got ${version}.`;
      throw new MTAdamError("OPTION", text);
    }
    if (!isNames(header.terms) || !isNames(header.layers)) throw this.#foreign();
    const { terms, layers } = header as HeaderLine;
    if (terms.length * layers.length > MOST_PAIRS) {
      const got = `${terms.length} terms and ${layers.length} layers`;
      const text = `${this.#subject} must have at most ${MOST_PAIRS} pairs of a term and a layer; got ${got}.`;
      throw new MTAdamError("OPTION", text);
    }
    return { terms, layers };
  }

  #foreign(): MTAdamError {
    return new MTAdamError("OPTION", `${this.#subject} is not a file of a BalanceMonitor.`);
  }
}

const isNames = (names: unknown): boolean =>
  Array.isArray(names) && names.every((name) => typeof name === "string");

function parse(line: string): object | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

const ARRAYS = [
  "lr",
  "norms",
  "scales",
  "sharesBefore",
  "shares",
  "skipped",
  "effectiveWeights",
  "anchors",
] as const;

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;

function isRecordLine(line: object): line is RecordLine {
  const record = line as Partial<RecordLine>;
  return (
    Number.isSafeInteger(record.iteration) &&
    ARRAYS.every((key) => Array.isArray(record[key])) &&
    isObject(record.values) &&
    (record.cosines === undefined || Array.isArray(record.cosines))
  );
}

function isValuesLine(line: object): line is ValuesLine {
  const { values } = line as Partial<ValuesLine>;
  return isObject(values) && !("norms" in line);
}

function makeRun(name: string, header: Header, all: readonly { header: Header; record: RecordLine }[]): Run {
  const { terms, layers } = header;
  const pairs = terms.length * layers.length;
  const hasCosines = all.some(({ record }) => record.cosines !== undefined);
  const perRecord = (5 + (hasCosines ? terms.length : 0)) * pairs + 1;
  const columns = Math.max(2, Math.min(MOST_COLUMNS, Math.floor(MOST_VALUES / perRecord)));
  const shown = thinned(all, columns);
  const records = shown.map(({ record }) => record);
  const known = new Map<Header, Places>();
  const placesOf = (from: Header): Places => {
    const places = known.get(from) ?? placesIn(from, header);
    known.set(from, places);
    return places;
  };
  const places = shown.map((entry) => placesOf(entry.header));
  const pick = (key: "norms" | "scales" | "sharesBefore" | "shares" | "skipped"): Values[] => {
    return records.map((record, k) => places[k]!.pairs.map((at) => numberAt(record[key], at)));
  };
  return {
    name,
    terms,
    layers,
    steps: records.map(({ iteration }) => iteration),
    records: all.length,
    charts: [...valueCharts(records), learningRates(records)],
    effectiveWeights: records.map((record, k) => {
      return places[k]!.terms.map((at) => numberAt(record.effectiveWeights, at));
    }),
    anchors: records.map((record, k) => {
      return places[k]!.layers.map((at) => {
        const anchor = numberAt(record.anchors, at) ?? -1;
        return anchor < 0 ? -1 : places[k]!.terms.indexOf(anchor);
      });
    }),
    norms: pick("norms"),
    scales: pick("scales"),
    sharesBefore: pick("sharesBefore"),
    shares: pick("shares"),
    skipped: pick("skipped"),
    cosines: hasCosines ? records.map((record, k) => cosinesOf(record, places[k]!)) : undefined,
  };
}

/** Every k-th entry, and the last. */
function thinned<T>(entries: readonly T[], most: number): T[] {
  const stride = Math.max(1, Math.ceil((entries.length - 1) / (most - 1)));
  return entries.filter((_, at) => (entries.length - 1 - at) % stride === 0);
}

/** Where the values of the run's terms, layers and pairs are in records of another header; −1 where nowhere. */
interface Places {
  terms: number[];
  layers: number[];
  pairs: number[];
  termCount: number;
  layerCount: number;
}

function placesIn(from: Header, run: Header): Places {
  const terms = placesOfNames(run.terms, from.terms);
  const layers = placesOfNames(run.layers, from.layers);
  const [termCount, layerCount] = [from.terms.length, from.layers.length];
  const pairs = terms.flatMap((term) => {
    return layers.map((layer) => (term < 0 || layer < 0 ? -1 : term * layerCount + layer));
  });
  return { terms, layers, pairs, termCount, layerCount };
}

function placesOfNames(names: readonly string[], among: readonly string[]): number[] {
  // Backwards: of equal names the first counts.
  const places = new Map(among.map((name, at) => [name, at] as const).reverse());
  return names.map((name) => places.get(name) ?? -1);
}

function cosinesOf({ cosines = [] }: RecordLine, { terms, layers, termCount, layerCount }: Places): Values {
  return layers.flatMap((layer) => {
    return terms.flatMap((first, i) => {
      return terms.slice(i + 1).map((second) => {
        const isKnown = layer >= 0 && first >= 0 && second >= 0;
        return isKnown ? numberAt(cosines, (first * termCount + second) * layerCount + layer) : null;
      });
    });
  });
}

/** Four digits are as many as a page shows. */
function numberAt(values: readonly unknown[], at: number): number | null {
  const value = values[at];
  return typeof value === "number" ? Number(value.toPrecision(4)) : null;
}

function valueCharts(records: readonly RecordLine[]): Run["charts"] {
  const groups = new Map<string, Map<string, string>>();
  for (const { values } of records) {
    for (const key of Object.keys(values)) {
      const slash = key.indexOf("/");
      const title = slash < 0 ? "Losses" : key.slice(0, slash);
      if (!groups.has(title)) groups.set(title, new Map());
      groups.get(title)!.set(key, key.slice(slash + 1));
    }
  }
  return [...groups].map(([title, names]) => ({
    title,
    series: [...names].map(([key, name]) => {
      return { name, values: records.map(({ values }) => numberAt([values[key]], 0)) };
    }),
  }));
}

function learningRates(records: readonly RecordLine[]): Run["charts"][number] {
  const groups = Math.max(0, ...records.map(({ lr }) => lr.length));
  const series = Array.from({ length: groups }, (_, group) => {
    return { name: `group ${group}`, values: records.map(({ lr }) => numberAt(lr, group)) };
  });
  return { title: "Learning rate", series };
}
