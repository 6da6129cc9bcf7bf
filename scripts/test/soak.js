"use strict";

// Trains, saves, loads, makes and disposes of optimizers for some minutes, on the CPU and, where it is built, on the host
// executor, and tells whether the memory stays flat:
//   npm run soak [-- MINUTES]     10 by default
// Without V8's compilers, whose code would grow for minutes. Each measure is fitted by a line over the cycles after the
// first thousand. Its slope must not be above the bound. Exits with 1 where one is.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { setImmediate } = require("node:timers/promises");
const setup = require("../build/setup");

/**
 * The most that a measure may grow, per cycle. A cycle makes an optimizer with 30 kB of state: a leak of it, or of one
 * JavaScript object, is above. V8 and the C library's allocator do not give back all that they have taken, so that the
 * resident size creeps.
 */
const BOUNDS = {
  rss: 256,
  heapUsed: 32,
  external: 16,
  arrayBuffers: 16,
  deviceBytes: 0.1,
  files: 0.001,
  threads: 0.001,
  resources: 0.001,
};

/** Cycles after which V8 and the C library's allocator have taken what they need. The minutes begin then. */
const WARM_UP = 1000;

/** Milliseconds between samples. */
const PAUSE = 3000;

/**
 * The slope of a measure: the median of the slopes between all pairs of samples (Theil and Sen), which a few outliers do not
 * move.
 * @param {{ cycles: number, [measure: string]: number }[]} samples
 * @param {string} measure
 */
function slope(samples, measure) {
  const slopes = samples.flatMap((a, k) =>
    samples
      .slice(k + 1)
      .filter((b) => b.cycles > a.cycles)
      .map((b) => (b[measure] - a[measure]) / (b.cycles - a.cycles)),
  );
  return slopes.sort((a, b) => a - b)[slopes.length >> 1] ?? NaN;
}

/** The slope of every measure after the warm-up, and whether it is within its bound. */
function verdicts(samples) {
  const settled = samples.filter(({ cycles }) => cycles >= WARM_UP);
  return Object.entries(BOUNDS).map(([measure, bound]) => {
    const grows = slope(settled, measure);
    return { measure, slope: grows, bound, flat: grows <= bound };
  });
}

function count(folder) {
  return fs.readdirSync(folder).length;
}

async function sample(cycles, deviceBytes) {
  // Objects that finalizers release are collected in the next round.
  for (let k = 0; k < 3; ++k) {
    global.gc();
    await setImmediate();
  }
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
  return {
    cycles,
    rss,
    heapUsed,
    external,
    arrayBuffers,
    deviceBytes: deviceBytes(),
    files: count("/proc/self/fd"),
    threads: count("/proc/self/task"),
    resources: process.getActiveResourcesInfo().length,
  };
}

/** Uses everything once. Half of the cycles dispose of what they made, the other half leaves it to the collector. */
async function cycle({ MTAdam }, device, file, k) {
  const buffer = (length, value) => device.buffer(new Float32Array(length).fill(value));
  const [w, b, more] = [buffer(1000, 1), buffer(10, 1), buffer(10, 1)];
  const gradients = [1, 2].map((value) => [buffer(1000, value), buffer(10, value)]);
  const optimizer = new MTAdam([w, b], { terms: ["a", "b"], firstMoment: k % 4 < 2 ? "perTerm" : "summed" });
  const stop = optimizer.onStats(() => undefined, { every: 1 });
  for (let step = 0; step < 3; ++step) optimizer.step(gradients);
  for (const [term, own] of gradients.entries()) optimizer.accumulate(term, own);
  optimizer.update();
  await optimizer.stepEach({ a: () => gradients[0], b: async () => gradients[1] });
  const prepared = optimizer.prepare(gradients);
  optimizer.step(prepared, { weights: { a: 2 }, gradientScale: 2 });
  const captured = device.kind === "cuda" ? optimizer.captureStep(prepared) : undefined;
  captured?.replay();
  await optimizer.diagnostics();
  await optimizer.save(file);
  await optimizer.load(file);
  await optimizer.loadStateDict(await optimizer.stateDict());
  optimizer.addTerm("c");
  optimizer.step([...gradients, null]);
  optimizer.removeTerm("c");
  optimizer.addParamGroup({ parameters: [{ name: "more", data: more }], lr: 0 });
  optimizer.step(gradients.map((own) => [...own, null]));
  for (const call of [
    () => optimizer.step([]),
    () => optimizer.addTerm("a"),
    () => new MTAdam([w, w], { terms: 1 }),
  ]) {
    try {
      call();
      throw new Error("a wrong call was accepted");
    } catch (error) {
      if (error.code === undefined) throw error;
    }
  }
  await optimizer.synchronize();
  await w.download();
  stop();
  if (k % 2 === 0) return;
  captured?.dispose();
  optimizer.dispose();
  for (const one of [w, b, more, ...gradients.flat()]) one.dispose();
}

async function soak(minutes) {
  setup.build();
  const mtadam = require("../..");
  const devices = [mtadam.openDevice("cpu", { threads: 2 })];
  let deviceBytes = () => 0;
  if (setup.executor()) {
    const addon = require(path.join(setup.root, "build", "executor", "mtadam.node"));
    // Freed memory is reused at once.
    addon.simt.reset("devices=1 hide_device_memory=0 quarantine=0");
    devices.push(require(path.join(setup.root, "dist", "memory", "open-device.js")).openCuda(addon, 0));
    deviceBytes = () => addon.simt.live().deviceBytes + addon.simt.live().pinnedBytes;
  }
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-soak-"));
  const samples = [];
  let [cycles, next, end] = [0, 0, Infinity];
  try {
    for (; Date.now() < end; ++cycles) {
      if (cycles === WARM_UP) end = Date.now() + minutes * 60_000;
      await cycle(mtadam, devices[cycles % devices.length], path.join(folder, `${cycles % 3}`), cycles >> 1);
      if (Date.now() < next) continue;
      samples.push(await sample(cycles, deviceBytes));
      next = Date.now() + PAUSE;
    }
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
  console.log(
    `${cycles} cycles, ${minutes} minutes after the first ${WARM_UP}, on ${devices.map(({ kind }) => kind).join(" and ")}`,
  );
  for (const { measure, slope, bound, flat } of verdicts(samples)) {
    const [first, last] = [samples.find((one) => one.cycles >= WARM_UP), samples.at(-1)].map(
      (one) => one[measure],
    );
    const text = `${measure.padEnd(12)} ${first} … ${last}, ${slope.toFixed(4)} per cycle, at most ${bound}`;
    console.log(`${flat ? "✓" : "✗"} ${text}`);
    if (!flat) process.exitCode = 1;
  }
}

module.exports = { BOUNDS, verdicts };

if (require.main === module) void soak(Number(process.argv[2] ?? 10));
