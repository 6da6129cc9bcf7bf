/**
 * Tests the oracle, which all other tests rely on, against the outputs of the reference, against Adam and against steps
 * computed by hand. Also tests that the golden cases notice an ignored option.
 */

import {
  assertWithinTolerance,
  difference,
  formsOf,
  goldenCases,
  maxAbs,
  oracleOfCase,
  readGolden,
  termsComeAndGo,
  type GoldenCase,
  type GoldenChanges,
} from "../support/golden";
import { Oracle, type OracleOptions } from "../support/oracle";

// Both sides are float64 and differ in the order of sums and in how β₂ᵗ is formed, by a few units in the last
// place. Seen: θ, which is of the order of 1, 1.1e-16 absolute; n 1.5e-15 relative (a sum of 4,099 squares);
// m and v 1.5e-15 of the largest in their tensor; θ after 1000 steps of Adam 5.6e-16.
const parameterBound = 1e-15;
const adamBound = 1e-14;
const relativeBound = 1e-14;

/** Runs a case and calls `afterStep` with the oracle after every step. */
function run(
  golden: GoldenCase,
  changes: GoldenChanges,
  afterStep: (oracle: Oracle, step: number) => void,
): Oracle {
  const oracle = oracleOfCase(golden, changes);
  for (const [step, gradients] of golden.gradients.entries()) {
    oracle.step(gradients, { gradientScale: changes.gradientScale ?? golden.gradientScale });
    afterStep(oracle, step);
  }
  return oracle;
}

/** Runs a case and checks the tolerance that every implementation gets. */
function assertGolden(golden: GoldenCase, changes: GoldenChanges): void {
  run(golden, changes, (oracle, step) => {
    if (golden.expected.has(step)) assertWithinTolerance(golden, step, oracle.parameters);
  });
}

/** The oracle's norms in the form of the cases: a column per tensor, 0 where a pair never occurred. */
function normsPerTensor(oracle: Oracle): number[][] {
  return oracle.norms().map((ofTerm) =>
    oracle.tensors.map(({ layer }) => {
      const norm = ofTerm[layer] ?? NaN;
      return Number.isNaN(norm) ? 0 : norm;
    }),
  );
}

