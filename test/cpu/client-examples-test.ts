import { execFileSync } from "node:child_process";
import path from "node:path";
import { compileExamples } from "../support/examples";

let examples = "";

beforeAll(() => {
  examples = compileExamples();
});

test.each(["tfjs", "jax"])("examples/%s learns both terms of MNIST", (name) => {
  const main = path.join(examples, name, "main.mjs");
  const output = execFileSync(process.execPath, [main, "--steps", "101"], {
    encoding: "utf8",
    stdio: "pipe",
  });
  const losses = Array.from(output.matchAll(/digits ([\d.]+), pixels ([\d.]+)/g), ([, ...pair]) =>
    pair.map(Number),
  );
  expect(losses).toHaveLength(2);
  expect(losses[1]![0]).toBeLessThan(0.5 * losses[0]![0]!);
  expect(losses[1]![1]).toBeLessThan(0.5 * losses[0]![1]!);
  expect(Number(/names ([\d.]+) %/.exec(output)?.[1])).toBeGreaterThan(75);
});
