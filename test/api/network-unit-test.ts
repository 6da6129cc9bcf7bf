import { MTAdam, type MTAdamOptions, type ParameterDescription } from "../../lib";
import { caught } from "../support/caught";
import { testDevice } from "../support/device";

// The network as one unit from the user's view; oracle-test.ts and golden-test.ts test the arithmetic.

const device = testDevice();
const place = (...values: number[]): ReturnType<typeof device.buffer<"float32">> =>
  device.buffer(Float32Array.from(values));
const parameter = (name: string, layer?: string): ParameterDescription => ({
  name,
  data: place(1, 1),
  ...(layer === undefined ? {} : { layer }),
});
const network: MTAdamOptions = { terms: ["a", "b"], unit: "network" };

/** s of every term in every layer, by their names. */
async function scalesOf(optimizer: MTAdam): Promise<Record<string, number[]>> {
  const { terms, layers, scales } = await optimizer.diagnostics();
  const row = (term: number): number[] => [
    ...scales.subarray(term * layers.length, (term + 1) * layers.length),
  ];
  return Object.fromEntries(terms.map((name, term) => [name, row(term)]));
}

describe("the network as one unit", () => {
  test("scales a term alike in all tensors that several terms reach, and a head by itself", async () => {
    const optimizer = new MTAdam([parameter("trunk"), parameter("bias"), parameter("head")], network);
    for (let step = 0; step < 2; ++step) {
      optimizer.step({
        a: [place(3, 0), place(4, 0), null],
        b: [place(30, 0), place(0, 40), place(7, 0)],
      });
    }
    const { b } = await scalesOf(optimizer);
    expect(b![0]).toBeCloseTo(0.1, 6);
    expect(b![1]).toBe(b![0]);
    expect(b![2]).toBe(1);
  });

  test("gives a term no share of a head that it never reaches", async () => {
    const parameters = [parameter("trunk"), parameter("head")];
    const make = (): MTAdam => new MTAdam(parameters, { ...network, anchor: "max" });
    const optimizer = make();
    for (let step = 0; step < 2; ++step) {
      optimizer.step({ a: [place(3, 4), place(1, 0)], b: [place(30, 40), null] });
    }
    const shown = await optimizer.diagnostics();
    expect(shown.at("a", "head")).toMatchObject({ norm: 1, scale: 1, share: 1, shareBefore: 1 });
    // In the first step, when all tensors were one unit, the norm was the unit's.
    expect(shown.at("b", "head")).toMatchObject({ norm: 50, scale: NaN, share: NaN, shareBefore: NaN });
    expect([...shown.anchors]).toEqual([1, 0]);

    const restored = make();
    await restored.loadStateDict(await optimizer.stateDict());
    const { norms, anchors } = await restored.diagnostics();
    expect([norms, anchors]).toEqual([shown.norms, shown.anchors]);
    expect((await restored.diagnostics()).at("b", "head").scale).toBeNaN();
  });

  test("has the unit's anchor also where the anchor's term does not reach", async () => {
    const parameters = [parameter("trunk"), parameter("part")];
    const make = (): MTAdam => new MTAdam(parameters, { ...network, terms: ["a", "b", "c"] });
    const optimizer = make();
    for (let step = 0; step < 2; ++step) {
      const both = [place(30, 40), place(1, 0)];
      optimizer.step({ a: [place(3, 4), null], b: both, c: both });
    }
    expect([...(await optimizer.diagnostics()).anchors]).toEqual([0, 0]);
    const restored = make();
    await restored.loadStateDict(await optimizer.stateDict());
    expect([...(await restored.diagnostics()).anchors]).toEqual([0, 0]);
  });

  test("withdraws a term from the whole unit if it is not finite in one tensor", async () => {
    const optimizer = new MTAdam([parameter("p"), parameter("q")], network);
    const a = [place(1, 0), place(1, 0)];
    optimizer.step({ a, b: [place(5, 0), place(5, 0)] });
    optimizer.step({ a, b: [place(5, 0), place(NaN, 0)] });
    const { shares, skipped } = await optimizer.diagnostics();
    expect([...shares]).toEqual([1, 1, 0, 0]);
    expect([...skipped]).toEqual([0, 0, 0, 1]);
  });

  test("balances a layer by the norms of its tensors, also after a second tensor is added", async () => {
    const optimizer = new MTAdam([parameter("p"), parameter("h", "head")], { ...network, anchor: "max" });
    optimizer.step({ a: [place(1, 1), place(1, 1)], b: [place(1000, 1000), null] });
    optimizer.addParamGroup({ parameters: [parameter("h2", "head")] });
    optimizer.step({ a: [place(1, 1), place(1, 1), place(1, 1)], b: [place(1000, 1000), null, null] });
    const { a } = await scalesOf(optimizer);
    expect(a![0]).toBeCloseTo(1000, 2);
    expect(a![1]).toBe(1); // b never occurred there
  });

  test.each([
    ["of some value", 3],
    ["of zeros", 0],
  ])("can be saved after a load of one of a layer's two tensors, with gradients %s", async (_, value) => {
    const optimizer = new MTAdam([parameter("p", "head")], network);
    const empty = await optimizer.stateDict();
    optimizer.addParamGroup({ parameters: [parameter("p2", "head")] });
    const gradients = [place(value, value), place(value, value)];
    optimizer.step({ a: gradients, b: [gradients[0]!, null] });
    await optimizer.loadStateDict(empty, { strict: false });
    const state = await optimizer.stateDict();
    // The norm is that of p2 alone, where only a has occurred.
    expect(state["t"]).toEqual(BigInt64Array.of(0n, 1n, 0n, 0n));
    expect(state["n"]).toEqual(Float64Array.of(Math.sqrt(2 * value ** 2), 0));
    expect(state["occurred"]).toEqual(Uint8Array.of(1, 0));
    await optimizer.loadStateDict(state);
    expect(await optimizer.stateDict()).toEqual(state);
  });

  test("refuses groups that are balanced together if their current β₃ differ", async () => {
    const optimizer = new MTAdam([parameter("p")], network);
    optimizer.paramGroups[0]!.betas[2] = 0.999;
    optimizer.step({ a: [place(1, 0)], b: [place(2, 0)] });
    const error = await caught(() => {
      optimizer.addParamGroup({ parameters: [parameter("q")] });
    });
    expect(error).toMatchObject({ code: "ERR_MTADAM_OPTION" });
    expect(error.message).toContain("the unit of the network got 0.999 and 0.9");
    optimizer.addParamGroup({ parameters: [parameter("q")], betas: [0.9, 0.999, 0.999] });
    optimizer.step({ a: [place(1, 0), place(1, 0)], b: [place(2, 0), place(2, 0)] });
    expect(optimizer.iterations).toBe(2);
  });
});

