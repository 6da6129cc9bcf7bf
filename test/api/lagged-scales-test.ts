import fc from "fast-check";
import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { caught } from "../support/caught";
import { isSlow, testDevice } from "../support/device";
import { randomSource, randomTensor } from "../support/random";

// Lagged scales from the user's view; oracle-test.ts and golden-test.ts test the arithmetic.

const device = testDevice();
const place = (...values: number[]): DeviceBuffer<"float32"> => device.buffer(Float32Array.from(values));
const lagged = { terms: ["a", "b"], scales: "lagged", betas: [0.9, 0.999, 0.99] } as const;

describe("lagged scales", () => {
  test("are those of the norms before the step, which diagnostics report as used", async () => {
    const optimizer = new MTAdam([place(1, 1)], lagged);
    optimizer.step({ a: [place(3, 4)], b: [place(30, 40)] });
    optimizer.step({ a: [place(3, 4)], b: [place(3000, 4000)] });
    const { norms, scales, shares } = await optimizer.diagnostics();
    expect(scales[1]).toBeCloseTo(0.1, 6);
    expect(norms[1]).toBeCloseTo(0.99 * 50 + 50, 4);
    expect(shares[1]).toBeCloseTo(500 / 505, 6);
  });

  test("have the same bits for terms in any order and any anchor, once every term has occurred", async () => {
    const anchors = fc.constantFrom("first", "max", "mean", "1");
    const units = fc.constantFrom("tensor" as const, "network" as const);
    const orders = fc.shuffledSubarray([0, 1, 2], { minLength: 3 });
    await fc.assert(
      fc.asyncProperty(anchors, units, orders, fc.nat(1e6), async (anchor, unit, order, seed) => {
        const options: MTAdamOptions = { ...lagged, terms: 3, anchor, unit };
        const train = async (streamed: boolean): Promise<[Float32Array, ...unknown[]]> => {
          const random = randomSource(seed);
          const parameters = [5, 70].map((count) => device.buffer(randomTensor(random, count, 1)));
          const optimizer = new MTAdam(parameters, options);
          for (let step = 0; step < 4; ++step) {
            const gradients = [1, 50, 0.1].map((scale) =>
              [5, 70].map((count) => device.buffer(randomTensor(random, count, scale * (1 + step)))),
            );
            if (step === 0 || !streamed) {
              optimizer.step(gradients);
              continue;
            }
            for (const term of order) optimizer.accumulate(term, gradients[term]);
            optimizer.update();
          }
          const { norms, scales } = await optimizer.diagnostics();
          const theta = await Promise.all(parameters.map((buffer) => buffer.download()));
          const { "v.1.1": v, "m.2.1": m } = await optimizer.stateDict();
          // Sums over terms are in the order of the terms, however they came.
          return [norms, scales, theta, v, m];
        };
        expect(await train(true)).toEqual(await train(false));
      }),
      { numRuns: isSlow ? 8 : 40, seed: 6 },
    );
  });

  test("let a silent term rest and skip elements by default", async () => {
    const metadata = async (options: Partial<MTAdamOptions>): Promise<object> => {
      const state = await new MTAdam([place(1)], { ...lagged, ...options }).stateDict();
      const { scales, silence, nonFinite } = state.metadata.options;
      return { scales, silence, nonFinite };
    };
    expect(await metadata({})).toEqual({ scales: "lagged", silence: "rest", nonFinite: "skipElement" });
    const named = { silence: "decay", nonFinite: "propagate" } as const;
    expect(await metadata(named)).toEqual({ scales: "lagged", ...named });
    const current = { scales: "current", silence: "decay", nonFinite: "skipTerm" } as const;
    expect(await metadata({ scales: "current" })).toEqual(current);
    expect(await metadata({ preset: "recommended" })).toMatchObject({ silence: "rest" });
  });
});

