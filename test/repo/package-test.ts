import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync, mkdirSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import ts from "typescript-5.2/typescript/lib/typescript";

const root = path.join(__dirname, "../..");
const NAMES = [
  ...["BalanceMonitor", "DeviceBuffer", "MTAdam", "MTAdamError", "cosine", "describeDevices", "exponential"],
  ...["loadTensors", "openDevice", "saveTensors", "tuneWeights", "warmup", "writeReport"],
];

/** A consumer's folder, with this checkout as its only dependency. */
function consumer(files: Record<string, string>, use: (folder: string) => void): void {
  const folder = mkdtempSync(path.join(os.tmpdir(), "mtadam-consumer-"));
  try {
    mkdirSync(path.join(folder, "node_modules"));
    symlinkSync(root, path.join(folder, "node_modules", "mtadam"), "dir");
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
    use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function node(folder: string, file: string): string {
  return execFileSync(process.execPath, [file], { cwd: folder, encoding: "utf8" });
}

const program = `
const parameter = new Float32Array(1);
new MTAdam([parameter], { terms: 1, lr: 0.5 }).step([[Float32Array.of(4)]]);
console.log(parameter[0].toFixed(3));
`;

describe("a consumer of the checkout", () => {
  test("requires it from CommonJS, by name and as a folder", () => {
    const files = {
      "name.cjs": `const { MTAdam } = require("mtadam");${program}`,
      "folder.cjs": `const { MTAdam } = require(${JSON.stringify(root)});${program}`,
      "names.cjs": `console.log(Object.keys(require("mtadam")).sort().join());`,
      "clients.cjs": `for (const name of ["distributed", "jax", "tfjs", "torch"]) console.log(...Object.keys(require("mtadam/" + name)));`,
    };
    consumer(files, (folder) => {
      expect(node(folder, "name.cjs")).toBe("-0.500\n");
      expect(node(folder, "folder.cjs")).toBe("-0.500\n");
      expect(node(folder, "names.cjs")).toBe(`${NAMES.join()}\n`);
      expect(node(folder, "clients.cjs")).toBe(
        "connectMpi connectNccl ncclId\nopenJax\nMTAdamOptimizer\nopenTorch\n",
      );
    });
  });

  test("imports it from ESM; both get the same classes", () => {
    const files = {
      "name.mjs": `import { MTAdam } from "mtadam";${program}`,
      "names.mjs": `import * as mtadam from "mtadam"; console.log(Object.keys(mtadam).sort().join());`,
      "clients.mjs": `import { openTorch } from "mtadam/torch"; import { createRequire } from "node:module";
        import { MTAdamOptimizer } from "mtadam/tfjs"; import { openJax } from "mtadam/jax"; import { connectMpi } from "mtadam/distributed"; const require = createRequire(import.meta.url);
        console.log(require("mtadam/torch").openTorch === openTorch);
        console.log(require("mtadam/tfjs").MTAdamOptimizer === MTAdamOptimizer);
        console.log(require("mtadam/jax").openJax === openJax);
        console.log(require("mtadam/distributed").connectMpi === connectMpi);`,
      "same.mjs": `import { createRequire } from "node:module"; import { MTAdam } from "mtadam";
        console.log(createRequire(import.meta.url)("mtadam").MTAdam === MTAdam);`,
    };
    consumer(files, (folder) => {
      expect(node(folder, "name.mjs")).toBe("-0.500\n");
      expect(node(folder, "names.mjs")).toBe(`${NAMES.join()}\n`);
      expect(node(folder, "same.mjs")).toBe("true\n");
      expect(node(folder, "clients.mjs")).toBe("true\ntrue\ntrue\ntrue\n");
    });
  });

  test("finds the types, from CommonJS, ESM and a bundler", () => {
    const source = `
      import { MTAdam, openDevice, type DeviceBuffer, type MTAdamOptions, type StateDict } from "mtadam";
      import { openTorch, type TorchModel } from "mtadam/torch";
      import { connectMpi, type Communicator } from "mtadam/distributed";
      export const share = async (): Promise<MTAdam> => {
        const distributed: Communicator = await connectMpi({ timeout: 30 });
        const own = new MTAdam([new Float32Array(2)], { terms: 1, distributed, shard: "state", reduction: "ordered" });
        own.step([[new Float32Array(2)]], { reduced: distributed.rank < 0 });
        return own;
      };
      const options: MTAdamOptions = { terms: ["a", "b"], lr: (iterations) => 1 / (1 + iterations) };
      const buffer: DeviceBuffer<"float32"> = openDevice("cpu", { threads: 1 }).buffer(3);
      const optimizer = new MTAdam([{ name: "w", data: buffer, layer: "l" }, new Float32Array(2)], options);
      optimizer.step({ a: [null, new Float32Array(2)], b: { w: buffer } });
      export const state: Promise<StateDict> = optimizer.stateDict();
      export const train = async (model: TorchModel): Promise<void> => {
        const own = new MTAdam(model.parameters, { terms: model.terms });
        own.step(await model.gradients({ images: { data: new Float32Array(4), shape: [2, 2] }, labels: [1, 2] }));
        const { fit } = await model.gradients(new Float32Array(4), { signal: AbortSignal.timeout(100) });
        own.accumulate("fit", fit ?? null);
      };
      export const opened: () => Promise<TorchModel> = () => openTorch("model.py", { args: { width: 3 } });
      // @ts-expect-error -- no such option
      void openTorch("model.py", { arguments: [] });
      // @ts-expect-error -- no such option
      new MTAdam([buffer], { terms: 1, learningRate: 1 });
    `;
    consumer({ "esm.mts": source, "cjs.cts": source }, (folder) => {
      const tsc = path.join(root, "node_modules", "typescript", "bin", "tsc");
      const check = (file: string, ...options: string[]): void => {
        const common = ["--noEmit", "--strict", "--target", "es2022", "--ignoreConfig"];
        execFileSync(process.execPath, [tsc, file, ...common, ...options], {
          cwd: folder,
          encoding: "utf8",
          stdio: "pipe",
        });
      };
      check("esm.mts", "--module", "nodenext");
      check("cjs.cts", "--module", "nodenext");
      check("esm.mts", "--module", "preserve", "--moduleResolution", "bundler");
    });
  }, 60_000);

  // The oldest that docs/guide.md names.
  test.each([true, false])(
    "compiles with TypeScript 5.2, exactOptionalPropertyTypes %p",
    (exactOptionalPropertyTypes) => {
      const tsd = `declare module "tsd" {
      export const expectType: <T>(value: T) => void;
      export const expectAssignable: <T>(value: T) => void;
      export const expectNotAssignable: <T>(value: unknown) => void;
    }`;
      const types = readFileSync(path.join(root, "test/types/index.test-d.ts"), "utf8");
      consumer({ "tsd.d.ts": tsd, "types.mts": types }, (folder) => {
        const files = ["tsd.d.ts", "types.mts"].map((name) => path.join(folder, name));
        const program = ts.createProgram(files, {
          exactOptionalPropertyTypes,
          strict: true,
          noEmit: true,
          target: ts.ScriptTarget.ES2022,
          // Without the types of a browser, as without Node's.
          lib: ["lib.es2022.d.ts", "lib.esnext.disposable.d.ts"],
          module: ts.ModuleKind.NodeNext,
          types: [],
        });
        const messages = ts
          .getPreEmitDiagnostics(program)
          .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))
          // TypeScript 5.2 does not replace `Term` in the type of a setter (docs/guide.md).
          .filter((message) => !message.includes("is not assignable to type 'Weights<Term>'"));
        expect(messages).toEqual([]);
        const own = program.getSourceFiles().filter(({ fileName }) => fileName.includes("/dist/"));
        expect(own.length).toBeGreaterThan(10);
        expect(ts.version).toMatch(/^5\.2\./);
      });
    },
    60_000,
  );
});
