import { rmSync } from "node:fs";
import { BalanceMonitor, MTAdam } from "../../lib";

export const HOSTILE = "</script><img src=x onerror=alert(1)>";

/** A short training on the CPU with three terms and five layers, recorded in a file. Every run has the same values. */
export async function recordRun(file: string, steps = 600): Promise<void> {
  rmSync(file, { force: true });
  let state = 1;
  const random = (): number => (state = (state * 16807) % 2147483647) / 2147483647 - 0.5;
  const parameters = ["conv1.weight", "conv1.bias", "conv2.weight", "dense.weight", HOSTILE].map(
    (name, k) => {
      return { name, data: Float32Array.from({ length: 40 + 10 * k }, random) };
    },
  );
  const optimizer = new MTAdam(parameters, {
    terms: ["content", "style", "<b>smooth"],
    cosines: true,
    anchor: "max",
    lr: (iterations) => 1e-2 * 0.997 ** iterations,
  });
  const monitor = new BalanceMonitor(optimizer, { every: 5, file });
  for (let step = 1; step <= steps; ++step) {
    const sizes = [
      1 / (1 + step / 80),
      30 * Math.exp(-step / 100),
      0.02 + 0.4 * (1 + Math.sin(step / 60)),
    ] as const;
    monitor.record({
      content: 2 * sizes[0] + 0.1 * random(),
      style: sizes[1],
      "<b>smooth": sizes[2],
      "recall/0": 1 - sizes[0],
      "recall/1": 1 - sizes[0] ** 2,
    });
    const gradients = sizes.map((size, term) => {
      return parameters.map(({ data }, layer) => {
        const tilt = term === 1 ? -0.3 * layer : 0.2;
        return term === 2 && layer === 4 ? null : data.map((value) => size * (random() + value + tilt));
      });
    });
    optimizer.step(gradients);
  }
  await monitor.close();
}
