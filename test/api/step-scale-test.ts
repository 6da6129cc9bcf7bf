import { MTAdam, type MTAdamOptions } from "../../lib";
import { testDevice } from "../support/device";

const device = testDevice();
const LR = 0.1;
const gradient = (value = 1) => [device.buffer(Float32Array.of(value))];

/** How far one step with these options and gradients moves a parameter. */
async function moved(
  options: Partial<MTAdamOptions>,
  gradients: readonly (ReturnType<typeof gradient> | null)[],
): Promise<number> {
  const data = device.buffer(1);
  const optimizer = new MTAdam([data], { terms: gradients.length, lr: LR, ...options });
  optimizer.step(gradients);
  return -(await data.download())[0]!;
}

const mean = { stepScale: "mean" } as const;

test("only present terms count", async () => {
  expect(await moved(mean, [gradient(), null, gradient()])).toBeCloseTo(LR, 6);
  expect(await moved(mean, [gradient(), null, null])).toBe(await moved({}, [gradient(), null, null]));
});

test("weights count relative to the largest", async () => {
  const terms = [gradient(), gradient()];
  const sum = await moved({ weights: [2, 1] }, terms);
  const shortened = await moved({ ...mean, weights: [2, 1] }, terms);
  expect(shortened).toBeCloseTo(sum / 1.5, 6);
  expect(await moved({ ...mean, weights: [64, 32] }, terms)).toBeCloseTo(shortened, 6);
});

// The gradients are zero, so that only the decay moves the parameter.
test.each([
  ["the decay is not divided", [1, 1]],
  ["where all weights are 0, nothing is divided by", [0, 0]],
])("%s", async (_, weights) => {
  const data = device.buffer(Float32Array.of(8));
  const options = { weights, weightDecay: 0.5, decoupledWeightDecay: true, ...mean };
  new MTAdam([data], { terms: 2, lr: LR, ...options }).step([gradient(0), gradient(0)]);
  expect((await data.download())[0]).toBeCloseTo(8 * (1 - LR * 0.5), 5);
});

test("a term keeps the weight of its call", async () => {
  const data = device.buffer(1);
  const optimizer = new MTAdam([data], { terms: 2, lr: LR, ...mean });
  optimizer.accumulate(0, gradient(), { weights: [2, 9] });
  optimizer.accumulate(1, gradient(), { weights: [9, 1] });
  optimizer.update();
  const expected = await moved({ ...mean, weights: [2, 1] }, [gradient(), gradient()]);
  expect(-(await data.download())[0]!).toBe(expected);
});
