import path from "node:path";
import { compileExamples, runOnExamples } from "../support/examples";
import { temporaryFolder } from "../support/folder";

interface Round {
  /** Digests of the parameters and the state of generator and discriminator. */
  arms: Record<string, { through: [string, string]; resumed: [string, string] }>;
  /** Digests of Adam on the sum, with units that its weights undo. */
  weighted: [string, string];
  /** Whether a step of one side changed generator and discriminator. */
  byGenerator: [boolean, boolean];
  byDiscriminator: [boolean, boolean];
  biasesOfPenalty: number;
  slopeErrors: Record<string, number>;
}

describe("the GAN example", () => {
  const folder = temporaryFolder();
  let onDevice: Round;
  let onCpu: Round;
  beforeAll(() => {
    const examples = compileExamples();
    const round = (kind: string): Round =>
      runOnExamples("gan-round.mjs", examples, kind, path.join(folder, kind)) as Round;
    onDevice = round(testDeviceKind);
    onCpu = testDeviceKind === "cpu" ? onDevice : round("cpu");
  }, 120_000);

  test("trains to the same bits on every device", () => {
    expect(Object.keys(onDevice.arms).length).toBeGreaterThan(2);
    expect(onDevice.arms).toEqual(onCpu.arms);
  });

  test("resumes from its checkpoints with the bits of an uninterrupted run", () => {
    for (const { through, resumed } of Object.values(onDevice.arms)) expect(resumed).toEqual(through);
  });

  test("has two independent optimizers", () => {
    expect(onDevice.byGenerator).toEqual([true, false]);
    expect(onDevice.byDiscriminator).toEqual([false, true]);
  });

  test("gives each term's gradient to the side whose loss it is", () => {
    expect(Object.keys(onDevice.slopeErrors)).toHaveLength(5);
    for (const error of Object.values(onDevice.slopeErrors)) expect(Math.abs(error)).toBeLessThan(0.02);
  });

  test("gives biases no gradient of the penalty: absent, not zero", () => {
    expect(onDevice.biasesOfPenalty).toBe(3);
  });

  test("weighs the terms of the sum for Adam", () => {
    expect(onDevice.weighted).toEqual(onDevice.arms["adam"]?.through);
  });

  test("is independent of the unit of a loss with MTAdam, but not with Adam", () => {
    const { arms } = onDevice;
    // The discriminator gets points of the generator, which depend on it; the generator's state contains the larger
    // norms.
    expect(arms["mtadam-scaled"]?.through[1]).toBe(arms["mtadam"]?.through[1]);
    expect(arms["adam-scaled"]?.through[1]).not.toBe(arms["adam"]?.through[1]);
  });
});
