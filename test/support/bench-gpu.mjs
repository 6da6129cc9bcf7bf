// Runs `npm run bench -- --device cuda` on the host executor, with small models. node bench-gpu.mjs COMPILED ROOF
// SECONDS OPTIONS…

import process from "node:process";
import { openDevice } from "./open-device.mjs";

const [compiled, program, seconds, ...args] = process.argv.slice(2);
const load = (name) => import(`${compiled}/bench/speed/${name}.mjs`);
const { bench } = await load("bench");
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

const options = parseOptions(["--device", "cuda", "--quick", "--terms", "1,3", ...args]);
const device = openDevice("executor");
await bench(
  { ...options, subjects: SUBJECTS, seconds: Number(seconds) },
  {
    device,
    gpu: { name: device.name, computeCapability: "9.0", driver: "13.0", runtime: "13.0" },
    roof: () => new GpuRoof(program, 0),
    peersOn: "cuda:0",
    coldBytes: 20_000,
    out: options.out,
  },
);
