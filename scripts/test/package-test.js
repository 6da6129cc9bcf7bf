#!/usr/bin/env node
"use strict";

// Tests the package as users get it: builds the addon that is shipped, packs the package, installs it in an empty folder
// without a compiler, install scripts or downloads, and uses it there. The last line counts passes and failures.
//   --architecture NUMBER  kernels for this one only, such as 90, or "all"; by default those in prebuilds/, or all
//   --keep                 keeps the folder, and prints its path

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { parseArgs } = require("node:util");
const { capability } = require("../build/architectures");
const { npm } = require("../build/npm");
const setup = require("../build/setup");
const { LARGEST, checkContents, checkManifest, pack } = require("../release/contents");
const { fileOf, here, table } = require("../release/platforms");

const OPTIONS = {
  architecture: { type: "string" },
  keep: { type: "boolean", default: false },
};

const COMPILERS = ["cc", "c++", "gcc", "g++", "clang", "clang++", "cmake", "make", "nvcc", "python3"];

/** Runs a tool of the checkout's node_modules, or a program; returns its output. */
function node(args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    ...options,
  });
  if (status === 0) return stdout;
  throw new Error(error?.message ?? `${stdout}${stderr}`.trimEnd());
}

const tool = (...names) => path.join(setup.root, "node_modules", ...names);

const STEP = `
const parameter = new Float32Array(1);
new MTAdam([parameter], { terms: 1, lr: 0.5 }).step([[Float32Array.of(4)]]);
if (parameter[0].toFixed(3) !== "-0.500") throw new Error(\`a step to \${parameter[0]}\`);
`;

/** A user's programs, by file name. */
const PROGRAMS = {
  "commonjs.cjs": `const { MTAdam } = require("mtadam");${STEP}`,
  "esm.mjs": `import { MTAdam } from "mtadam";${STEP}`,
  "dynamic.cjs": `import("mtadam").then(({ MTAdam }) => {${STEP}});`,
  "same.mjs": `import { createRequire } from "node:module"; import { MTAdam } from "mtadam";
    if (createRequire(import.meta.url)("mtadam").MTAdam !== MTAdam) throw new Error("two classes");`,
  "torch.cjs": `const torch = require("mtadam/torch"); const { MTAdamError } = require("mtadam");
    torch.openTorch("/nowhere.py").catch((error) => {
      if (!(error instanceof MTAdamError)) throw error;
    });`,
  "torch.mjs": `import { openTorch } from "mtadam/torch"; import { MTAdamError } from "mtadam";
    const error = await openTorch("/nowhere.py").catch((error) => error);
    if (!(error instanceof MTAdamError)) throw error;`,
  "no-tfjs.cjs": `const { MTAdamError } = require("mtadam"); let caught;
    try { require("mtadam/tfjs"); } catch (error) { caught = error; }
    if (!(caught instanceof MTAdamError)) throw caught;`,
  "no-tfjs.mjs": `import { MTAdamError } from "mtadam";
    const error = await import("mtadam/tfjs").catch((error) => error);
    if (!(error instanceof MTAdamError)) throw error;`,
  "worker.mjs": `import { Worker } from "node:worker_threads";
    const worker = new Worker(new URL("esm.mjs", import.meta.url));
    worker.on("exit", (code) => (process.exitCode = code));`,
};

const TFJS_STEP = `
const w = tf.tidy(() => tf.variable(tf.tensor1d([0])));
const optimizer = new MTAdamOptimizer({ terms: ["one"], lr: 0.5 });
optimizer.minimizeTerms({ one: () => tf.sum(w) });
if (w.dataSync()[0].toFixed(3) !== "-0.500") throw new Error(\`a step to \${w.dataSync()[0]}\`);
`;

const JAX_STEP = `
(async () => {
  const model = await openJax(jax, jax.numpy.zeros([1]), { one: (w) => jax.numpy.sum(w) });
  const [{ data }] = model.parameters;
  new MTAdam(model.parameters, { terms: model.terms, lr: 0.5 }).step(await model.gradients());
  if (data[0].toFixed(3) !== "-0.500") throw new Error(\`a step to \${data[0]}\`);
})();
`;

