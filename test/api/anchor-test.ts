import { MTAdam, type Anchor, type MTAdamOptions } from "../../lib";
import { testDevice } from "../support/device";

const device = testDevice();
const gradient = (value: number) => [device.buffer(Float32Array.of(value))];

function makeOptimizer(options: Partial<MTAdamOptions>): MTAdam {
  const parameters = [{ name: "p", data: device.buffer(1) }];
  return new MTAdam(parameters, { terms: ["a", "b", "c"], lr: 0.1, ...options });
}

/** s of each term in the last step, computed from m: with β₁ = 0, m is the balanced gradient. */
async function scales(optimizer: MTAdam, gradients: readonly number[]): Promise<number[]> {
  const state = await optimizer.stateDict();
  return gradients.map((g, term) => (state[`m.${term}.0`] as Float32Array)[0]! / g);
}

const betas = [0, 0.9, 0] as const; // with these betas, norms and moments are those of the last step

describe("the terms of a layer are scaled to", () => {
  const gradients = [2, 16, 4];
  test.each<[Anchor, number]>([
    ["first", 2],
    ["max", 16],
    ["mean", 128 ** (1 / 3)],
    ["c", 4],
  ])("%s", async (anchor, norm) => {
    const optimizer = makeOptimizer({ anchor, betas });
    optimizer.step(gradients.map(gradient));
    const expected = gradients.map((g) => norm / g);
    for (const [term, scale] of (await scales(optimizer, gradients)).entries()) {
      expect(scale).toBeCloseTo(expected[term]!, 6);
    }
  });
});

test("an absent term anchors with its last norm; a term that never occurred does not", async () => {
  const optimizer = makeOptimizer({ anchor: "max", betas });
  optimizer.step([gradient(2), null, null]);
  optimizer.step([null, gradient(1), null]);
  expect((await scales(optimizer, [2, 1]))[1]).toBe(2);
});

test("a named anchor falls back to the first term while its norm is zero", async () => {
  const optimizer = makeOptimizer({ anchor: "c", betas });
  optimizer.step([gradient(2), gradient(4), gradient(0)]);
  expect(await scales(optimizer, [2, 4])).toEqual([1, 0.5]);
});

test("terms one at a time are scaled by the norms known so far", async () => {
  const optimizer = makeOptimizer({ anchor: "max", betas });
  optimizer.accumulate("a", gradient(2));
  optimizer.accumulate("b", gradient(16));
  optimizer.accumulate("c", gradient(4));
  optimizer.update();
  expect(await scales(optimizer, [2, 16, 4])).toEqual([1, 1, 4]);
});

test("anchor, balance, stepScale and nonFinite are part of a saved state", async () => {
  const options = { anchor: "c", balance: 0.25, stepScale: "mean", nonFinite: "propagate" } as const;
  const { metadata } = await makeOptimizer(options).stateDict();
  expect(metadata.options).toMatchObject(options);
});