/** The largest difference of any element, in units of the largest expected value. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  return maxAbs(difference([actual], [expected])) / (maxAbs(Array.from(expected)) || 1);
}

function largestRelativeError(
  actual: readonly (readonly ArrayLike<number>[])[],
  expected: readonly (readonly ArrayLike<number>[])[],
): number {
  const pairs = expected.flatMap((row, term) =>
    row.map((values, tensor) => [actual[term]?.[tensor] ?? [], values]),
  );
  return Math.max(...pairs.map(([values = [], wanted = []]) => relativeError(values, wanted)));
}

const every = goldenCases();
const ofReference = every.filter((name) => readGolden(name).final !== undefined);
const comingAndGoing = every.filter((name) => termsComeAndGo(readGolden(name)));
const inBothForms = every.filter((name) => formsOf(readGolden(name)).length === 2);
const onePair = every.filter((name) => readGolden(name).options.secondMoment === "summed");

describe("the golden cases", () => {
  test("are all read, and most hold for both forms of the first moment", () => {
    expect(every).toHaveLength(37);
    expect(ofReference).toHaveLength(11);
    expect(comingAndGoing).toEqual([
      "above-1e18",
      "absent-now-and-then",
      "network-joins",
      "non-finite-skip-term",
      "one-pair-decay",
      "summed-absent",
    ]);
    expect(onePair).toEqual(["one-pair", "one-pair-decay"]);
  });

  test.each(every)("%s: the oracle agrees to the last places of float64", (name) => {
    const golden = readGolden(name);
    const compared: number[] = [];
    run(golden, {}, (oracle, step) => {
      const expected = golden.expected.get(step);
      if (expected === undefined) return;
      compared.push(step);
      assertWithinTolerance(golden, step, oracle.parameters);
      expect(maxAbs(difference(oracle.parameters, expected.parameters))).toBeLessThanOrEqual(parameterBound);
      const norms = normsPerTensor(oracle).map((ofTerm) => ofTerm.map((norm) => [norm]));
      const expectedNorms = expected.norms.map((ofTerm) => ofTerm.map((norm) => [norm]));
      expect(largestRelativeError(norms, expectedNorms)).toBeLessThanOrEqual(relativeBound);
    });
    expect(compared).toEqual(golden.keptSteps);
  });

  test.each(ofReference)("%s: the moments after the last step agree", (name) => {
    const golden = readGolden(name);
    const { tensors } = run(golden, {}, () => undefined);
    const moments = (moment: "m" | "v" | "x"): Float64Array[][] =>
      golden.weights.map((_, term) => tensors.flatMap(({ terms }) => terms[term]?.[moment] ?? []));

    const { m = [], v = [], vmax } = golden.final ?? {};
    expect(m).toHaveLength(golden.options.terms);
    expect(largestRelativeError(moments("m"), m)).toBeLessThanOrEqual(relativeBound);
    expect(largestRelativeError(moments("v"), v)).toBeLessThanOrEqual(relativeBound);
    if (golden.options.amsgrad) expect(vmax).toBeDefined();
    if (vmax !== undefined)
      expect(largestRelativeError(moments("x"), vmax)).toBeLessThanOrEqual(relativeBound);
  });

  test.each(inBothForms)("%s: the other form of the first moment gives the same", (name) => {
    const golden = readGolden(name);
    const [, options = {}] = formsOf(golden);
    run(golden, { options }, (oracle, step) => {
      const expected = golden.expected.get(step);
      if (expected === undefined) return;
      expect(maxAbs(difference(oracle.parameters, expected.parameters))).toBeLessThanOrEqual(parameterBound);
    });
  });

  test.each(comingAndGoing.filter((name) => !onePair.includes(name)))(
    "%s: the other form of the first moment is another rule",
    (name) => {
      const golden = readGolden(name);
      const firstMoment = golden.options.firstMoment === "summed" ? "perTerm" : "summed";
      expect(() => assertGolden(golden, { options: { firstMoment } })).toThrow(/largest absolute error/);
    },
  );

  test.each(onePair)("%s: a second moment per term is another rule", (name) => {
    const golden = readGolden(name);
    expect(() => assertGolden(golden, { options: { secondMoment: "perTerm" } })).toThrow(
      /largest absolute error/,
    );
  });

  test.each(every.filter((name) => readGolden(name).options.anchor === "first"))(
    "%s: terms streamed in order give the same as all at once",
    (name) => {
      const golden = readGolden(name);
      const streamed = oracleOfCase(golden);
      const whole = run(golden, {}, () => undefined);
      for (const gradients of golden.gradients) {
        for (const [term, ofTerm] of gradients.entries()) {
          streamed.accumulate(term, ofTerm, { gradientScale: golden.gradientScale });
        }
        streamed.update();
      }
      expect(streamed.parameters).toEqual(whole.parameters);
      expect(streamed.norms()).toEqual(whole.norms());
      expect(streamed.skipped).toEqual(whole.skipped);
      expect(streamed.iterations).toBe(golden.steps);
    },
  );
});

describe("a case notices an option that is ignored:", () => {
  test.each<[option: string, name: string, changes: GoldenChanges]>([
    ["lr", "two-terms", { options: { lr: 1.01e-3 } }],
    ["β₁", "betas-and-eps", { options: { betas: [0.9, 0.95, 0.5] } }],
    ["β₂", "betas-and-eps", { options: { betas: [0.8, 0.999, 0.5] } }],
    ["β₃", "betas-and-eps", { options: { betas: [0.8, 0.95, 0.9] } }],
    // Where gradients are of the order of 1, as in betas-and-eps, no tolerance can tell 1e-8 from 1e-6.
    ["eps", "gradient-scale", { options: { eps: 1e-8 } }],
    ["weightDecay", "weight-decay", { options: { weightDecay: 0 } }],
    ["coupled decay", "weight-decay", { options: { decoupledWeightDecay: true } }],
    ["decoupledWeightDecay", "decoupled-decay", { options: { decoupledWeightDecay: false } }],
    ["amsgrad", "amsgrad", { options: { amsgrad: false } }],
    ["maximize", "maximize", { options: { maximize: false } }],
    ["weights", "weights", { options: { weights: [1, 1, 1] } }],
    ["a weight of 0", "zero-weight", { options: { weights: [1, 1] } }],
    ["anchor: max", "anchor-max", { options: { anchor: "first" } }],
    ["anchor: mean", "anchor-mean", { options: { anchor: "first" } }],
    ["a named anchor", "named-anchor", { options: { anchor: "first" } }],
    ["balance", "balance-half", { options: { balance: 1 } }],
    ["initialNorm", "initial-norm-one", { options: { initialNorm: "first" } }],
    ["initialNorm: first", "two-terms", { options: { initialNorm: 1 } }],
    ["stepScale", "step-scale-mean", { options: { stepScale: "sum" } }],
    ["scales: lagged", "lagged", { options: { scales: "current" } }],
    ["scales: lagged, with one unit", "lagged-network", { options: { scales: "current" } }],
    ["unit", "network-unit", { options: { unit: "tensor" } }],
    ["unit, with heads", "network-heads", { options: { unit: "tensor" } }],
    ["layer tags beside one unit", "network-joins", { tags: undefined }],
    ["the preset's anchor", "network-recommended", { options: { anchor: "first" } }],
    ["the preset's β₃", "network-recommended", { options: { betas: [0.9, 0.999, 0.9] } }],
    ["silence: rest", "silence-rest", { options: { silence: "decay" } }],
    ["nonFinite: propagate", "non-finite-skip-term", { options: { nonFinite: "propagate" } }],
    ["nonFinite: skipStep", "non-finite-skip-term", { options: { nonFinite: "skipStep" } }],
    ["gradientScale", "gradient-scale", { gradientScale: 1 }],
    ["layer tags", "layer-tags", { tags: undefined }],
    ["groups", "groups", { groups: undefined }],
    [
      "a group's lr",
      "groups",
      { groups: [{}, { weightDecay: 0.1 }, { betas: [0.8, 0.95, 0.5], eps: 1e-6 }] },
    ],
    ["a group's decay", "groups", { groups: [{}, { lr: 5e-3 }, { betas: [0.8, 0.95, 0.5], eps: 1e-6 }] }],
    ["a group's betas", "groups", { groups: [{}, { lr: 5e-3, weightDecay: 0.1 }, { eps: 1e-6 }] }],
  ])("%s", (_, name, changes) => {
    const golden = readGolden(name);
    expect(() => assertGolden(golden, {})).not.toThrow();
    expect(() => assertGolden(golden, changes)).toThrow(/, after step \d+: .*, allowed/);
  });

  test("absent is not zero", () => {
    const golden = readGolden("absent-now-and-then");
    const zeros = golden.init.map(({ length }) => new Float32Array(length));
    const filled = golden.gradients.map((terms) => {
      return terms.map((ofTerm) => ofTerm.map((gradient, tensor) => gradient ?? zeros[tensor] ?? null));
    });
    expect(() => assertGolden({ ...golden, gradients: filled }, {})).toThrow(/largest absolute error/);
  });

  test("the order of terms, which decides on the anchor", () => {
    const golden = readGolden("unbalanced-ten-terms");
    const reversed = golden.gradients.map((terms) => [...terms].reverse());
    expect(() => assertGolden({ ...golden, gradients: reversed }, {})).toThrow(/largest absolute error/);
  });
});

describe("the tolerance", () => {
  const outputs = (golden: GoldenCase, step: number, change: (value: number) => number): Float64Array[] =>
    golden.expected.get(step)?.parameters.map((values) => values.map(change)) ?? [];

  test.each(ofReference)("%s: the float32 reference meets it", (name) => {
    const golden = readGolden(name);
    for (const [step, { referenceF32 = [] }] of golden.expected)
      assertWithinTolerance(golden, step, referenceF32);
  });

  test("of a case from the oracle is 2e-7", () => {
    const golden = readGolden("anchor-max");
    expect(() =>
      assertWithinTolerance(
        golden,
        8,
        outputs(golden, 8, (value) => value + 1.9e-7),
      ),
    ).not.toThrow();
    expect(() =>
      assertWithinTolerance(
        golden,
        8,
        outputs(golden, 8, (value) => value - 3e-7),
      ),
    ).toThrow("anchor-max, after step 8: largest absolute error 3.000e-7, allowed 2.000e-7");
  });

  test("of a case of the reference is twice its largest error and 1.25 times its norm", () => {
    const golden = readGolden("two-terms");
    expect(() =>
      assertWithinTolerance(
        golden,
        19,
        outputs(golden, 19, (value) => value + 1.1e-7),
      ),
    ).toThrow(/^two-terms, after step 19: largest absolute error 1\.100e-7, allowed 1\.000e-7$/);
    expect(() =>
      assertWithinTolerance(
        golden,
        19,
        outputs(golden, 19, (value) => value + 9e-8),
      ),
    ).toThrow(/^two-terms, after step 19: ‖error‖₂ 4\.\d{3}e-7, allowed \d\.\d{3}e-8$/);
  });

  test("is not met by NaN, by other lengths or for a step that was not kept", () => {
    const golden = readGolden("two-terms");
    expect(() =>
      assertWithinTolerance(
        golden,
        19,
        outputs(golden, 19, () => NaN),
      ),
    ).toThrow(/error NaN/);
    expect(() => assertWithinTolerance(golden, 19, [])).toThrow("lengths differ: 15,5 expected");
    expect(() =>
      assertWithinTolerance(
        golden,
        3,
        outputs(golden, 19, (value) => value),
      ),
    ).toThrow("step 3 of two-terms");
  });
});

describe("one term", () => {
  const steps = 1000;
  const size = 17;
  const init = Float64Array.from({ length: size }, (_, k) => Math.cos(k));
  // Gradients with a drift, neither random nor regular, over six orders of magnitude.
  const gradients = Array.from({ length: steps }, (_, step) =>
    Float64Array.from(
      { length: size },
      (_element, k) => (0.3 + Math.sin(1.7 * step * step + k)) * 10 ** ((k % 7) - 3),
    ),
  );

  /** Adam (Kingma and Ba, algorithm 1). */
  function adam(lr: number, beta1: number, beta2: number, eps: number): Float64Array {
    const theta = init.slice();
    for (const [k, start] of init.entries()) {
      let [value, m, v] = [start, 0, 0];
      for (const [step, gradient] of gradients.entries()) {
        const g = gradient[k] ?? NaN;
        m = beta1 * m + (1 - beta1) * g;
        v = beta2 * v + (1 - beta2) * g * g;
        value -= (lr * (m / (1 - beta1 ** (step + 1)))) / (Math.sqrt(v / (1 - beta2 ** (step + 1))) + eps);
      }
      theta[k] = value;
    }
    return theta;
  }

  test.each<Partial<OracleOptions>>([
    {},
    { firstMoment: "summed" },
    { weights: [1], stepScale: "mean" },
    { weights: [3], balance: 0, eps: 3e-8 },
    { anchor: "max" },
    { anchor: "mean" },
    { anchor: 0, initialNorm: 1 },
    { betas: [0, 0.5, 1] },
  ])("equals Adam over 1000 steps: %j", (options) => {
    const oracle = new Oracle([{ init }], { terms: 1, ...options });
    for (const gradient of gradients) oracle.step([[gradient]]);
    // A weight scales the gradients, which has the same effect as dividing eps by it.
    const [weight] = oracle.options.weights;
    const [beta1, beta2] = oracle.options.betas;
    const expected = adam(oracle.options.lr, beta1, beta2, oracle.options.eps / (weight ?? NaN));
    expect(maxAbs(difference(oracle.parameters, [expected]))).toBeLessThan(adamBound);
    expect(maxAbs(difference([expected], [init]))).toBeGreaterThan(0.1);
  });
});