/** The packages that the clients need, and programs with them. */
const PEERS = ["@jax-js", "@tensorflow"];
const CLIENTS = {
  "tfjs.cjs": `const tf = require("@tensorflow/tfjs-core"); require("@tensorflow/tfjs-layers");
    require("@tensorflow/tfjs-backend-cpu"); const { MTAdamOptimizer } = require("mtadam/tfjs");${TFJS_STEP}`,
  "tfjs.mjs": `import * as tf from "@tensorflow/tfjs-core"; import "@tensorflow/tfjs-layers";
    import "@tensorflow/tfjs-backend-cpu"; import { MTAdamOptimizer } from "mtadam/tfjs";${TFJS_STEP}`,
  "jax.cjs": `const jax = require("@jax-js/jax"); const { MTAdam } = require("mtadam");
    const { openJax } = require("mtadam/jax");${JAX_STEP}`,
  "jax.mjs": `import * as jax from "@jax-js/jax"; import { MTAdam } from "mtadam";
    import { openJax } from "mtadam/jax";${JAX_STEP}`,
};

/** The README's first example (test/repo/hello-test.ts). */
const EXAMPLE = path.join("examples", "hello", "main.mts");

const TYPED = `import { MTAdam, type MTAdamOptions } from "mtadam";
const options: MTAdamOptions = { terms: 1, lr: 0.5 };
const parameter = new Float32Array(1);
new MTAdam([parameter], options).step([[Float32Array.of(4)]]);
if (parameter[0]?.toFixed(3) !== "-0.500") throw new Error(String(parameter[0]));
import { openTorch, type TorchModel } from "mtadam/torch";
export const train = async (model: TorchModel): Promise<number | null | undefined> => {
  const optimizer = new MTAdam(model.parameters, { terms: model.terms });
  optimizer.step(await model.gradients({ images: new Float32Array(4), labels: [1, 2] }));
  return model.losses["digits"];
};
export const open: () => Promise<TorchModel> = () => openTorch("model.py", { args: { width: 3 } });
`;

/** Checked without the declarations of the packages, of which some are not valid. */
const TYPED_CLIENTS = `import type * as jax from "@jax-js/jax";
import type { Scalar } from "@tensorflow/tfjs-core";
import { openJax } from "mtadam/jax";
import { MTAdamOptimizer } from "mtadam/tfjs";
export const open = async (module: typeof jax): Promise<number | undefined> => {
  const { zeros, sum } = module.numpy;
  const model = await openJax(module, { w: zeros([2]) }, { one: ({ w }, x: jax.Array) => sum(w.mul(x)) });
  const { one } = await model.gradients(zeros([2]));
  // @ts-expect-error -- a batch of another form
  await model.gradients(3);
  return one["w"]?.[0] ?? model.losses.one;
};
export const minimize = (loss: () => Scalar): number => {
  const optimizer = new MTAdamOptimizer({ terms: ["a", "b"] });
  optimizer.minimizeTerms({ a: loss });
  // @ts-expect-error -- a misspelled term
  optimizer.minimizeTerms({ c: loss });
  new MTAdamOptimizer({ terms: 2 }).minimizeTerms({ 0: loss });
  return optimizer.minimize(loss, true)?.dataSync()[0] ?? 0;
};
`;

/** The ways in which TypeScript users import the package: a file, and compiler options. */
const RESOLUTIONS = {
  "NodeNext, ESM": ["typed-esm.mts", "--module", "nodenext"],
  "NodeNext, CommonJS": ["typed-cjs.cts", "--module", "nodenext"],
  "a bundler": ["typed-bundler.ts", "--module", "preserve", "--moduleResolution", "bundler"],
};

const STRICT = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"];

class PackageTest {
  #passed = 0;
  #failed = 0;
  #folder;
  #environment;