describe("presets", () => {
  const saved = async (options: Partial<MTAdamOptions>): Promise<object> => {
    const optimizer = new MTAdam([parameter("p")], { terms: 2, ...options });
    const { options: own, groups } = (await optimizer.stateDict()).metadata;
    const { unit, silence, anchor } = own;
    return { unit, silence, anchor, betas: groups[0]!.betas };
  };
  const paper = { unit: "tensor", silence: "decay", anchor: "first", betas: [0.9, 0.999, 0.9] };
  const recommended = { unit: "network", silence: "rest", anchor: "max", betas: [0.9, 0.999, 0.999] };

  test("are the paper's by default", async () => {
    expect(await saved({})).toEqual(paper);
    expect(await saved({ preset: "paper" })).toEqual(paper);
  });

  test("set options, and explicit options take precedence", async () => {
    expect(await saved({ preset: "recommended" })).toEqual(recommended);
    for (const named of [
      { anchor: "first", betas: [0.5, 0.9, 0.99] },
      { unit: "tensor", silence: "decay" },
    ] as const) {
      expect(await saved({ preset: "recommended", ...named })).toEqual({ ...recommended, ...named });
    }
  });

  test("leave a group's own betas", async () => {
    const betas = [0.9, 0.999, 0.9] as const;
    const groups = [{ parameters: [parameter("p")], betas }];
    const { metadata } = await new MTAdam(groups, { terms: 2, preset: "recommended" }).stateDict();
    expect(metadata.groups[0]!.betas).toEqual(betas);
  });

  test("other than the two are refused", async () => {
    const error = await caught(() => saved({ preset: "best" as "paper" }));
    expect(error).toMatchObject({ code: "ERR_MTADAM_OPTION" });
    expect(error.message).toBe('`preset` must be "paper" or "recommended"; got "best".');
  });
});

test("a state loads only into an optimizer with the same unit", async () => {
  const optimizer = new MTAdam([parameter("p")], network);
  const state = await new MTAdam([parameter("p")], { terms: ["a", "b"] }).stateDict();
  const error = await caught(() => optimizer.loadStateDict(state));
  expect(error).toMatchObject({ code: "ERR_MTADAM_CHECKPOINT" });
  expect(error.message).toBe('The state must be one with `unit: "network"`; got "tensor".');
});
