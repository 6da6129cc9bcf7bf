#!/usr/bin/env node
"use strict";

// Checks the kernels without a GPU: for every architecture they must compile without a warning, a spill or local memory,
// with double precision only where it is allowed, within a budget of registers, with 128-bit loads and stores.
// Needs nvcc (12.8 or newer); without it nothing is checked, and a message says so. `npm test` does it for the
// architectures that are shipped; this script by itself for two more.
// scripts/test/cuda-counters.js prints how many blocks and loads of each kernel a multiprocessor holds.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawn, spawnSync } = require("node:child_process");
const { shippedArchitectures } = require("../build/architectures");
const { root } = require("../build/setup");

const SHIPPED = [...new Set(shippedArchitectures().map((name) => Number.parseInt(name, 10)))];

// 8.6 and 8.9 as well, for which some users will compile: the package has no code of theirs.
const ALL = [...new Set([...SHIPPED, 86, 89])].sort((a, b) => a - b);

/**
 * nvcc's -gencode. Making PTX takes twice as long as compiling it, for the largest file, so it is made twice only: nvcc 13.0
 * makes one text for 7.5 to 9.0 and another for 10.0 and 12.0, but for the line that names the architecture, and compiles
 * both ways to the same registers.
 */
const ptxFor = (sm) => (sm < 100 ? 75 : 100);

// Registers per thread. update: 8 terms with every plane in flight; up to 255 registers allow one block of 256 threads
// per multiprocessor, whose 98 KB in flight hide the memory's latency. norms: 72 for 8 loads of 16 bytes in flight per
// thread; its launch bounds enforce that, and 96 if the network is one unit.
// cosines: scalar loads, a whole line per warp.
// The file that takes longest to compile comes first.
const FILES = {
  update: { registers: 224, double: false, vector: { loads: /./, stores: /./ } },
  lagged: { registers: 128, double: true, vector: { loads: /lagged_kernel/, stores: /lagged_kernel/ } },
  lean_lagged: { registers: 96, double: true, vector: {} },
  lean: { registers: 104, double: false, vector: {} },
  norms: { registers: 96, double: true, vector: { loads: /norms_kernel/ } },
  cosines: { registers: 80, double: true, vector: {} },
  elementwise: { registers: 32, double: false, vector: {} },
};

/** 128-bit accesses in PTX, by their keys in `vector`. */
const VECTOR = {
  loads: /\bld\.global(\.\w\w)?\.v4\.[fbu]32/,
  stores: /\bst\.global(\.\w\w)?\.v4\.[fbu]32/,
};

// Compilers at a time, and threads of each: the files alone keep few cores busy, the phases of one file fewer.
const CORES = os.availableParallelism();
const AT_ONCE = Math.min(CORES, Object.keys(FILES).length);
const THREADS = Math.ceil(CORES / AT_ONCE);

const COMMON = [
  "-std=c++17",
  "-fmad=false",
  "--expt-relaxed-constexpr",
  "-Inative",
  "-I.",
  "-Werror",
  "all-warnings",
];

/** @returns {Promise<{ status: number | null, stderr: string }>} */
function nvcc(...args) {
  const child = spawn("nvcc", [...COMMON, ...args], { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, stderr }));
  });
}

function hasNvcc() {
  return spawnSync("nvcc", ["--version"], { stdio: "ignore" }).status === 0;
}

/**
 * Compiles for all architectures.
 *
 * @returns registers per thread and shared bytes per block, by kernel and architecture; and each text of PTX, by the
 * architecture that it is for (see ptxFor) and the name of the kernel
 */