  constructor(folder) {
    this.#folder = folder;
    // A PATH with Node only.
    const bin = path.join(folder, "bin");
    fs.mkdirSync(bin);
    const link = process.platform === "win32" ? fs.copyFileSync : fs.symlinkSync; // which Windows may forbid
    link(process.execPath, path.join(bin, path.basename(process.execPath)));
    this.#environment = { ...process.env, PATH: bin, PREBUILDS_ONLY: "1", NODE_PATH: "" };
  }

  /** Counts one pass or one failure. `body` throws, or returns a sentence per problem. */
  check(name, body) {
    let failures;
    try {
      failures = body() ?? [];
    } catch (error) {
      failures = [error.message];
    }
    this.#passed += failures.length === 0 ? 1 : 0;
    this.#failed += failures.length === 0 ? 0 : 1;
    console.log(`${failures.length === 0 ? "✓" : "✗"} ${name}`);
    for (const failure of failures) console.log(`    ${failure.replaceAll("\n", "\n    ")}`);
    return failures.length === 0;
  }

  get #consumer() {
    return path.join(this.#folder, "consumer");
  }

  get #installed() {
    return path.join(this.#consumer, "node_modules", "mtadam");
  }

  #run(...args) {
    return node(args, { cwd: this.#consumer, env: this.#environment });
  }

  #write(name, text) {
    fs.writeFileSync(path.join(this.#consumer, name), text);
  }

  /** @returns {string} the packed file */
  pack(platform) {
    const { file, size, names } = pack(this.#folder);
    const kilobytes = `${(size / 1e3).toFixed(0)} kB in ${names.length} files`;
    this.check(`the packed file is small: ${kilobytes}`, () =>
      size < LARGEST ? [] : [`it must be smaller than ${LARGEST} bytes`],
    );
    this.check("it has what users need, and no more", () =>
      checkContents(names, [`prebuilds/${fileOf(platform)}`]),
    );
    return file;
  }

  install(file) {
    fs.mkdirSync(this.#consumer);
    this.#write("package.json", '{ "name": "consumer", "version": "1.0.0", "private": true }\n');
    this.check("there is no compiler on the PATH", () => {
      const found = COMPILERS.filter(
        (name) => spawnSync(name, ["--version"], { env: this.#environment }).status === 0,
      );
      return found.map((name) => `${name} is there`);
    });
    return this.check("it installs without scripts, a network, or a compiler", () => {
      // The one dependency as npm would get it.
      const dependency = npm(["pack", "--ignore-scripts", "--pack-destination", this.#folder], {
        cwd: tool("node-gyp-build"),
      }).trim();
      const options = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund"];
      npm(["install", ...options, file, path.join(this.#folder, dependency)], {
        cwd: this.#consumer,
        env: this.#environment,
      });
      const manifest = JSON.parse(fs.readFileSync(path.join(this.#installed, "package.json"), "utf8"));
      return checkManifest(manifest);
    });
  }

  programs(platform) {
    this.check("it loads the addon that came with it", () => {
      const program = `console.log(require("node-gyp-build").path(${JSON.stringify(this.#installed)}))`;
      const loaded = path.relative(this.#installed, this.#run("-e", program).trim());
      const expected = path.join("prebuilds", fileOf(platform));
      return loaded === expected ? [] : [`it must load ${expected}; it loads ${loaded}`];
    });
    for (const [name, text] of Object.entries(PROGRAMS)) {
      this.#write(name, text);
      this.check(`it takes a step: ${name}`, () => void this.#run(name));
    }
    for (const name of PEERS) {
      fs.symlinkSync(tool(name), path.join(this.#consumer, "node_modules", name), "junction");
    }
    for (const [name, text] of Object.entries(CLIENTS)) {
      this.#write(name, text);
      this.check(`it takes a step of another package's model: ${name}`, () => void this.#run(name));
    }
    this.check("it runs the README's first example", () => {
      // The example is JavaScript as well.
      fs.copyFileSync(path.join(setup.root, EXAMPLE), path.join(this.#consumer, "example.mjs"));
      const output = this.#run("example.mjs").trim();
      return output.includes("MTAdam ends at 0.50, 0.50") ? [] : [`it printed: ${output}`];
    });
  }

  types() {
    for (const [name, [file, ...options]] of Object.entries(RESOLUTIONS)) {
      this.#write(file, TYPED);
      this.check(`TypeScript finds it: ${name}`, () => {
        const runs = /\.[cm]ts$/.test(file);
        const common = ["--target", "es2022", "--ignoreConfig", ...STRICT, ...(runs ? [] : ["--noEmit"])];
        this.#run(tool("typescript", "bin", "tsc"), file, ...common, ...options);
        if (runs) this.#run(file.replace("ts", "js"));
        const clients = `clients-${file}`;
        this.#write(clients, TYPED_CLIENTS);
        this.#run(
          tool("typescript", "bin", "tsc"),
          clients,
          ...common,
          "--noEmit",
          "--skipLibCheck",
          ...options,
        );
      });
    }
    this.check("tsd: the types promise what they should", () => {
      const file = "index.test-d.ts";
      fs.copyFileSync(path.join(setup.root, "test", "types", file), path.join(this.#consumer, file));
      // tsd looks for its own package from there.
      fs.symlinkSync(tool("tsd"), path.join(this.#consumer, "node_modules", "tsd"), "junction");
      const typings = path.join("node_modules", "mtadam", "dist", "index.d.ts");
      this.#run(tool("tsd", "dist", "cli.js"), "--typings", typings, "--files", file);
    });
  }

  linters(file) {
    this.check("attw: every way to resolve it finds the right types", () => {
      node([tool("@arethetypeswrong", "cli", "dist", "index.js"), file, "--profile", "node16", "--no-emoji"]);
    });
    this.check("publint: the package is put together as it should be", () => {
      node([tool("publint", "src", "cli.js"), "run", file, "--strict"]);
    });
  }

  get good() {
    return this.#failed === 0 && this.#passed > 0;
  }

  summarise() {
    console.log(`${this.#passed} passed, ${this.#failed} failed`);
  }
}

/** Builds the addon in a separate process, which also checks it. */
function buildPrebuilds(architecture) {
  const only = architecture === "all" ? [] : ["--architecture", architecture];
  node([path.join(setup.root, "scripts", "release", "build-prebuilds.js"), ...only], {
    cwd: setup.root,
    stdio: "inherit",
  });
}

function architecturesNote(architecture) {
  if (architecture === undefined || architecture === "all") return "";
  return `, kernels for compute capability ${capability(architecture)} alone`;
}

function main() {
  const { values } = parseArgs({ options: OPTIONS });
  const platform = here();
  if (platform === undefined) throw new Error("This platform is none that the package brings an addon for.");
  setup.typescript();
  const prebuild = path.join(setup.root, "prebuilds", fileOf(platform));
  const architecture = values.architecture ?? (fs.existsSync(prebuild) ? undefined : "all");
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mtadam-package-"));
  const test = new PackageTest(folder);
  try {
    let built = "found in prebuilds/";
    if (architecture !== undefined) {
      const note = architecturesNote(architecture);
      const good = test.check(`the addon is built as it is shipped${note}`, () => {
        buildPrebuilds(architecture);
      });
      built = good ? `here${note}` : "failed";
    }
    const file = test.pack(platform);
    if (test.install(file)) {
      test.programs(platform);
      test.types();
      test.linters(file);
    }
    const cuda = platform.cuda ? "; not on a GPU" : "";
    const tested = test.good ? `here, as installed${cuda}` : "failed";
    console.log(`\n${table({ [platform.name]: { built, tested } })}\n`);
    test.summarise();
    process.exitCode = test.good ? 0 : 1;
  } finally {
    if (values.keep) console.log(`The folder is ${folder}`);
    else fs.rmSync(folder, { recursive: true });
  }
}

main();
