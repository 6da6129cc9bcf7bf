import { execFileSync } from "node:child_process";
import path from "node:path";
import { onCuda } from "../support/device";

const root = path.join(__dirname, "../..");

interface Round {
  steps: number;
  arms: { arm: string; curve: [number, number][]; norms?: unknown }[];
}

function round(kind: string): Round {
  const script = path.join(root, "test/support/demo-round.mjs");
  return JSON.parse(execFileSync(process.execPath, [script, kind], { encoding: "utf8" })) as Round;
}

onCuda("the demo", () => {
  test("trains with parameters, gradients and state on the device, and learns what it learns on the CPU", () => {
    const compiler = require.resolve("typescript/bin/tsc");
    execFileSync(process.execPath, [compiler, "-p", path.join(root, "examples/mnist")]);
    const onDevice = round(testDeviceKind);
    expect(onDevice.steps).toBe(2);
    expect(onDevice.arms.length).toBeGreaterThan(2);
    expect(onDevice).toEqual(round("cpu"));
  });
});
