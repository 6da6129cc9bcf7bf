/** Files of a monitor, as the report reads them. */

import type { Run } from "../../../lib/monitor/page-data";
import { RunReader } from "../../../lib/monitor/read-run";
import { caught } from "../../support/caught";

const header = (terms = ["a", "b"], layers = ["w"]): object => ({
  format: "mtadam-monitor",
  version: 1,
  terms,
  layers,
});
/** A record whose values all are those of the pairs. */
const record = (iteration: number, pairs: (number | null)[], more: object = {}): object => ({
  iteration,
  time: 0,
  lr: [0.1],
  values: {},
  norms: pairs,
  scales: pairs,
  sharesBefore: pairs,
  shares: pairs,
  skipped: pairs,
  effectiveWeights: pairs,
  anchors: [1],
  ...more,
});
function readRun(text: string): Run {
  const reader = new RunReader("run", '"run.jsonl"');
  for (const line of text.split("\n")) reader.add(line);
  return reader.run();
}
const read = (...lines: (object | string)[]): Run =>
  readRun(lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"));

test("has an entry per record, and the last header's names", () => {
  const run = read(header(), record(20, [1, null]), record(40, [3, 4]));
  expect(run).toMatchObject({
    name: "run",
    terms: ["a", "b"],
    layers: ["w"],
    steps: [20, 40],
    records: 2,
    norms: [
      [1, null],
      [3, 4],
    ],
    anchors: [[1], [1]],
    cosines: undefined,
  });
});

test("makes a chart of the names without a slash, one of each group, and one of the learning rates", () => {
  const run = read(
    header(),
    record(1, [1, 1], { values: { content: 3, "recall/0": 0.5 }, lr: [0.1, null] }),
    record(2, [1, 1], { values: { "recall/1": null, style: 2, "recall/0": 0.6 } }),
  );
  expect(run.charts).toEqual([
    {
      title: "Losses",
      series: [
        { name: "content", values: [3, null] },
        { name: "style", values: [null, 2] },
      ],
    },
    {
      title: "recall",
      series: [
        { name: "0", values: [0.5, 0.6] },
        { name: "1", values: [null, null] },
      ],
    },
    {
      title: "Learning rate",
      series: [
        { name: "group 0", values: [0.1, 0.1] },
        { name: "group 1", values: [null, null] },
      ],
    },
  ]);
});

test("leaves out lines that are cut off, and records that a resumed run repeats", () => {
  const run = read(
    header(),
    record(1, [1, 1]),
    record(2, [2, 2]),
    record(3, [3, 3]),
    JSON.stringify(record(4, [4, 4])).slice(0, 50),
    header(),
    record(2, [5, 5]),
    "[]",
    '{"iteration":3}',
  );
  expect([run.steps, run.norms]).toEqual([
    [1, 2],
    [
      [1, 1],
      [5, 5],
    ],
  ]);
});

test("adds values that were recorded after the last record to it", () => {
  const { charts, steps } = read(
    header(),
    { iteration: 0, time: 0, values: { early: 1 } },
    record(1, [1, 1], { values: { loss: 1, other: 2 } }),
    { iteration: 3, time: 0, values: { loss: 5 } },
  );
  expect(steps).toEqual([1]);
  expect(charts[0]!.series).toEqual([
    { name: "loss", values: [5] },
    { name: "other", values: [2] },
  ]);
});

test("follows terms and layers by name where they change", () => {
  const cosines = [1, 1, 0.5, 0.25, 0.5, 0.25, 1, 1];
  const run = read(
    header(["a", "b"], ["w", "v"]),
    record(1, [1, 2, 3, 4], { anchors: [1, 0], effectiveWeights: [7, 8], cosines }),
    header(["b", "c"], ["v", "u"]),
    record(2, [5, 6, 7, 8], { anchors: [1, -1], effectiveWeights: [9, 10], cosines: new Array(8).fill(0.1) }),
  );
  expect(run.norms).toEqual([
    [4, null, null, null],
    [5, 6, 7, 8],
  ]);
  // The anchor of v was a, which is no more.
  expect(run.anchors).toEqual([
    [-1, -1],
    [1, -1],
  ]);
  expect(run.effectiveWeights).toEqual([
    [8, null],
    [9, 10],
  ]);
  expect(run.cosines).toEqual([
    [null, null],
    [0.1, 0.1],
  ]);
});

test("keeps the pairs of terms of the cosines, layer by layer", () => {
  const values = Array.from({ length: 18 }, (_, k) => k / 100);
  const run = read(header(["a", "b", "c"], ["w", "v"]), record(1, [0, 0, 0, 0, 0, 0], { cosines: values }));
  // (a, b), (a, c), (b, c) of w, at (i·3 + j)·2, and then of v.
  expect(run.cosines).toEqual([[0.02, 0.04, 0.1, 0.03, 0.05, 0.11]]);
});

test("shows a part of many records, evenly spaced, with the last one", () => {
  const records = Array.from({ length: 1001 }, (_, k) => record(k, [k, k]));
  const { steps, records: all } = read(header(), ...records);
  expect(all).toBe(1001);
  expect(steps.length).toBeGreaterThan(120);
  expect(steps.length).toBeLessThanOrEqual(240);
  expect(steps.at(-1)).toBe(1000);
  expect(new Set(steps.slice(1).map((step, k) => step - steps[k]!)).size).toBe(1);
});

test("stays small with many layers", () => {
  const layers = Array.from({ length: 5000 }, (_, k) => `layer ${k}`);
  const one = record(0, new Array<number>(10_000).fill(0.123456));
  const run = read(
    header(["a", "b"], layers),
    ...Array.from({ length: 60 }, (_, k) => ({ ...one, iteration: k })),
  );
  expect(JSON.stringify(run).length).toBeLessThan(8e6);
  expect(run.steps.at(-1)).toBe(59);
});

test("a file without records has none, also one whose monitor has just begun", () => {
  expect(read(header())).toMatchObject({ steps: [], records: 0, terms: ["a", "b"] });
  for (const text of ["", "\n"]) {
    expect(readRun(text)).toMatchObject({ steps: [], records: 0, terms: [], layers: [] });
  }
});

test.each([
  ["another text", "hello\nworld"],
  ["other JSON", '{"a":1}\n[1]'],
  ["a record before the header", `${JSON.stringify(record(1, [1, 1]))}\n${JSON.stringify(header())}`],
  ["a header without layers", '{"format":"mtadam-monitor","version":1,"terms":["a"]}'],
  ["another format", '{"format":"other","version":1,"terms":[],"layers":[]}'],
])("%s is refused", async (_, content) => {
  expect(await caught(() => readRun(content))).toMatchObject({
    code: "ERR_MTADAM_OPTION",
    message: '"run.jsonl" is not a file of a BalanceMonitor.',
  });
});

test("another version is refused", async () => {
  expect(await caught(() => read({ ...header(), version: 2 }))).toMatchObject({
    code: "ERR_MTADAM_OPTION",
    message: '"run.jsonl" must have version 1 of the monitor\'s format; got 2.',
  });
});

test("a header with more pairs of a term and a layer than a page can show is refused", async () => {
  const names = (count: number) => Array.from({ length: count }, (_, k) => String(k));
  expect(read(header(names(1000), names(1000))).terms).toHaveLength(1000);
  const { code, message } = await caught(() => read(header(names(1000), names(1001))));
  expect([code, message]).toEqual([
    "ERR_MTADAM_OPTION",
    '"run.jsonl" must have at most 1000000 pairs of a term and a layer; got 1000 terms and 1001 layers.',
  ]);
});
