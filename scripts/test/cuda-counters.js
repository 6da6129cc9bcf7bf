#!/usr/bin/env node
"use strict";

// npm run cuda:counters: prints for each kernel whether its loads hide the memory's latency: registers and shared memory,
// 16-byte loads that a thread has in flight before it stores, resident blocks and warps of a multiprocessor, and bytes in
// flight against the requirement of Little's law. All are computed; no GPU is needed. Needs nvcc; with cuobjdump on the
// PATH, loads are also counted in machine code, and their number must be the same.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { FILES, compile, hasNvcc, nvcc, ptxFor } = require("./cuda-gates");

/**
 * Limits per multiprocessor are from the table of technical specifications in the CUDA programming guide, bandwidth and
 * multiprocessors from the data sheet of the GPU.
 */
const MACHINES = {
  80: { gpu: "A100 SXM 80 GB", bandwidth: 2039e9, multiprocessors: 108, warps: 64, blocks: 32, shared: 164 },
  90: { gpu: "H100 SXM", bandwidth: 3350e9, multiprocessors: 132, warps: 64, blocks: 32, shared: 228 },
  100: { gpu: "B200", bandwidth: 8000e9, multiprocessors: 148, warps: 64, blocks: 32, shared: 228 },
  120: { gpu: "RTX 5090", bandwidth: 1792e9, multiprocessors: 170, warps: 48, blocks: 24, shared: 100 },
};

/**
 * Latency of memory under load, in seconds. An assumption: about twice the 300 to 400 ns that chains of dependent loads
 * take on an idle GPU (arXiv 2402.13499 and 2507.10789 measure such chains).
 */
const LATENCY = 800e-9;

const REGISTERS = 65536;
const RESERVED = 1024; // bytes of shared memory that the system takes of each block

/** The bytes in flight per multiprocessor that Little's law requires. */
const needed = ({ bandwidth, multiprocessors }) => (bandwidth * LATENCY) / multiprocessors;

/** Resident blocks per multiprocessor: a warp gets registers in units of 256, a block in units of four warps. */
function residentBlocks({ registers, shared }, threads, machine) {
  const warps = threads / 32;
  const ofAWarp = Math.ceil((registers * 32) / 256) * 256;
  const byRegisters = Math.floor((Math.floor(REGISTERS / ofAWarp / 4) * 4) / warps);
  const byShared = Math.floor((machine.shared * 1024) / (shared + RESERVED));
  return Math.min(byRegisters, byShared, Math.floor(machine.warps / warps), machine.blocks);
}

const MOMENTS = ["per term", "summed", "both summed"];

/** The index in MOMENTS, from flags for a summed first moment and for both summed. */
const summedOf = (summed, both) => (both === "1" ? 2 : Number(summed));

/** The names of the template arguments that are true. */
const named = (flags, names) => names.filter((_, k) => flags[k] === "1");

/** What kernels that move moments have in common. */
const formOf = (moments, amsgrad, skips) => [
  MOMENTS[moments],
  ...named([amsgrad, skips], ["amsgrad", "skips"]),
];

/** By the mangled name: what a kernel is called here, from its template arguments. */
const KERNELS = [
  [
    /UpdateFormILj(\d)ELb(\d)ELb(\d)ELb(\d)ELb(\d)ELb(\d)E/,
    ([terms, summed, amsgrad, gradients, both, skips]) => [
      `${gradients === "1" ? "update" : "update from moments"}, ${terms === "0" ? "any" : terms}`,
      ...formOf(summedOf(summed, both), amsgrad, skips),
    ],
  ],
  [
    /moments_kernelILb(\d)ELb(\d)ELb(\d)ELb(\d)E/,
    ([summed, amsgrad, both, skips]) => ["moments", ...formOf(summedOf(summed, both), amsgrad, skips)],
  ],
  [
    /LaggedFormILj(\d)ELNS\d_\d+LaggedMomentsE(\d)ELb(\d)ELb(\d)ELb(\d)E/,
    ([terms, moments, amsgrad, skips, whole]) => [
      whole === "1" ? `lagged, ${terms}` : "lagged moments",
      ...formOf(moments, amsgrad, skips),
    ],
  ],
  [
    /norms_kernelILb(\d)ELb(\d)ELb(\d)E/,
    (flags) => ["norms", ...named(flags, ["network", "lagged", "narrow"])],
  ],
  [/network_begin_kernel/, () => ["lagged network, begin"]],
];

