// What `npm run bench -- --device cuda` does, on the host executor and with models that it can step in a moment.
// Its last line has the launches a step of each contender, as JSON.
//   node bench-gpu.mjs COMPILED ROOF SECONDS OPTIONS…

import process from "node:process";
import { executor, openDevice } from "./open-device.mjs";

const [compiled, program, seconds, ...args] = process.argv.slice(2);
const load = (name) => import(`${compiled}/bench/speed/${name}.mjs`);
const { bench } = await load("bench");
const { Model } = await load("model");
const { parseOptions } = await load("options");
const { GpuRoof } = await load("roof");

const SUBJECTS = [
  { key: "mnist", title: "MNIST CNN", lengths: [300, 40] },
  {
    key: "many",
    title: "3,000 tensors",
    lengths: [200, 200, 200, 200],
    beside: { key: "flat", title: "the same in one tensor", lengths: [800] },
  },
];

const { simt } = executor();
/** Each number that a contender had, by its name. */
const launches = {};
const { contender } = Model.prototype;
Model.prototype.contender = function (...taken) {
  const made = contender.apply(this, taken);
  const time = (calls) => {
    simt.resetCounters();
    const seconds = made.time(calls);
    const each = simt.counters().launches / calls;
    launches[made.name] = [...new Set([...(launches[made.name] ?? []), each])];
    return seconds;
  };
  return { ...made, time };
};

const options = parseOptions(["--device", "cuda", "--quick", "--terms", "3,4,5", ...args]);
const device = openDevice("executor");
await bench(
  { ...options, subjects: SUBJECTS, seconds: Number(seconds) },
  {
    device,
    onePass: openDevice("executor", true),
    gpu: { name: device.name, computeCapability: "9.0", driver: "13.0", runtime: "13.0" },
    roof: () => new GpuRoof(program, 0),
    peersOn: "cuda:0",
    coldBytes: 20_000,
    out: options.out,
  },
);
console.log(JSON.stringify(launches));
