import { MTAdam } from "../../lib";
import { testDevice } from "../support/device";
import { difference, maxAbs } from "../support/golden";
import { Oracle } from "../support/oracle";
import { randomSource, randomTensor } from "../support/random";

const STEPS = 1000;

describe("one term alone", () => {
  test.each([
    {},
    { amsgrad: true },
    { weightDecay: 0.01 },
    { weightDecay: 0.01, decoupledWeightDecay: true },
  ])("is Adam over 1,000 steps, with %j", async (options) => {
    const random = randomSource(7);
    const lengths = [1, 37, 300];
    const init = lengths.map((length) => randomTensor(random, length, 1));
    const device = testDevice();
    const parameters = init.map((values) => device.buffer(values));
    const gradients = lengths.map((length) => device.buffer(length));
    const optimizer = new MTAdam(parameters, { terms: 1, ...options });
    const oracle = new Oracle(
      init.map((values) => ({ init: values })),
      { terms: 1, ...options },
    );
    for (let step = 0; step < STEPS; ++step) {
      const values = lengths.map((length) => randomTensor(random, length, 10 ** (step % 5)));
      for (const [k, gradient] of gradients.entries()) gradient.upload(values[k]!);
      optimizer.step([gradients]);
      oracle.step([values]);
    }
    const moved = difference(oracle.parameters, init);
    const errors = difference(
      await Promise.all(parameters.map((data) => data.download())),
      oracle.parameters,
    );
    // θ is rounded to float32 a thousand times, by up to half a unit each; most of these errors cancel.
    expect(maxAbs(errors)).toBeLessThan(5e-6);
    expect(maxAbs(moved)).toBeGreaterThan(0.01);
  });
});
