import { compileExamples, runOnExamples } from "../support/examples";

interface Quality {
  modes: number;
  near: number;
}

// A GAN keeps changing and may lose a mode again later. This test checks the report of examples/gan/README.md.
describe("the GAN example with the recommended setting", () => {
  test("covers all eight modes after 1500 steps", () => {
    const args = ["recommended", "1", "1500"]; // the seed, the steps
    const { modes, near } = runOnExamples("gan-modes.mjs", compileExamples(), ...args) as Quality;
    expect(modes).toBe(8);
    expect(near).toBeGreaterThan(0.5);
  });
});
