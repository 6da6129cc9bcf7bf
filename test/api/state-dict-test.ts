import { MTAdam, MTAdamError, type MTAdamOptions, type StateDict } from "../../lib";
import { readGolden } from "../support/golden";
import { NAMES, Trained } from "../support/trained";

const TERMS = ["a", "b"];

describe("a saved state", () => {
  test("has the keys, types and shapes of the docs", async () => {
    const perTerm = await new Trained(NAMES, { terms: TERMS, amsgrad: true })
      .train(0, 2, TERMS)
      .optimizer.stateDict();
    expect(perTerm["n"]).toBeInstanceOf(Float64Array);
    expect(perTerm["occurred"]).toEqual(new Uint8Array(6).fill(1));
    expect(perTerm["skipped"]).toEqual(new BigInt64Array(6));
    expect(perTerm["t"]).toEqual(new BigInt64Array(6).fill(2n));
    expect(perTerm["P1"]).toEqual(new Float64Array(6).fill(0.9 * 0.9));
    expect(Object.keys(perTerm).sort()).toEqual(
      ["metadata", "n", "occurred", "skipped", "t", "P1", "P2"]
        .concat(
          ["m", "v", "x"].flatMap((plane) =>
            [0, 1].flatMap((i) => [0, 1, 2].map((p) => `${plane}.${i}.${p}`)),
          ),
        )
        .sort(),
    );
    const summed = await new Trained(NAMES, {
      terms: TERMS,
      amsgrad: true,
      firstMoment: "summed",
    }).optimizer.stateDict();
    expect(Object.keys(summed).sort()).toEqual(
      ["metadata", "n", "occurred", "skipped", "t", "P1", "P2", "T", "T.P1", "T.P2"]
        .concat([0, 1].flatMap((i) => [0, 1, 2].map((p) => `v.${i}.${p}`)))
        .concat(["M", "x"].flatMap((plane) => [0, 1, 2].map((p) => `${plane}.${p}`)))
        .sort(),
    );
    const both = await new Trained(NAMES, {
      terms: TERMS,
      amsgrad: true,
      firstMoment: "summed",
      secondMoment: "summed",
    }).optimizer.stateDict();
    expect(Object.keys(both).sort()).toEqual(
      ["metadata", "n", "occurred", "skipped", "t", "P1", "P2", "T", "T.P1", "T.P2"]
        .concat(["M", "V", "x"].flatMap((plane) => [0, 1, 2].map((p) => `${plane}.${p}`)))
        .sort(),
    );
    expect(both.metadata.options).toMatchObject({ firstMoment: "summed", secondMoment: "summed" });
    expect(perTerm.metadata).toMatchObject({
      version: 1,
      iterations: 2,
      terms: TERMS,
      layers: NAMES,
      parameters: [{ name: "weight", length: 6, shape: [6], layer: "weight", group: 0 }, {}, {}],
      options: { firstMoment: "perTerm", secondMoment: "perTerm", amsgrad: true, weights: [1, 1] },
      groups: [{ lr: 1e-3, betas: [0.9, 0.999, 0.9] }],
    });
  });

  test("is a copy that later steps do not change", async () => {
    const trained = new Trained(NAMES, { terms: TERMS }).train(0, 2, TERMS);
    const state = await trained.optimizer.stateDict();
    const copy = structuredClone(state);
    trained.train(2, 4, TERMS);
    expect(state).toEqual(copy);
  });

  test("loads with parameters and terms in another order, and continues with the same bits", async () => {
    const through = new Trained(NAMES, { terms: TERMS }).train(0, 8, TERMS);
    const first = new Trained(NAMES, { terms: TERMS }).train(0, 4, TERMS);
    const state = await first.optimizer.stateDict();
    // The terms keep their order here: the first is the anchor.
    const resumed = new Trained(["scale", "weight", "bias"], { terms: TERMS }, await first.values());
    await resumed.optimizer.loadStateDict(state);
    expect(resumed.optimizer.iterations).toBe(4);
    expect(await resumed.train(4, 8, TERMS).values()).toEqual(await through.values());
    const reversed = new Trained(NAMES, { terms: ["b", "a"] });
    await reversed.optimizer.loadStateDict(state);
    const norms = await first.optimizer.norms();
    expect(await reversed.optimizer.norms()).toEqual(
      Float32Array.of(...norms.slice(3), ...norms.slice(0, 3)),
    );
  });

  test("restores group options and weights, and keeps a schedule", async () => {
    const saved = new Trained(NAMES, { terms: TERMS, lr: 0.5, eps: 1e-3, weights: [2, 3] });
    const state = await saved.optimizer.stateDict();
    const plain = new Trained(NAMES, { terms: TERMS });
    await plain.optimizer.loadStateDict(state);
    expect(plain.optimizer.paramGroups[0]).toMatchObject({ lr: 0.5, eps: 1e-3 });
    expect(plain.optimizer.weights).toEqual([2, 3]);
    const schedule = (): number => 0.1;
    const scheduled = new Trained(NAMES, { terms: TERMS, lr: schedule });
    await scheduled.optimizer.loadStateDict(state);
    expect(scheduled.optimizer.lr).toBe(schedule);
    await plain.optimizer.loadStateDict(await scheduled.optimizer.stateDict());
    expect(plain.optimizer.lr).toBe(0.5);
  });

  test("with first moments per term can be loaded where they are summed", async () => {
    // All terms are present in every step, so that the two forms agree up to rounding before and after.
    const amsgrad = false;
    const through = new Trained(NAMES, { terms: TERMS, amsgrad, firstMoment: "summed" }).train(0, 8, TERMS);
    const first = new Trained(NAMES, { terms: TERMS, amsgrad }).train(0, 4, TERMS);
    const resumed = new Trained(
      NAMES,
      { terms: TERMS, amsgrad, firstMoment: "summed" },
      await first.values(),
    );
    await resumed.optimizer.loadStateDict(await first.optimizer.stateDict());
    const [actual, expected] = [await resumed.train(4, 8, TERMS).values(), await through.values()];
    for (const name of NAMES) {
      for (const [k, value] of expected[name].entries()) expect(actual[name][k]).toBeCloseTo(value, 7);
    }
  });

  test("with unequal clocks is summed with each moment's own correction", async () => {
    const first = new Trained(NAMES, { terms: TERMS, amsgrad: true }).train(0, 1, ["a"]).train(1, 3, TERMS);
    const state = await first.optimizer.stateDict();
    const summed = new Trained(NAMES, { terms: TERMS, amsgrad: true, firstMoment: "summed" });
    await summed.optimizer.loadStateDict(state);
    const loaded = await summed.optimizer.stateDict();
    expect(loaded["T"]).toEqual(new BigInt64Array(3).fill(3n));
    expect(loaded["T.P1"]).toEqual((state["P1"] as Float64Array).slice(0, 3));
    const [a, b] = [state["m.0.0"] as Float32Array, state["m.1.0"] as Float32Array];
    const factor = (1 - 0.9 ** 3) / (1 - 0.9 ** 2);
    for (const [k, M] of (loaded["M.0"] as Float32Array).entries()) {
      expect(M).toBeCloseTo((a[k] ?? NaN) + factor * (b[k] ?? NaN), 6);
    }
    const [xa, xb] = [state["x.0.0"] as Float32Array, state["x.1.0"] as Float32Array];
    expect(loaded["x.0"]).toEqual(xa.map((x, k) => Math.max(x, xb[k] ?? NaN)));
  });

  test("without `secondMoment`, of an older version, has second moments per term", async () => {
    const first = new Trained(NAMES, { terms: TERMS }).train(0, 2, TERMS);
    const state = await first.optimizer.stateDict();
    delete state.metadata.options.secondMoment;
    const resumed = new Trained(NAMES, { terms: TERMS });
    await resumed.optimizer.loadStateDict(state);
    expect((await resumed.optimizer.stateDict())["v.0.0"]).toEqual(state["v.0.0"]);
  });

  test("loads only matching entries with `strict: false`", async () => {
    const saved = new Trained(NAMES, { terms: ["a", "gone"] }).train(0, 3, ["a", "gone"]);
    const state = await saved.optimizer.stateDict();
    const target = new Trained(NAMES, { terms: ["new", "a"] }).train(0, 1, ["new", "a"]);
    const before = await target.optimizer.norms();
    await expect(target.optimizer.loadStateDict(state)).rejects.toMatchObject({
      code: "ERR_MTADAM_CHECKPOINT",
    });
    await target.optimizer.loadStateDict(state, { strict: false });
    const norms = await target.optimizer.norms();
    expect(norms.slice(0, 3)).toEqual(before.slice(0, 3));
    expect(norms.slice(3)).toEqual((await saved.optimizer.norms()).slice(0, 3));
  });

  test("may contain a pair that never occurred", async () => {
    const golden = readGolden("absent-heads");
    expect(golden.expected.get(0)?.norms[0]?.[2]).toBe(0);
    const trained = new Trained(NAMES, { terms: TERMS });
    trained.optimizer.step({ a: { weight: trained.device.buffer(6) }, b: {} });
    const other = new Trained(NAMES, { terms: TERMS });
    await other.optimizer.loadStateDict(await trained.optimizer.stateDict());
    expect(await other.optimizer.norms()).toEqual(Float32Array.of(0, NaN, NaN, NaN, NaN, NaN));
  });
});