async function compile(name, { double }, architectures = ALL) {
  const warnings = [
    "-v",
    "-warn-spills",
    "-warn-lmem-usage",
    ...(double ? [] : ["-warn-double-usage"]),
    "-Werror",
  ];
  const source = path.join("native", "cuda", `${name}.cu`);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-gates-"));
  try {
    const result = await nvcc(
      ...architectures.flatMap((sm) => ["-gencode", `arch=compute_${ptxFor(sm)},code=sm_${sm}`]),
      ...["--threads", String(THREADS), `-Xptxas=${warnings.join(",")}`, "--keep", "--keep-dir", folder],
      ...["-fatbin", source, "-o", path.join(folder, "kernels.fatbin")],
    );
    if (result.status !== 0) throw new Error(`${source} does not compile:\n${result.stderr}`);
    const report =
      /entry function '(\w+)' for '(sm_\d+)'[^]*?Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?/g;
    const kernels = Array.from(
      result.stderr.matchAll(report),
      ([, kernel, architecture, registers, shared = "0"]) => ({
        kernel,
        architecture,
        registers: Number(registers),
        shared: Number(shared),
      }),
    );
    const files = fs.readdirSync(folder).filter((file) => file.endsWith(".ptx"));
    return { kernels, texts: new Map(files.map((file) => entriesOf(path.join(folder, file)))) };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** The architecture that a file of PTX is for, and the text of each kernel. */
function entriesOf(file) {
  const text = fs.readFileSync(file, "utf8");
  const [, target] = /^\.target sm_(\d+)/m.exec(text);
  const entries = text.split(/\.entry /).slice(1);
  return [Number(target), new Map(entries.map((entry) => [/^\w+/.exec(entry)[0], entry]))];
}

async function check(name, file, architectures) {
  const failures = [];
  const { kernels: compiled, texts } = await compile(name, file, architectures);
  if (compiled.length === 0 || compiled.length % architectures.length !== 0) {
    failures.push(
      `${name}.cu: ${compiled.length} kernels are no multiple of ${architectures.length} architectures`,
    );
  }
  for (const { kernel, architecture, registers } of compiled) {
    if (registers > file.registers) failures.push(`${kernel} for ${architecture}: ${registers} registers`);
  }
  for (const [target, entries] of texts) {
    if (entries.size * architectures.length !== compiled.length) {
      failures.push(`${name}.cu: ${entries.size} kernels in PTX for ${target}`);
    }
    for (const [kernel, ptx] of entries) {
      for (const [access, instruction] of Object.entries(VECTOR)) {
        if (file.vector[access]?.test(kernel) && !instruction.test(ptx)) {
          failures.push(`${kernel}: no 128-bit ${access} in PTX for ${target}`);
        }
      }
    }
  }
  if (texts.size !== new Set(architectures.map(ptxFor)).size) {
    failures.push(`${name}.cu: ${texts.size} texts of PTX`);
  }
  const most = Math.max(...compiled.map(({ registers }) => registers));
  const kernels = compiled.length / architectures.length;
  console.log(`${name}.cu: ${kernels} kernels, at most ${most} of ${file.registers} registers`);
  return failures;
}

/** @returns {Promise<{ passed: number, failed: number, skipped: number, note?: string }>} source files */
async function cudaGates(architectures = SHIPPED) {
  if (!hasNvcc()) {
    const note = "there is no nvcc here";
    console.log(`cuda-gates: not run, since ${note}`);
    return { passed: 0, failed: 0, skipped: Object.keys(FILES).length, note };
  }
  console.log(`cuda-gates: ${architectures.map((sm) => `sm_${sm}`).join(", ")}`);
  const result = { passed: 0, failed: 0, skipped: 0 };
  const files = Object.entries(FILES).values();
  const checkRest = async () => {
    for (const [name, file] of files) {
      const failures = await check(name, file, architectures);
      for (const failure of failures) console.error(`✗ ${failure}`);
      result[failures.length === 0 ? "passed" : "failed"] += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, checkRest));
  return result;
}

module.exports = { FILES, compile, cudaGates, hasNvcc, nvcc, ptxFor };

if (require.main === module) {
  void cudaGates(ALL).then(({ failed }) => {
    process.exitCode = failed === 0 ? 0 : 1;
  });
}
