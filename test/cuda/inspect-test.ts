import { readFileSync } from "node:fs";
import path from "node:path";
import { onCuda } from "../support/device";
import { install, LOCAL } from "../support/installed";

// The output of `mtadam inspect` on machines with and without GPUs, simulated by the executor's addon.

onCuda("mtadam inspect", () => {
  if (testDeviceKind !== "executor") {
    test.todo("on a machine that must be made to order");
    return;
  }
  const installed = install();
  const addon = installed.plant(
    LOCAL,
    readFileSync(path.join(__dirname, "..", "..", "build", "executor", "mtadam.node")),
  );

  /** Its output from the line about CUDA on, on a machine described by these words. */
  function inspect(words: string): string {
    const machine = installed.plant(
      "machine.js",
      `require(${JSON.stringify(addon)}).simt.reset(${JSON.stringify(words)});`,
    );
    const command = path.join(installed.package, "dist", "cli", "main.js");
    const { status, stdout, stderr } = installed.node(["--require", machine, command, "inspect"]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return stdout.slice(stdout.indexOf("\ncuda ") + 1);
  }

  test("two devices", () => {
    const said = inspect("devices=2");
    expect(said).toMatch(/^cuda {9}runtime 13\.0 in the addon, with code for 7\.5, .*\n/);
    expect(said).toMatch(/\n {13}driver for CUDA 13\.0 and older\n/);
    for (const index of [0, 1]) {
      expect(said).toContain(
        `\ncuda:${index}       SIMT executor ${index}, compute capability 9.0\n             usable\n`,
      );
    }
  });

  test.each([
    ["driver=0", "no driver", "No NVIDIA driver is installed."],
    [
      "driver_version=12040",
      "driver for CUDA 12.4 and older",
      "The NVIDIA driver serves CUDA 12.4, but this build of mtadam uses CUDA 13.0, which needs a driver that serves 13.0 or newer.",
    ],
    ["devices=0", "driver for CUDA 13.0 and older", "There is no CUDA device on this machine."],
  ])("%s", (words, driver, reason) => {
    expect(inspect(words)).toContain(`\n             ${driver}\n             ${reason}\n`);
  });
});