describe("a state that does not match throws an error with a code, and nothing is loaded", () => {
  type Edit = (state: StateDict & Record<string, unknown>) => unknown;
  const edits: [string, Edit, MTAdamOptions?][] = [
    ["no object", () => null],
    ["no metadata", (s) => delete (s as Partial<StateDict>).metadata],
    ["another version", (s) => ((s.metadata as { version: number }).version = 2)],
    ["a fractional iteration", (s) => (s.metadata.iterations = 0.5)],
    ["no terms", (s) => delete (s.metadata as Partial<StateDict["metadata"]>).terms],
    ["a term more", (s) => s.metadata.terms.push("c")],
    ["a term fewer", (s) => s.metadata.terms.pop()],
    ["two terms of one name", (s) => (s.metadata.terms[1] = "a")],
    [
      "another length",
      (s) => (s.metadata.parameters = s.metadata.parameters.map((p) => ({ ...p, length: 2 }))),
    ],
    [
      "another layer",
      (s) => (s.metadata.parameters = s.metadata.parameters.map((p) => ({ ...p, layer: "bias" }))),
    ],
    ["a missing tensor", (s) => delete s["m.1.2"]],
    ["a tensor too short", (s) => (s["v.0.0"] = new Float32Array(5))],
    ["a tensor of another type", (s) => (s["v.0.0"] = new Float64Array(6))],
    [
      "a detached tensor",
      (s) => structuredClone(s["v.0.0"], { transfer: [(s["v.0.0"] as Float32Array<ArrayBuffer>).buffer] }),
    ],
    ["a negative clock", (s) => ((s["t"] as BigInt64Array)[3] = -1n)],
    ["a product above 1", (s) => ((s["P1"] as Float64Array)[3] = 1.5)],
    ["a product that is no number", (s) => ((s["P2"] as Float64Array)[0] = NaN)],
    ["a norm that is no number", (s) => ((s["n"] as Float64Array)[5] = NaN)],
    ["a negative count", (s) => ((s["skipped"] as BigInt64Array)[5] = -1n)],
    ["a count that no double holds", (s) => ((s["skipped"] as BigInt64Array)[0] = 2n ** 53n)],
    ["counts of another type", (s) => (s["skipped"] = new Float64Array(6))],
    ["counts too few", (s) => (s["skipped"] = new BigInt64Array(5))],
    ["counts of null", (s) => ((s as Record<string, unknown>)["skipped"] = null)],
    ["a negative weight", (s) => (s.metadata.options.weights[1] = -1)],
    ["a weight beyond float32", (s) => (s.metadata.options.weights[0] = 1e39)],
    ["groups without options", (s) => (s.metadata.groups = [{} as never])],
    ["a group without one of its options", (s) => delete (s.metadata.groups[0] as { eps?: number }).eps],
    ["a parameter in no group", (s) => (s.metadata.parameters[1]!.group = 1)],
    ["a parameter in a group of another type", (s) => (s.metadata.parameters[1]!.group = "length" as never)],
    ["a learning rate below 0", (s) => s.metadata.groups.forEach((group) => (group.lr = -1))],
    ["summed first moments", (s) => (s.metadata.options.firstMoment = "summed")],
    ["amsgrad", (s) => (s.metadata.options.amsgrad = true)],
  ];

  test.each(edits)("%s", async (_, edit) => {
    const saved = await new Trained(NAMES, { terms: TERMS, lr: 0.5 })
      .train(0, 3, TERMS)
      .optimizer.stateDict();
    const result = edit(saved);
    const { optimizer } = new Trained(NAMES, { terms: TERMS }).train(0, 1, TERMS);
    const before = await optimizer.stateDict();
    const failure = await optimizer.loadStateDict(result === null ? (null as never) : saved).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(MTAdamError);
    expect(failure).toMatchObject({
      code: "ERR_MTADAM_CHECKPOINT",
      message: expect.stringMatching(/^[^\n]+\.$/) as string,
    });
    expect(await optimizer.stateDict()).toEqual(before);
  });
});