describe("a step by hand:", () => {
  const lr = 0.5;
  const eps = 1e-12;
  const plain = { terms: 2, lr, eps };
  const [beta1, beta2] = [0.9, 0.999];

  function expectParameters(oracle: Oracle, ...expected: number[][]): void {
    expect(maxAbs(difference(oracle.parameters, expected))).toBeLessThan(1e-9);
  }

  test("the first term is the anchor, the denominator the largest", () => {
    const oracle = new Oracle([{ init: [1, 1] }], plain);
    oracle.step([[[3, 4]], [[0, 10]]]);
    expect(oracle.norms()).toEqual([[5], [10]]);
    expect(oracle.scales()).toEqual([[1], [0.5]]);
    // The second term becomes (0, 5), so the sum is (3, 9) over the maximum of (3, 4) and (0, 5).
    expectParameters(oracle, [1 - lr * (3 / 3), 1 - lr * (9 / 5)]);
  });

  test("a term below the floor is neither scaled, weighted nor the anchor", () => {
    const oracle = new Oracle([{ init: [0] }], { ...plain, weights: [7, 2] });
    oracle.step([[[1e-11]], [[3]]]);
    expect(oracle.scales()).toEqual([[1], [2]]);
  });

  test("a named anchor below the floor falls back to the first term", () => {
    const oracle = new Oracle([{ init: [0] }], { terms: 3, anchor: 2 });
    oracle.step([[[2]], [[8]], [[0]]]);
    expect(oracle.scales()).toEqual([[1], [0.25], [1]]);
    oracle.step([[[2]], [[8]], [[40]]]);
    expect(oracle.scales()[1]?.[0]).toBeCloseTo(4 / 8, 12);
  });

  test("a named anchor that never occurred falls back to the first term; an absent one stays the anchor", () => {
    const oracle = new Oracle([{ init: [0] }], { ...plain, anchor: 1, initialNorm: 1 });
    oracle.step([[[2]], [null]]);
    expect(oracle.scales()).toEqual([[1], [NaN]]);
    oracle.step([[null], [[11]]]);
    oracle.step([[[2]], [null]]);
    const n0 = 0.9 * (0.9 + 0.2) + 0.2;
    expect(oracle.norms()[0]?.[0]).toBeCloseTo(n0, 12);
    expect(oracle.scales()[0]?.[0]).toBeCloseTo((0.9 + 1.1) / n0, 12);
  });

  test("without any norm above the floor all scales are 1, except that a weight of 0 is 0", () => {
    const oracle = new Oracle([{ init: [0] }], { ...plain, weights: [5, 0] });
    oracle.step([[[0]], [[0]]]);
    expect(oracle.scales()).toEqual([[1], [0]]);
  });

  test("with a weight of 0, norms, clock and coupled decay continue", () => {
    const oracle = new Oracle([{ init: [2] }], { ...plain, weights: [1, 0], weightDecay: 0.1 });
    oracle.step([[null], [[6]]]);
    expect(oracle.norms()).toEqual([[NaN], [6]]);
    expect(oracle.tensors[0]?.terms.map(({ clock }) => clock.steps)).toEqual([0, 1]);
    expect(oracle.tensors[0]?.terms[1]?.m[0]).toBeCloseTo(0.1 * (0.1 * 2), 12);
    expectParameters(oracle, [2 - lr]);
  });

  test("tensors of a layer share one norm, taken over those where the term is present", () => {
    const tensors = [
      { init: [1], layer: "trunk" },
      { init: [1], layer: "trunk", options: { maximize: true } },
      { init: [1] },
    ];
    const oracle = new Oracle(tensors, plain);
    oracle.step([
      [[3], [4], [1]],
      [[10], null, null],
    ]);
    expect(oracle.norms()).toEqual([
      [5, 1],
      [10, NaN],
    ]);
    expectParameters(oracle, [1 - lr * (8 / 5)], [1 + lr], [1 - lr]);
  });

  test("a β₃ that differs inside a layer is an error, at first and later", () => {
    const other = { betas: [0.9, 0.999, 0.5] as const };
    const two = [
      { init: [1], layer: 0 },
      { init: [1], layer: 0, options: other },
    ];
    expect(() => new Oracle(two, plain)).toThrow("β₃ differs inside layer 0");
    const oracle = new Oracle(
      [
        { init: [1], layer: 0 },
        { init: [1], layer: 0 },
      ],
      plain,
    );
    Object.assign(oracle.tensors[1]?.options ?? {}, other);
    expect(() =>
      oracle.step([
        [[1], [1]],
        [null, null],
      ]),
    ).toThrow("β₃ differs inside layer 0");
  });

  test("every tensor has its own eps", () => {
    const oracle = new Oracle([{ init: [0] }, { init: [0], options: { eps: 3 } }], { terms: 1, lr, eps: 1 });
    oracle.step([[[1], [1]]]);
    expectParameters(oracle, [-lr / 2], [-lr / 4]);
  });

  test("a tensor in which no term is present does not move, decay included", () => {
    const tensors = [{ init: [1] }, { init: [1] }];
    const oracle = new Oracle(tensors, { ...plain, weightDecay: 0.1, decoupledWeightDecay: true });
    oracle.step([
      [[1], null],
      [null, null],
    ]);
    expectParameters(oracle, [1 - lr * 0.1 - lr], [1]);
    expect(oracle.iterations).toBe(1);
  });

  test("stepScale: mean counts the terms present, leaves decay alone and knows weights of 0", () => {
    const tensors = [{ init: [1] }, { init: [1] }];
    const options = { ...plain, stepScale: "mean", weightDecay: 0.1, decoupledWeightDecay: true } as const;
    const oracle = new Oracle(tensors, { ...options, weights: [2, 4] });
    oracle.step([
      [[1], [1]],
      [[1], null],
    ]);
    expectParameters(oracle, [1 - lr * 0.1 - (lr * (6 / 4)) / (6 / 4)], [1 - lr * 0.1 - lr]);
    const idle = new Oracle(tensors, options);
    idle.step(
      [
        [[1], null],
        [null, null],
      ],
      { weights: [0, 0] },
    );
    expectParameters(idle, [1 - lr * 0.1], [1]);
  });

  test("weights and gradientScale of a call hold for that call", () => {
    const oracle = new Oracle([{ init: [0] }], plain);
    oracle.step([[[2]], [[4]]], { weights: [1, 3], gradientScale: 2 });
    expect(oracle.norms()).toEqual([[1], [2]]);
    expect(oracle.tensors[0]?.terms[1]?.m[0]).toBeCloseTo(0.1 * 3, 12);
    oracle.step([[[1]], [[2]]]);
    expect(oracle.norms()[1]?.[0]).toBeCloseTo(2, 12);
    expect(oracle.tensors[0]?.terms[1]?.m[0]).toBeCloseTo(0.9 * 0.1 * 3 + 0.1, 12);
  });

  test("a term has a clock of its own in every tensor", () => {
    const oracle = new Oracle([{ init: [0] }], plain);
    oracle.step([[[1]], [null]]);
    oracle.step([[null], [[1]]]);
    // On a clock shared with the first term it would have moved by lr·(0.1/0.19)/√(0.001/0.001999).
    expectParameters(oracle, [-2 * lr]);
  });

  test("betas and lr may change between steps", () => {
    const oracle = new Oracle([{ init: [0] }], { terms: 1, lr, eps });
    oracle.step([[[1]]]);
    Object.assign(oracle.tensors[0]?.options ?? {}, { lr: 2 * lr, betas: [0.5, 0.5, 0.9] });
    oracle.step([[[3]]]);
    const mHat = (0.5 * 0.1 + 0.5 * 3) / (1 - beta1 * 0.5);
    const vHat = (0.5 * 0.001 + 0.5 * 9) / (1 - beta2 * 0.5);
    expectParameters(oracle, [-lr - (2 * lr * mHat) / Math.sqrt(vHat)]);
  });

  test("summed: momentum of an absent term fades, and its second moment still counts", () => {
    const oracle = new Oracle([{ init: [0] }], { ...plain, firstMoment: "summed", balance: 0 });
    oracle.step([[null], [[10]]]);
    oracle.step([[[1]], [null]]);
    const M = beta1 * 0.1 * 10 + 0.1 * 1;
    expect(oracle.tensors[0]?.summed.M[0]).toBeCloseTo(M, 12);
    expectParameters(oracle, [-lr - ((lr / (1 - beta1 ** 2)) * M) / 10]);
  });

  test("summed amsgrad: one x for all terms, corrected with the clock T", () => {
    const oracle = new Oracle([{ init: [0] }], {
      ...plain,
      firstMoment: "summed",
      amsgrad: true,
      balance: 0,
    });
    oracle.step([[null], [[10]]]);
    oracle.step([[[1]], [null]]);
    const M = beta1 * 0.1 * 10 + 0.1 * 1;
    const x = (1 - beta2) * 10 ** 2;
    expect(oracle.tensors[0]?.summed.x[0]).toBeCloseTo(x, 12);
    const denominator = Math.sqrt(x) / Math.sqrt(1 - beta2 ** 2);
    expectParameters(oracle, [-lr - ((lr / (1 - beta1 ** 2)) * M) / denominator]);
  });
});

