import { compileExamples, runOnExamples } from "../support/examples";

interface Quality {
  modes: number;
  near: number;
}

// A GAN keeps changing and may lose a mode again later. This test checks the report of examples/gan/README.md.
describe("the GAN example with the recommended setting", () => {
  test.each([1, 2])("covers all eight modes after 1500 steps of seed %d", (seed) => {
    const args = ["recommended", String(seed), "1500"];
    const { modes, near } = runOnExamples("gan-modes.mjs", compileExamples(), ...args) as Quality;
    expect(modes).toBe(8);
    expect(near).toBeGreaterThan(0.5);
  });
});