describe("elements that cannot be used", () => {
  test.each([NaN, Infinity, -Infinity, 3e38])("%d: the moments of that element rest", async (value) => {
    const [theta] = [place(0, 0)];
    const optimizer = new MTAdam([theta], { ...lagged, lr: 0.1 });
    const b = [place(0.3, 0.4)];
    optimizer.step({ a: [place(3, 4)], b });
    const before = await optimizer.stateDict();
    optimizer.step({ a: [place(value, 4)], b });
    const after = await optimizer.stateDict();
    for (const moment of ["m.0.0", "v.0.0"]) {
      const [was, is] = [before, after].map((state) => state[moment] as Float32Array);
      expect(is![0]).toBe(was![0]);
      expect(is![1]).not.toBe(was![1]);
    }
    expect((await theta.download()).every(Number.isFinite)).toBe(true);
    const { norms, skipped } = await optimizer.diagnostics();
    // 3e38 is a norm like any other.
    expect([...skipped]).toEqual([Number.isFinite(value) ? 0 : 1, 0]);
    expect(norms[0] === 5).toBe(!Number.isFinite(value));
  });

  test("in one layer leave the norms of the network's unit in its other layers alone", async () => {
    const optimizer = new MTAdam([place(0, 0), place(0, 0)], { ...lagged, unit: "network" });
    const a = [place(1, 0), place(1, 0)];
    optimizer.step({ a, b: [place(5, 0), place(5, 0)] });
    optimizer.step({ a, b: [place(7, 0), place(NaN, 3)] });
    const { skipped } = await optimizer.diagnostics();
    expect([...skipped]).toEqual([0, 0, 0, 1]);
    const { q, t } = await optimizer.stateDict();
    expect([...(q as Float64Array)].map((value) => value.toFixed(6))).toEqual(
      [1, 1, 0.99 * 25 + 0.01 * 49, 25].map((value) => value.toFixed(6)),
    );
    expect(t).toEqual(BigInt64Array.of(2n, 2n, 2n, 2n));
  });

  test("in a term's first gradient for a layer make the term absent there", async () => {
    const optimizer = new MTAdam([place(0, 0), place(0, 0)], { ...lagged, unit: "network" });
    const a = [place(1, 0), place(1, 0)];
    optimizer.step({ a, b: [place(5, 0), place(NaN, 5)] });
    const { t } = await optimizer.stateDict();
    expect(t).toEqual(BigInt64Array.of(1n, 1n, 1n, 0n));
    expect([...(await optimizer.diagnostics()).skipped]).toEqual([0, 0, 0, 1]);
  });
});

describe("options that lagged scales refuse", () => {
  const refused = async (act: () => unknown, says: string): Promise<void> => {
    const error = await caught(act);
    expect(error).toMatchObject({ code: "ERR_MTADAM_OPTION" });
    expect(error.message).toBe(says);
  };
  const tooSmall = '`betas[2]` must be at least 0.99 with `scales: "lagged"`; got 0.9.';

  test("a β₃ below 0.99, in every place where it can be set", async () => {
    await refused(() => new MTAdam([place(1)], { terms: 2, scales: "lagged" }), tooSmall);
    const small = [0.9, 0.999, 0.9] as const;
    await refused(() => new MTAdam([{ parameters: [place(1)], betas: small }], lagged), tooSmall);
    const optimizer = new MTAdam([place(1)], lagged);
    await refused(() => {
      optimizer.addParamGroup({ parameters: [{ name: "later", data: place(1) }], betas: small });
    }, tooSmall);
    optimizer.paramGroups[0]!.betas[2] = 0.9;
    await refused(() => {
      optimizer.step({ a: [place(1)], b: [place(1)] });
    }, tooSmall);
    optimizer.paramGroups[0]!.betas[2] = 1;
    optimizer.step({ a: [place(1)], b: [place(1)] });
  });

  test("a state whose β₃ is below 0.99", async () => {
    const state = await new MTAdam([place(1)], { terms: ["a", "b"] }).stateDict();
    const error = await caught(() => new MTAdam([place(1)], lagged).loadStateDict(state));
    expect(error).toMatchObject({ code: "ERR_MTADAM_CHECKPOINT" });
    expect(error.message).toContain(tooSmall);
  });

  test("rules for gradients that are not finite which need the norms first, and the other way round", async () => {
    for (const nonFinite of ["skipTerm", "skipStep"] as const) {
      await refused(
        () => new MTAdam([place(1)], { ...lagged, nonFinite }),
        `\`nonFinite\` must be "skipElement" or "propagate" with \`scales: "lagged"\`; got "${nonFinite}".`,
      );
    }
    await refused(
      () => new MTAdam([place(1)], { terms: 2, nonFinite: "skipElement" }),
      '`nonFinite` must be "skipTerm" or "skipStep" or "propagate" with `scales: "current"`; got "skipElement".',
    );
  });

  test("a value that is neither", async () => {
    await refused(
      () => new MTAdam([place(1)], { ...lagged, scales: "old" as "lagged" }),
      '`scales` must be "current" or "lagged"; got "old".',
    );
  });
});
