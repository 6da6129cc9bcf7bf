import { MTAdam } from "../../lib";
import { isSlow, testDevice } from "../support/device";
import { difference, maxAbs } from "../support/golden";
import { Oracle } from "../support/oracle";
import { randomSource, randomTensor } from "../support/random";

const TENSORS = isSlow ? 300 : 3000;
const ELEMENTS = isSlow ? 1_000_000 : 50_000_000;

describe("models of every size train", () => {
  test(`${TENSORS} tensors of 3,500 elements`, async () => {
    const device = testDevice();
    const random = randomSource(1);
    const values = [0.5, 20].map((scale) => randomTensor(random, 3500, scale));
    const parameters = Array.from({ length: TENSORS }, () => device.buffer(3500));
    // One gradient buffer may serve many parameters and terms.
    const gradients = values
      .map((gradient) => device.buffer(gradient))
      .map((data) => parameters.map(() => data));
    const optimizer = new MTAdam(parameters, { terms: 2 });
    for (let step = 0; step < 3; ++step) optimizer.step(gradients);

    const oracle = new Oracle([{ init: new Float32Array(3500) }], { terms: 2 });
    for (let step = 0; step < 3; ++step) oracle.step(values.map((gradient) => [gradient]));
    for (const parameter of [parameters[0], parameters[TENSORS / 2], parameters[TENSORS - 1]]) {
      const moved = (await parameter?.download()) ?? [];
      expect(maxAbs(difference([moved], oracle.parameters))).toBeLessThan(2e-9);
    }
  });

  test(`one tensor of ${ELEMENTS} elements`, async () => {
    const length = ELEMENTS;
    const device = testDevice();
    const parameter = device.buffer(length);
    const ones = device.buffer(length);
    const threes = device.buffer(length);
    ones.fill(1);
    threes.fill(-3);
    const optimizer = new MTAdam([parameter], { terms: ["ones", "threes"], lr: 0.5, firstMoment: "summed" });
    optimizer.step({ ones: [ones], threes: null });
    optimizer.step([[ones], [threes]]);
    const norms = await optimizer.norms();
    expect(norms[0]).toBe(Math.fround(Math.sqrt(length)));
    expect(norms[1]).toBe(Math.fround(3 * Math.sqrt(length)));

    // By the summed rule: the first step moves −0.5. In the second, the new term, scaled to the same norm, pulls back.
    const oracle = new Oracle([{ init: [0] }], { terms: 2, lr: 0.5, firstMoment: "summed" });
    oracle.step([[[1]], [null]]);
    oracle.step([[[1]], [[-3]]]);
    const moved = await parameter.download();
    const expected = oracle.parameters[0]?.[0] ?? NaN;
    for (const k of [0, 4095, 4096, length / 2 + 1, length - 1]) expect(moved[k]).toBeCloseTo(expected, 6);
    for (const buffer of [parameter, ones, threes]) buffer.dispose();
    optimizer.dispose();
  });

  test("empty and one-element tensors, first, in the middle and last", async () => {
    const device = testDevice();
    const lengths = [0, 1, 5, 0, 1, 0];
    const parameters = lengths.map((length) => device.buffer(length));
    const gradient = (scale: number): Float32Array[] =>
      lengths.map((length) => new Float32Array(length).fill(scale));
    const optimizer = new MTAdam(parameters, { terms: 2 });
    const oracle = new Oracle(
      lengths.map((length) => ({ init: new Float32Array(length) })),
      { terms: 2 },
    );
    for (let step = 0; step < 5; ++step) {
      const gradients = [gradient(1), gradient(-0.25 - step)];
      optimizer.step(
        gradients.map((ofTerm) => ofTerm.map((values) => device.buffer(values as Float32Array<ArrayBuffer>))),
      );
      oracle.step(gradients);
    }
    const moved = await Promise.all(parameters.map((parameter) => parameter.download()));
    expect(moved.map((values) => values.length)).toEqual(lengths);
    expect(maxAbs(difference(moved, oracle.parameters))).toBeLessThan(2e-9);
    // A layer without elements has the norm 0 and counts as having occurred.
    expect((await optimizer.norms())[0]).toBe(0);
  });

  test("a model of empty tensors only", () => {
    const device = testDevice();
    const optimizer = new MTAdam([device.buffer(0), device.buffer(0)], { terms: 1 });
    optimizer.step([[device.buffer(0), null]]);
    expect(optimizer.iterations).toBe(1);
  });
});
