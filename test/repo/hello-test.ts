import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { compileExamples } from "../support/examples";

const root = path.join(__dirname, "../..");

describe("examples/hello", () => {
  const readme = readFileSync(path.join(root, "README.md"), "utf8");

  test("is the README's first example, word for word", () => {
    const program = readFileSync(path.join(root, "examples/hello/main.mts"), "utf8");
    const [, block] = /^```ts\n([^]*?)^```$/m.exec(readme) ?? [];
    expect(block).toBe(program);
  });

  test("balances two losses, where Adam follows the larger one, and prints what the README says", () => {
    const main = path.join(compileExamples(), "hello", "main.mjs");
    const output = execFileSync(process.execPath, [main], { encoding: "utf8" });
    expect(output).toContain("MTAdam ends at 0.50, 0.50");
    expect(output).toContain("Adam ends at 0.00, 1.00");
    const [, block] = /^It prints:\n\n```\n([^]*?)^```$/m.exec(readme) ?? [];
    expect(block).toBe(output);
  }, 60_000);
});
