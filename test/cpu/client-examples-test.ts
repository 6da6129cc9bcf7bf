import { execFileSync } from "node:child_process";
import path from "node:path";
import { compileExamples } from "../support/examples";

let examples = "";

beforeAll(() => {
  examples = compileExamples();
}, 60_000);

test.each(["tfjs", "jax"])(
  "examples/%s learns both terms of MNIST",
  (name) => {
    const main = path.join(examples, name, "main.mjs");
    const output = execFileSync(process.execPath, [main, "--steps", "201"], {
      encoding: "utf8",
      stdio: "pipe",
    });
    const losses = Array.from(output.matchAll(/digits ([\d.]+), pixels ([\d.]+)/g), ([, ...pair]) =>
      pair.map(Number),
    );
    expect(losses).toHaveLength(3);
    expect(losses[2]![0]).toBeLessThan(0.5 * losses[0]![0]!);
    expect(losses[2]![1]).toBeLessThan(0.5 * losses[0]![1]!);
    expect(Number(/names ([\d.]+) %/.exec(output)?.[1])).toBeGreaterThan(80);
  },
  60_000,
);
