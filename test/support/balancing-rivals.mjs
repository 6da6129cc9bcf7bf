// Runs the rival methods of bench/common on gradients of a few values, for comparison with the formulas of their
// papers.

const load = (name) => import(`../../build/bench/common/${name}.mjs`);

/** Three parameters: several terms reach the first two; the third is a head that one term reaches. */
const arrays = (...values) => values.map((of) => of && Float32Array.from(of));

/** Makes a method for `terms` terms, calls it once and returns the sum. */
async function method(start, gradients, random = () => 0.5) {
  const { sharedParameters } = await load("gradient");
  const shared = sharedParameters(gradients);
  const combiner = start({ terms: gradients.length, shared, random });
  const sum = gradients[0].map((_, k) => {
    const { length } = gradients.find((ofTerm) => ofTerm[k])[k];
    return new Float32Array(length);
  });
  const losses = (given) => given ?? gradients.map(() => 1);
  return {
    combiner,
    step: (given, lr = 0.1) => {
      combiner.combine({ gradients, losses: losses(given), lr }, sum);
      return sum.map((values) => [...values]);
    },
  };
}

const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);
const norm = (a) => Math.sqrt(dot(a, a));

export async function rivals() {
  const { annealing } = await load("rivals/annealing");
  const { caGrad } = await load("rivals/cagrad");
  const { famo } = await load("rivals/famo");
  const { firstNorms } = await load("rivals/first-norms");
  const { gradNorm } = await load("rivals/gradnorm");
  const { mgda } = await load("rivals/mgda");
  const { pcGrad } = await load("rivals/pcgrad");
  const { uncertainty } = await load("rivals/uncertainty");
  const { leastOnSimplex } = await load("rivals/simplex");
  const { Trainer } = await load("trainer");
  const { randomFor } = await import("../../build/examples/common/random.mjs");
  const random = randomFor(1, 1, "rivals");

  const conflict = [arrays([1, 0], [5], null), arrays([-1, 1], null, [7])];
  const three = [arrays([1, 2, -1]), arrays([3, -1, 0.5]), arrays([-0.5, 1, 4])];
  const rows = three.map(([values]) => [...values]);

  // The mixture in the hull: every product with a gradient is at least its own square.
  const shortest = (await method(mgda, three)).step()[0];
  const pair = (await method(mgda, conflict)).step();

  // No direction in the ball is better for the worst term.
  const c = 0.4;
  const found = (await method(caGrad(c), three)).step()[0];
  const mean = rows[0].map((_, k) => rows.reduce((sum, row) => sum + row[k], 0) / 3);
  const worst = (d) => Math.min(...rows.map((row) => dot(row, d)));
  const radius = c * norm(mean);
  const others = Array.from({ length: 50_000 }, () => {
    const way = mean.map(() => 2 * random() - 1);
    const length = radius / norm(way);
    return worst(mean.map((value, k) => value + length * way[k]));
  });

  const weigh = await method(gradNorm(1), [arrays([3, 4]), arrays([0, 1])]);
  const gradNormSums = [weigh.step([2, 4]), weigh.step([1, 4])];

  const adaptive = await method(famo, [arrays([1, 0]), arrays([0, 1])]);
  const famoSums = [adaptive.step([2, 8])];
  adaptive.combiner.look([1, 8]);
  famoSums.push(adaptive.step([1, 8]));

  const uncertain = await method(uncertainty, [arrays([1, 0]), arrays([0, 1])]);
  let uncertainSum;
  for (let step = 0; step < 4000; ++step) uncertainSum = uncertain.step([2, 8], 0.01);

  const annealed = await method(annealing, [arrays([1, -8], [2]), arrays([1, 1], [-2])]);
  const annealedSums = [annealed.step(), annealed.step()];

  const firstGradients = [arrays([3, 4], [5], null), arrays([0.3, 0.4], null, [7])];
  const first = await method(firstNorms, firstGradients);
  const firstSums = [first.step()];
  firstGradients[1][0].set([30, 40]);
  firstSums.push(first.step());

  /** Three steps of Adam per term, by its formula, added up. */
  const ownDenominators = ["sum", "mean"].map((of) => {
    const parameter = Float32Array.of(1, -1);
    const gradients = [[Float32Array.of(1, 2)], [Float32Array.of(100, -3)]];
    const arm = { key: "", name: "", rival: { kind: "own denominators", of, betas: [0.8, 0.9] } };
    const trainer = new Trainer(arm, [parameter], gradients, { lr: 0.1, weights: [] });
    const expected = [1, -1];
    const moments = gradients.map(() => [0, 0].map(() => ({ m: 0, v: 0 })));
    for (let step = 1; step <= 3; ++step) {
      for (const [term, [values]] of gradients.entries()) {
        values[0] *= step;
        for (const [k, moment] of moments[term].entries()) {
          moment.m = 0.8 * moment.m + 0.2 * values[k];
          moment.v = 0.9 * moment.v + 0.1 * values[k] ** 2;
          const ratio = moment.m / (1 - 0.8 ** step) / Math.sqrt(moment.v / (1 - 0.9 ** step));
          expected[k] -= (0.1 * ratio) / (of === "mean" ? 2 : 1);
        }
      }
      trainer.step();
    }
    trainer.dispose();
    return Math.max(...expected.map((value, k) => Math.abs(value - parameter[k])));
  });

  return {
    shares: leastOnSimplex(4, (x) => (x[0] - 0.6) ** 2 + (x[1] - 0.3) ** 2 + (x[2] - 0.1) ** 2 + 2 * x[3]),
    mgda: { pair, excess: Math.min(...rows.map((row) => dot(row, shortest))) - dot(shortest, shortest) },
    cagrad: {
      distance: norm(found.map((value, k) => value - mean[k])) / radius,
      worst: worst(found),
      best: Math.max(...others),
      heads: (await method(caGrad(c), conflict)).step().slice(1),
    },
    pcgrad: (await method(pcGrad, conflict)).step(),
    gradNorm: gradNormSums.map(([values]) => values),
    famo: famoSums.map(([values]) => values),
    uncertainty: uncertainSum[0],
    annealing: annealedSums,
    firstNorms: firstSums,
    ownDenominators,
  };
}
