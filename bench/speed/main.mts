import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { describeDevices, openDevice } from "mtadam";
import { runProgram, UsageError } from "../../examples/common/command-line.mjs";
import { ROOT } from "../common/root.mjs";
import { bench, draw, tablesIn, type Rig } from "./bench.mjs";
import { COLD_BYTES } from "./measure.mjs";
import { HELP, parseOptions, type Options } from "./options.mjs";
import { GpuRoof, HostRoof } from "./roof.mjs";
import { compareStates } from "./states.mjs";
import { compareSubnormal } from "./subnormal.mjs";

// Built by scripts/build/run.js, and the GPU's by scripts/gpu-check.
const program = (name: string) =>
  join(ROOT, "build/bench/speed/native", process.platform === "win32" ? `${name}.exe` : name);

function rigOf(options: Options): Rig {
  if (options.device !== "cpu") return gpuRig(options);
  return {
    device: openDevice("cpu", { threads: options.threads }),
    roof: () => new HostRoof(program("roof"), options.threads),
    peersOn: "cpu",
    coldBytes: COLD_BYTES,
    out: options.out ?? resolve("docs/speed"),
  };
}

function gpuRig({ device: name, out }: Options): Rig {
  const device = openDevice(name);
  if (!existsSync(program("gpu_roof"))) {
    throw new UsageError(
      `--device ${name} needs a program that measures its memory, which is built where there is an nvcc.`,
    );
  }
  const index = Number(name.split(":")[1] ?? 0);
  const { driver = "", runtime = "", devices } = describeDevices().cuda;
  return {
    device,
    gpu: {
      name: device.name,
      computeCapability: devices[index]?.computeCapability ?? "",
      driver,
      runtime,
    },
    roof: () => new GpuRoof(program("gpu_roof"), index),
    peersOn: `cuda:${index}`,
    coldBytes: COLD_BYTES,
    out: out ?? resolve("docs/speed", folderName(device.name)),
  };
}

/** "NVIDIA H200" is nvidia-h200. */
function folderName(device: string): string {
  return device
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}

await runProgram(async (args) => {
  const options = parseOptions(args);
  if (options.help) console.log(HELP);
  else if (options.draw) await draw(options.out!);
  else if (options.subnormal) compareSubnormal(options.threads);
  else if (options.states)
    await compareStates(options.terms, options.threads, new HostRoof(program("roof"), options.threads));
  else if (options.tables) console.log(JSON.stringify(await tablesIn(options.out!)));
  else await bench(options, rigOf(options));
  return 0;
});