describe("lagged scales by hand:", () => {
  const options = { lr: 0.5, eps: 1e-12, betas: [0.9, 0.999, 0.99], scales: "lagged" } as const;
  const firstMoments = (oracle: Oracle, term: number): readonly number[] => [
    ...oracle.tensors.flatMap(({ terms }) => [...terms[term]!.m]),
  ];

  test("a scale comes from the norms before the step, and from this step's where there were none", () => {
    const oracle = new Oracle([{ init: [0] }], { terms: 3, ...options });
    oracle.step([[[2]], [[8]], [null]]);
    expect(oracle.last.scales).toEqual([[1], [0.25], [NaN]]);
    oracle.step([[[2]], [[800]], [[0.5]]]);
    expect(oracle.last.scales).toEqual([[1], [0.25], [4]]);
    const n = 0.99 * 8 + 0.01 * 800;
    expect(oracle.norms()[1]?.[0]).toBeCloseTo(n, 12);
    oracle.step([[[2]], [[800]], [[0.5]]]);
    expect(oracle.last.scales[1]?.[0]).toBeCloseTo(2 / n, 12);
    expect(firstMoments(oracle, 1)[0]).toBeCloseTo(
      0.81 * 0.1 * 2 + 0.9 * 0.1 * 200 + (0.1 * 800 * 2) / n,
      12,
    );
  });

  test("terms that come one at a time see the norms before the step, whatever came earlier in it", () => {
    const oracle = new Oracle([{ init: [0] }], { terms: 2, ...options });
    oracle.step([[[2]], [[8]]]);
    oracle.accumulate(0, [[200]]);
    oracle.accumulate(1, [[8]]);
    oracle.update();
    expect(oracle.last.scales).toEqual([[1], [0.25]]);
    oracle.accumulate(0, [[200]]);
    oracle.discard();
    oracle.accumulate(1, [[8]]);
    // The norms that a discarded step has changed are those before the next step.
    expect(oracle.last.scales[1]?.[0]).toBeCloseTo(oracle.norms()[0]![0]! / 8, 12);
  });

  test("a network's unit uses the squares before the step, of the tensors that are in it now", () => {
    const oracle = new Oracle([{ init: [0] }, { init: [0] }, { init: [0] }], {
      terms: 2,
      ...options,
      unit: "network",
    });
    oracle.step([
      [[3], [5], null],
      [[6], null, [7]],
    ]);
    // In the first step all tensors are one unit.
    expect(oracle.last.scales[1]?.[0]).toBeCloseTo(Math.hypot(3, 5) / Math.hypot(6, 7), 12);
    oracle.step([
      [[3], [5], null],
      [[6], [1], [7]],
    ]);
    // Then the first tensor is alone in the unit, and the second term is new in the second tensor.
    expect(oracle.last.scales[1]).toEqual([0.5, 5, 1]);
    oracle.step([
      [[300], [5], null],
      [[6], [100], [7]],
    ]);
    expect(oracle.last.scales[1]?.[0]).toBeCloseTo(Math.hypot(3, 5) / Math.hypot(6, 1), 12);
  });

  test("skipElement: the element's moments and the norm stay, and the parameter moves by the moments", () => {
    const oracle = new Oracle([{ init: [0, 0] }], { terms: 1, ...options });
    oracle.step([[[3, 4]]]);
    oracle.step([[[NaN, 4]]]);
    expect(oracle.norms()).toEqual([[5]]);
    expect(oracle.skipped).toEqual([[1]]);
    expect(firstMoments(oracle, 0)[0]).toBeCloseTo(0.3, 12);
    expect(firstMoments(oracle, 0)[1]).toBeCloseTo(0.4 * 0.9 + 0.4, 12);
    const resting = 0.3 / (1 - 0.81) / Math.sqrt((0.001 * 9) / (1 - 0.999 ** 2));
    expect(oracle.parameters[0]?.[0]).toBeCloseTo(-0.5 - 0.5 * resting, 9);
    expect(oracle.parameters[0]?.[1]).toBeCloseTo(-1, 9);
  });

  test("skipElement: an element rests where s·g is above 1e18, but its norm is averaged", () => {
    const oracle = new Oracle([{ init: [0, 0] }], { terms: 1, ...options });
    oracle.step([[[3, 4]]]);
    oracle.step([[[1.1e18, 0.9e18]]]);
    expect(oracle.skipped).toEqual([[0]]);
    expect(oracle.norms()[0]![0]! / (0.01 * Math.hypot(1.1e18, 0.9e18))).toBeCloseTo(1, 9);
    expect(firstMoments(oracle, 0)[0]).toBeCloseTo(0.3, 12);
    expect(firstMoments(oracle, 0)[1]! / 0.9e17).toBeCloseTo(1, 9);
  });

  test("skipElement: a first gradient that is not finite is absent in its layer", () => {
    const tensors = [{ init: [0], layer: "unit" }, { init: [0], layer: "unit" }, { init: [0] }];
    const oracle = new Oracle(tensors, { terms: 1, ...options });
    oracle.step([[[1], null, [1]]]);
    // New in the second tensor of the layer.
    oracle.step([[[1], [Infinity], [1]]]);
    expect(oracle.skipped).toEqual([[1, 0]]);
    expect(oracle.tensors.map(({ terms }) => terms[0]?.clock.steps)).toEqual([1, 0, 2]);
    oracle.step([[[1], [1], [1]]]);
    oracle.step([[[1], [Infinity], [1]]]);
    expect(oracle.skipped).toEqual([[2, 0]]);
    expect(oracle.tensors.map(({ terms }) => terms[0]?.clock.steps)).toEqual([3, 2, 4]);
  });

  test("skipElement: summed, the term adds nothing to M at that element", () => {
    const oracle = new Oracle([{ init: [0, 0] }], { terms: 2, ...options, firstMoment: "summed" });
    oracle.step([[[1, 1]], [[1, 1]]]);
    oracle.step([[[1, 1]], [[NaN, 1]]]);
    const M = oracle.tensors[0]!.summed.M;
    expect(M[0]).toBeCloseTo(0.9 * 0.2 + 0.1, 12);
    expect(M[1]).toBeCloseTo(0.9 * 0.2 + 0.2, 12);
  });
});

