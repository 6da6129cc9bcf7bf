// Prints results of bench/speed as JSON. It must have been compiled to build/test/speed, and the roof built.

import process from "node:process";
import { URL, fileURLToPath } from "node:url";

const load = (name) => import(`../../build/test/speed/bench/speed/${name}.mjs`);

const { compare, differences } = await load("compare");
const { range } = await load("format");
const { AnswerError, LineProcess, secondsOf, wordsOf } = await load("line-process");
const { inputsOf, setsOf, workingSet } = await load("measure");
const { parseOptions } = await load("options");
const { Peers, describeLengths } = await load("peers");
const { markdown, peerTable, plain, stepTable, manyTable } = await load("tables");
const { SUBJECTS, total } = await load("shapes");
const { areApart, quantile, spread } = await load("statistics");
const { FORMS, WAYS, bytesOfTraffic, bytesPerParameter, trafficOf } = await load("traffic");
const { openDevice } = await import("../../dist/index.mjs");

const messageOf = (call) => {
  try {
    call();
    return "";
  } catch (error) {
    return error.message;
  }
};
const rejection = (promise) =>
  promise.then(
    () => "",
    (error) => (error instanceof AnswerError ? error.message : `${error}`),
  );

const byteTable = [1, 2, 3, 10].flatMap((terms) =>
  FORMS.flatMap((form) =>
    WAYS.map((way) => {
      const traffic = trafficOf(form, way, terms);
      return {
        terms,
        form,
        way,
        table: bytesPerParameter(form, way, terms),
        bytes: bytesOfTraffic(traffic),
        ...traffic,
      };
    }),
  ),
);

const shapes = SUBJECTS.flatMap((subject) => [subject, ...(subject.beside ? [subject.beside] : [])]).map(
  ({ key, lengths }) => ({ key, tensors: lengths.length, parameters: total(lengths) }),
);

const inputs = SUBJECTS.flatMap((subject) =>
  [1, 3].map((terms) => {
    const setting = { subject, terms, form: "perTerm" };
    return [
      subject.key,
      terms,
      ...inputsOf(setting).map((kind) => [kind, setsOf({ ...setting, inputs: kind }) * workingSet(setting)]),
    ];
  }),
);

const parsed = {
  words: wordsOf("ok 1.5 two\r"),
  none: wordsOf("ok"),
  seconds: secondsOf(["0.25"]),
  refused: [
    messageOf(() => wordsOf("error  There is no memory.")),
    messageOf(() => wordsOf("hello")),
    messageOf(() => secondsOf(["soon"])),
    messageOf(() => secondsOf([])),
    messageOf(() => secondsOf(["1", "2"])),
  ],
};

async function processes() {
  const node = (code, patience = 60) => new LineProcess(process.execPath, ["-e", code], { patience });
  const results = {
    ended: await rejection(node("console.error('first\\nlast'); process.exit(1)").ask("time")),
    silent: await rejection(node("setInterval(() => {}, 1000)", 0.2).ask("time")),
    missing: await rejection(new LineProcess("/no/such/program", []).ask("time")),
  };
  const echo = node("process.stdin.on('data', (line) => process.stdout.write(`ok ${line}`))");
  results.echo = [await echo.ask("a", 1), await echo.ask("b")];
  await echo.end();
  return results;
}

async function roof() {
  const program = new LineProcess(
    fileURLToPath(new URL("../../build/bench/speed/native/roof", import.meta.url)),
    ["2"],
  );
  const answers = {
    early: await rejection(program.ask("time", 1, 1, 1, 1)),
    arrays: await program.ask("arrays", 100_000, 2, 3, 2),
    seconds: secondsOf(await program.ask("time", 3, 4, 2, 3)),
    oneOfMany: secondsOf(await program.ask("time", 1, 9, 0, 0)),
    short: await rejection(program.ask("time", 1)),
    unknown: await rejection(program.ask("fly", 1, 1, 1, 1)),
    huge: await rejection(program.ask("arrays", 1e15, 1, 1, 1)),
    tiny: await program.ask("arrays", 1, 1, 1, 1),
    secondsOfTiny: secondsOf(await program.ask("time", 1, 1, 1, 1)),
  };
  await program.end();
  return answers;
}

