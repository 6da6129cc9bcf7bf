import cliProgress from "cli-progress";
import { MTAdam, tuneWeights, type Resume } from "mtadam";
import { normals, randomFor } from "../common/random.mjs";
import { textTable } from "../common/table.mjs";

// A curve through noisy points. Two losses: its distance from the points, and its curvature, in some unit. Balancing
// makes the norms of their gradients equal; only new points can show which loss should weigh more.
const POINTS = 40;
const BUMPS = 30;
const STEPS = 900;

const random = randomFor(1, 1, "curve");
const xs = Float64Array.from({ length: POINTS }, random);
const truth = (x: number) => Math.sin(7 * x) + x;
const ys = normals(POINTS, random).map((noise, k) => truth(xs[k]!) + 0.1 * noise);

/** The curve is a sum of bumps, each times a coefficient. */
const bumps = (x: number) => Array.from({ length: BUMPS }, (_, k) => Math.exp(-((BUMPS * x - k) ** 2) / 4));
const curve = (coefficients: Float32Array, x: number) =>
  bumps(x).reduce((sum, bump, k) => sum + bump * coefficients[k]!, 0);

/** A training that can be continued. */
class Run {
  readonly coefficients = new Float32Array(BUMPS);
  readonly #optimizer: MTAdam;
  readonly #points = new Float32Array(BUMPS);
  readonly #bend = new Float32Array(BUMPS);

  constructor(weights: Record<"points" | "bend", number>) {
    const terms = ["points", "bend"];
    // The learning rate falls over a full training, even if this one stops earlier.
    const lr = (iterations: number) => 0.05 * Math.max(0.01, 1 - iterations / STEPS);
    this.#optimizer = new MTAdam([this.coefficients], { terms, weights, lr, betas: [0.9, 0.999, 0.99] });
  }

  trainUntil(steps: number): void {
    while (this.#optimizer.iterations < steps) {
      this.#points.fill(0);
      this.#bend.fill(0);
      for (const [k, x] of xs.entries()) {
        const difference = curve(this.coefficients, x) - ys[k]!;
        for (const [j, bump] of bumps(x).entries()) this.#points[j]! += (2 * difference * bump) / POINTS;
      }
      for (let k = 1; k < BUMPS - 1; ++k) {
        const [left, middle, right] = this.coefficients.subarray(k - 1, k + 2) as unknown as [
          number,
          number,
          number,
        ];
        const bend = 1000 * (left - 2 * middle + right);
        this.#bend[k - 1]! += bend;
        this.#bend[k]! -= 2 * bend;
        this.#bend[k + 1]! += bend;
      }
      this.#optimizer.step({ points: [this.#points], bend: [this.#bend] });
    }
  }

  /** The error on points that no training has seen. */
  error(): number {
    const unseen = Array.from({ length: 200 }, (_, k) => (k + 0.5) / 200);
    return unseen.reduce((sum, x) => sum + (curve(this.coefficients, x) - truth(x)) ** 2, 0) / 200;
  }
}

const bar = new cliProgress.SingleBar({ format: "{bar} {value}/{total} steps", hideCursor: true });
const isTerminal = process.stdout.isTTY;
if (isTerminal) bar.start(1, 0);

const { weights, table } = await tuneWeights(
  (weights, steps, { resume }: { resume: Resume<Run> }) => {
    const run = (resume.state ??= new Run(weights));
    run.trainUntil(steps);
    return run.error();
  },
  {
    terms: ["points", "bend"],
    values: [0.01, 0.1, 1, 10],
    steps: STEPS,
    budget: 5 * STEPS,
    onProgress: ({ steps, total }) => {
      if (!isTerminal) return;
      bar.setTotal(total);
      bar.update(steps);
    },
  },
);
bar.stop();

console.log(
  textTable([
    ["points : bend", "steps", "error"],
    ...table.map(({ weights, steps, loss }) => [
      `${weights.points} : ${weights.bend}`,
      String(steps),
      loss.toPrecision(3),
    ]),
  ]),
);
console.log(`\nThe points count ${weights.points}, the bend ${weights.bend}.`);