describe("non-finite gradients", () => {
  const golden = readGolden("non-finite-skip-term");
  const isFinite = (gradients: GoldenCase["gradients"][number]): boolean =>
    gradients.flat().every((gradient) => gradient === null || gradient.every(Number.isFinite));

  test("skipTerm counts what it skips", () => {
    const oracle = run(golden, {}, () => undefined);
    const expected = golden.gradients
      .flatMap((terms) => terms.flat())
      .filter((gradient) => !isFinite([[gradient]]));
    expect(expected.length).toBeGreaterThan(0);
    expect(oracle.skipped.flat().reduce((sum, count) => sum + count)).toBe(expected.length);
  });

  test("skipStep leaves everything as if the step had not been, but counts it", () => {
    const options = { nonFinite: "skipStep" } as const;
    const oracle = run(golden, { options }, () => undefined);
    const finite = golden.gradients.filter(isFinite);
    const without = run({ ...golden, gradients: finite }, { options }, () => undefined);
    expect(finite.length).toBeLessThan(golden.steps);
    expect(oracle.parameters).toEqual(without.parameters);
    expect(oracle.norms()).toEqual(without.norms());
    expect(oracle.tensors).toEqual(without.tensors);
    expect(oracle.iterations).toBe(golden.steps);
    expect(() => oracle.accumulate(0, [null, null, null])).toThrow("skipStep needs all terms at once");
  });

  test("skipTerm takes the term out of the whole layer", () => {
    const tensors = [{ init: [0], layer: "unit" }, { init: [0], layer: "unit" }, { init: [0] }];
    const oracle = new Oracle(tensors, { terms: 1, eps: 1e-12 });
    oracle.step([[[1], [Infinity], [1]]]);
    expect(oracle.norms()).toEqual([[NaN, 1]]);
    expect(oracle.skipped).toEqual([[1, 0]]);
    expect(maxAbs(difference(oracle.parameters, [[0], [0], [-1e-3]]))).toBeLessThan(1e-12);
  });

  test("propagate lets them through", () => {
    const oracle = new Oracle([{ init: [0, 0] }], { terms: 1, nonFinite: "propagate" });
    oracle.step([[[NaN, 1]]]);
    oracle.step([[[1, 1]]]);
    expect(oracle.norms()).toEqual([[NaN]]);
    expect(oracle.skipped).toEqual([[0]]);
    expect(oracle.parameters[0]?.[0]).toBeNaN();
  });
});

