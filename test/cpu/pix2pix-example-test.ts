import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { compileExamples, runOnExamples } from "../support/examples";
import { temporaryFolder } from "../support/folder";

const folder = temporaryFolder();
let examples = "";

beforeAll(() => {
  examples = compileExamples();
});

const upTo = (most: number) => fc.integer({ min: 1, max: most });
const before = fc.integer({ min: 0, max: 4 });
const padding = fc.oneof(
  fc.constantFrom("same", "valid"),
  fc.tuple(before, before, before, before).map(([top, bottom, left, right]) => {
    return [[0, 0], [top, bottom], [left, right], [0, 0]]; // prettier-ignore
  }),
);
const convolution = fc
  .record({
    sizes: fc.tuple(upTo(4), upTo(4)),
    beyond: fc.tuple(upTo(6), upTo(6)),
    strides: fc.tuple(upTo(3), upTo(3)),
    batch: upTo(4),
    channels: upTo(4),
    filters: upTo(4),
    pad: padding,
  })
  .map(({ sizes, beyond, strides, batch, channels, filters, pad }) => ({
    input: [batch, sizes[0] + beyond[0], sizes[1] + beyond[1], channels],
    filter: [...sizes, channels, filters],
    strides,
    pad,
  }));
// Not with a stride above the size of the filter: for "same", the backend's own convolution is wrong there.
const transposed = fc
  .record({ stride: upTo(3), beyond: before, batch: upTo(3), height: upTo(4), width: upTo(4) })
  .map(({ stride, beyond, batch, height, width }) => ({
    input: [batch, height, width, 2],
    filter: [stride + beyond, stride + beyond, 3, 2],
    strides: stride,
    pad: "same",
    transposed: [batch, height * stride, width * stride, 3],
  }));

test("the gradients of convolutions on wasm are those of the cpu backend", () => {
  const convolutions = [
    { input: [2, 32, 32, 1], filter: [4, 4, 1, 16], strides: 2, pad: "same" },
    { input: [2, 16, 16, 64], filter: [3, 3, 64, 16], strides: 1, pad: "same" },
    { input: [2, 7, 5, 2], filter: [3, 3, 2, 3], strides: 2, pad: 1 },
    { input: [7, 5, 2], filter: [2, 2, 2, 3], strides: 1, pad: "valid" },
    ...fc.sample(convolution, 100),
    ...fc.sample(transposed, 30),
  ];
  const distances = runOnExamples("wasm-gradients.mjs", examples, JSON.stringify(convolutions)) as number[][];
  expect(distances).toHaveLength(convolutions.length);
  for (const [k, found] of distances.entries()) {
    const far = found.filter((distance) => !(distance < 1e-5));
    expect({ convolution: convolutions[k], far }).toEqual({ convolution: convolutions[k], far: [] });
  }
});

test("examples/pix2pix learns, and draws what it makes", () => {
  const file = path.join(folder, "made.png");
  const main = path.join(examples, "pix2pix/main.mjs");
  const run = (...options: string[]): string =>
    execFileSync(process.execPath, [main, "--out", file, ...options], { encoding: "utf8", stdio: "pipe" });
  expect(run("--steps", "1", "--seed", "0")).toBe(run("--steps", "1", "--seed", "0"));
  const output = run("--steps", "15");
  const pixels = Array.from(output.matchAll(/pixels ([\d.]+)/g), ([, loss]) => Number(loss));
  expect(pixels.length).toBeGreaterThan(3);
  expect(pixels.at(-1)).toBeLessThan(0.7 * pixels[0]!);
  // The header of a PNG has its width and height.
  const png = readFileSync(file);
  expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([320, 32 * (2 + pixels.length)]);
});
