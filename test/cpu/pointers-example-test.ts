import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { describeDevices } from "../../lib";
import { compileExamples } from "../support/examples";
import { temporaryFolder } from "../support/folder";

const folder = temporaryFolder();
let examples = "";

beforeAll(() => {
  examples = compileExamples();
}, 60_000);

const { reason } = describeDevices().cuda;
(reason === undefined ? test.skip : test)("examples/device-pointers says why it cannot run", () => {
  const main = path.join(examples, "device-pointers", "main.mjs");
  const { status, stdout, stderr } = spawnSync(process.execPath, [main], { encoding: "utf8" });
  expect([status, stdout, stderr]).toEqual([1, "", `This example needs a CUDA device: ${reason}\n`]);
});

// A library with the runtime's functions, over host memory.
const STAND_IN = `
#include <stdlib.h>
#include <string.h>
static int live;
int cudaMalloc(void **address, size_t bytes) {
  if (bytes > 1000) return 2;
  live += 1;
  return (*address = malloc(bytes)) == 0;
}
int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
  if (kind != 1 && kind != 2) return 21;
  memcpy(to, from, bytes);
  return 0;
}
int cudaFree(void *address) {
  free(address);
  return --live;
}
const char *cudaGetErrorString(int status) { return status == 2 ? "out of memory" : "another error"; }
`;

const canCompile = process.platform === "linux" && spawnSync("cc", ["--version"]).status === 0;
(canCompile ? test : test.skip)("openRuntime calls the functions of CUDA's runtime", () => {
  const [source, library] = [path.join(folder, "runtime.c"), path.join(folder, "runtime.so")];
  writeFileSync(source, STAND_IN);
  execFileSync("cc", ["-shared", "-fPIC", "-o", library, source]);
  const module = path.join(examples, "device-pointers", "runtime.mjs");
  writeFileSync(
    path.join(folder, "use.mjs"),
    `import { openRuntime } from ${JSON.stringify(module)};
    const memory = openRuntime(["/nowhere.so", ${JSON.stringify(library)}]);
    const address = memory.allocate(12);
    memory.upload(address, Float32Array.of(1, 2, 3));
    const values = new Float32Array(3);
    memory.download(address, values);
    memory.free(address); // fails unless all is freed
    const caught = (call) => { try { call(); } catch ({ message }) { return message.split("\\n")[0]; } };
    console.log(JSON.stringify([
      typeof address, [...values], caught(() => memory.allocate(1001)), caught(() => openRuntime(["/nowhere.so"])),
    ]));`,
  );
  const output = execFileSync(process.execPath, [path.join(folder, "use.mjs")], { encoding: "utf8" });
  expect(JSON.parse(output)).toEqual([
    "bigint",
    [1, 2, 3],
    "cudaMalloc: out of memory",
    "CUDA's runtime cannot be loaded:",
  ]);
});