describe("terms one at a time", () => {
  test("use the norms known at that moment, all at once those of the whole step", () => {
    const tensors = [{ init: [1] }];
    const whole = new Oracle(tensors, { terms: 2, anchor: "max" });
    const streamed = new Oracle(tensors, { terms: 2, anchor: "max" });
    whole.step([[[1]], [[4]]]);
    streamed.accumulate(0, [[1]]);
    streamed.accumulate(1, [[4]]);
    streamed.update();
    const firstMoments = (oracle: Oracle): number[] =>
      oracle.tensors[0]?.terms.map(({ m }) => m[0] ?? NaN) ?? [];
    expect(maxAbs(difference([firstMoments(whole)], [[0.4, 0.4]]))).toBeLessThan(1e-12);
    expect(maxAbs(difference([firstMoments(streamed)], [[0.1, 0.4]]))).toBeLessThan(1e-12);
  });

  test("are refused twice per step and together with a whole step", () => {
    const oracle = new Oracle([{ init: [1] }], { terms: 2 });
    oracle.accumulate(1, [[1]]);
    expect(() => oracle.accumulate(1, [[1]])).toThrow("term 1 came twice in one step");
    expect(() => oracle.step([[[1]], [[1]]])).toThrow("a step is open");
    oracle.update();
    oracle.accumulate(1, [[1]]);
    oracle.update();
    oracle.update();
    expect(oracle.iterations).toBe(3);
  });

  test("keep the weight they came with for W", () => {
    const oracle = new Oracle([{ init: [0] }], { terms: 2, lr: 0.5, eps: 1e-12, stepScale: "mean" });
    oracle.accumulate(0, [[1]], { weights: [1, 1] });
    oracle.accumulate(1, [[1]], { weights: [1, 4] });
    oracle.update();
    // ĝ is 1 and 4, their sum over the larger 5/4, and W is 5/4 too.
    expect(maxAbs(difference(oracle.parameters, [[-0.5]]))).toBeLessThan(1e-9);
  });
});

describe("what does not fit", () => {
  test("is an error of the oracle rather than a NaN in its results", () => {
    const oracle = new Oracle([{ init: [1, 2] }], { terms: 2 });
    expect(() => oracle.step([[[1, 2]]])).toThrow("gradients: 2 expected, 1 came");
    expect(() => oracle.step([[[1, 2]], []])).toThrow("gradients of term 1: 1 expected, 0 came");
    expect(() => oracle.step([[[1, 2]], [[1]]])).toThrow(
      "gradient of term 1 for tensor 0: 2 expected, 1 came",
    );
    expect(() => oracle.step([[[1, 2]], [null]], { weights: [1] })).toThrow("weights: 2 expected, 1 came");
    expect(() => new Oracle([], { terms: 2, weights: [1] })).toThrow("weights: 2 expected, 1 came");
  });

  test("empty tensors and no tensors at all are legal", () => {
    const oracle = new Oracle([{ init: [] }], { terms: 1 });
    oracle.step([[[]]]);
    expect(oracle.norms()).toEqual([[0]]);
    const none = new Oracle([], { terms: 1 });
    none.step([[]]);
    expect(none.norms()).toEqual([[]]);
  });
});