/** A round that took this many times as long as plain loops. */
const round = (times) => ({ seconds: 0.01 * times, rmw: 2e10, read: 1e10, traffic: 0.01 });
function results(step, hostRounds) {
  const parameters = 1_000_000;
  const ours = { parameters, way: "resident", bytesPerParameter: 80, stateBytes: 24 * parameters };
  return {
    machine: { cpu: "A", cores: 2, memoryGiB: 8, system: "x" },
    instructionSet: "baseline",
    threads: 2,
    node: "20",
    peers: [{ name: "foreach", notRun: "there is no torch" }],
    settings: [
      {
        subject: "many",
        terms: 3,
        form: "perTerm",
        inputs: "cold",
        contenders: [
          { name: "step", ...ours, rounds: step.map(round) },
          { name: "flat", ...ours, rounds: step.map((times) => round(times / 2)) },
          // A slow peer, which took part only in the first rounds.
          {
            name: "eager",
            parameters,
            way: "resident",
            rounds: [0.08, 0.12].map((seconds) => ({ ...round(1), seconds, traffic: undefined })),
          },
        ],
      },
    ],
    host: [{ key: "prepared", title: "a call", unit: "µs", rounds: hostRounds }],
  };
}

function checked() {
  const python = fileURLToPath(new URL("fake-peer.mjs", import.meta.url));
  return new Peers({ python, on: "cpu", threads: 1, patience: 60, compiledTensors: Infinity }).check(
    openDevice("cpu", { threads: 1 }),
  );
}

const keys = ({ subjects, ...options }) => ({ ...options, shapes: subjects.map(({ key }) => key) });

const before = results([1, 1.01, 1.02, 1.03], [5, 6, 7]);
const faster = results([0.5, 0.51, 0.52, 0.53], [5.5, 6.5, 7.5]);

console.log(
  JSON.stringify({
    byteTable,
    shapes,
    inputs,
    quantiles: [quantile([3, 1, 2], 0.5), quantile([4, 1, 2, 3], 0.25), quantile([7], 0.75)],
    spread: spread([5, 1, 4, 2, 3]),
    apart: [
      areApart({ low: 1, high: 2 }, { low: 2.1, high: 3 }),
      areApart({ low: 2.1, high: 3 }, { low: 1, high: 2 }),
      areApart({ low: 1, high: 2 }, { low: 2, high: 3 }),
    ],
    parsed,
    lengths: describeLengths([288, 32, 3500, 3500, 3500, 7, 32]),
    processes: await processes(),
    roof: await roof(),
    compared: {
      faster: compare(before, faster),
      slower: compare(faster, before),
      same: compare(before, before),
      without: compare({ ...before, settings: [], host: [] }, faster),
      differences: differences(before, { ...faster, threads: 4, node: "22" }),
    },
    tables: {
      step: plain(stepTable(before)),
      peers: plain(peerTable(before)),
      many: manyTable(before),
      markdown: markdown([
        ["a", "b"],
        ["1", "2"],
      ]),
      ranges: [
        range({ low: 1, median: 2, high: 3 }, String),
        range({ low: 0.5, median: 0.6, high: 0.7 }, (value) => `${100 * value} %`),
        range({ low: 1, median: 1, high: 1 }, String),
      ],
    },
    options: {
      chosen: keys(parseOptions(["--shapes", "many,mnist", "--terms", "3,1,3", "--out", "/x"])),
      none: keys(parseOptions(["--shapes", "none"])).shapes,
      usual: [[], ["--device", "cuda:1"]].map((args) => keys(parseOptions(args)).shapes),
      gpu: keys(parseOptions(["--device", "cuda", "--seconds", "60", "--figures"])),
      quick: keys(parseOptions(["--quick", "--out", "/x", "--terms", "2"])),
      refused: [
        ["--shapes", "vgg"],
        ["--terms", "0"],
        ["--rounds", "x"],
        ["--quick"],
        ["--device", "tpu"],
        ["--draw"],
        ["--tables"],
        ["--speed"],
      ].map((args) => messageOf(() => parseOptions(args))),
    },
    checked: (await checked()).filter(({ name }) => !name.includes("kept")),
  }),
);