test("a state loads for the same shape alone; one dimension is any", async () => {
  const withShape = (shape?: number[]): MTAdam =>
    new MTAdam([{ name: "w", data: new Float32Array(6), shape }], { terms: 1 });
  const of = async (shape?: number[]): Promise<StateDict> => await withShape(shape).stateDict();
  for (const shape of [undefined, [2, 3], [6]]) {
    await withShape([2, 3]).loadStateDict(await of(shape));
    await withShape(shape).loadStateDict(await of([2, 3]));
  }
  for (const shape of [
    [3, 2],
    [1, 6],
    [2, 3, 1],
  ]) {
    const state = await of(shape);
    await expect(withShape([2, 3]).loadStateDict(state)).rejects.toMatchObject({
      code: "ERR_MTADAM_CHECKPOINT",
      message: `The state must have the shape 2 × 3 for "w"; got ${shape.join(" × ")}.`,
    });
  }
});

test("stateBytes is the size of the state: 2·I planes, I + 1 if m is summed, 2 if both are", () => {
  const parameters = [new Float32Array(1_000_000)];
  const plane = 4e6;
  const near = (planes: number, options: MTAdamOptions): void => {
    const bytes = MTAdam.stateBytes(parameters, options);
    expect(bytes).toBeGreaterThanOrEqual(planes * plane);
    expect(bytes).toBeLessThan(planes * plane + 64 * (1_000_000 / 4096) * 4 + 20_000);
  };
  near(6, { terms: 3 });
  near(4, { terms: 3, firstMoment: "summed" });
  near(9, { terms: 3, amsgrad: true });
  near(5, { terms: 3, firstMoment: "summed", amsgrad: true });
  for (const terms of [1, 3, 10]) near(2, { terms, firstMoment: "summed", secondMoment: "summed" });
  near(3, { terms: 3, firstMoment: "summed", secondMoment: "summed", amsgrad: true });
  near(6, { terms: 3, unit: "network" });
  near(2, { terms: 3, unit: "network", firstMoment: "summed", secondMoment: "summed" });
});