/** A kernel's readable name. */
function nameOf(kernel) {
  for (const [pattern, parts] of KERNELS) {
    const found = pattern.exec(kernel);
    if (found !== null) return parts(found.slice(1)).join(", ");
  }
  throw new Error(`scripts/test/cuda-counters.js has no name for ${kernel}`);
}

/** The other kernels read layers alone. */
const readsElements = (kernel) => !kernel.includes("network_end_kernel");

/** The threads of a kernel's blocks, and how many of those load elements. */
function threadsOf(kernel) {
  return /(update|moments)_kernel/.test(kernel)
    ? { threads: 256, loading: 224 }
    : { threads: 128, loading: 128 };
}

/** Loads before the first store: an iteration waits for all of these at once. */
function loadsAhead(text, load, store) {
  const end = text.search(store);
  return (end < 0 ? text : text.slice(0, end)).match(load)?.length ?? 0;
}

const inPtx = (text) => loadsAhead(text, /\bld\.global\S*\.v4\.f32/g, /\bst\.global\S*\.v4\.f32/);
const inSass = (text) => loadsAhead(text, /\bLDG\.E(\.\w+)*\.128/g, /\bSTG\.E(\.\w+)*\.128/);

/** Machine code by kernel, or null if no tool can print it. */
async function sass(name, architecture) {
  if (spawnSync("cuobjdump", ["--version"]).status !== 0) return null;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-counters-"));
  try {
    const cubin = path.join(folder, "kernels.cubin");
    await nvcc(`-arch=sm_${architecture}`, "-cubin", path.join("native", "cuda", `${name}.cu`), "-o", cubin);
    const { stdout } = spawnSync("cuobjdump", ["-sass", cubin], { encoding: "utf8", maxBuffer: 2 ** 30 });
    return new Map(stdout.split(/Function : /).map((text) => [/^\w+/.exec(text)?.[0] ?? "", text]));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

async function counters() {
  const rows = [];
  for (const file of ["norms", "update", "lagged"]) {
    const { kernels, texts } = await compile(file, FILES[file], Object.keys(MACHINES).map(Number));
    for (const [architecture, machine] of Object.entries(MACHINES)) {
      const code = await sass(file, architecture);
      for (const taken of kernels.filter((one) => one.architecture === `sm_${architecture}`)) {
        if (!readsElements(taken.kernel)) continue;
        const name = nameOf(taken.kernel);
        const { threads, loading } = threadsOf(taken.kernel);
        const ahead = inPtx(texts.get(ptxFor(architecture)).get(taken.kernel));
        const blocks = residentBlocks(taken, threads, machine);
        const inCode = code === null ? undefined : inSass(code.get(taken.kernel));
        const bytes = blocks * loading * ahead * 16;
        rows.push({ ...taken, name, architecture, threads, ahead, inCode, blocks, bytes, machine });
      }
    }
  }
  return rows;
}

const kilobytes = (bytes) => (bytes / 1024).toFixed(0);

async function main() {
  if (!hasNvcc()) {
    console.log("cuda-counters: not run, since there is no nvcc here");
    return;
  }
  const rows = await counters();
  const head = [
    "kernel",
    "sm",
    "registers",
    "shared",
    "loads ahead",
    "blocks",
    "warps",
    "KiB in flight",
    "asked for",
  ];
  const cells = rows.map((row) => [
    row.name,
    row.architecture,
    row.registers,
    row.shared,
    row.ahead,
    row.blocks,
    (row.blocks * row.threads) / 32,
    kilobytes(row.bytes),
    kilobytes(needed(row.machine)),
  ]);
  for (const line of [head, ...cells]) {
    console.log(line.map((cell, k) => String(cell).padEnd(k === 0 ? 48 : 14)).join(""));
  }
  const short = rows.filter((row) => row.bytes < needed(row.machine));
  for (const row of short) console.log(`short of what is asked for: ${row.name} on sm_${row.architecture}`);
  const sunk = rows.filter((row) => row.inCode !== undefined && row.inCode !== row.ahead);
  for (const row of sunk) {
    console.log(
      `${row.name} on sm_${row.architecture}: ${row.inCode} loads ahead in machine code, ${row.ahead} in PTX`,
    );
  }
}

void main();
