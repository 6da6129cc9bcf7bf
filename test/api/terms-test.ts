import fc from "fast-check";
import { MTAdam, type DeviceBuffer, type MTAdamOptions } from "../../lib";
import { caught } from "../support/caught";
import { isSlow, onCuda, testDevice } from "../support/device";
import { FORMS, withForms } from "../support/forms";
import { randomSource, randomTensor } from "../support/random";

// Terms and parameter groups that are added and removed while an optimizer trains.

const device = testDevice();
const LENGTHS = [5, 0, 4100, 33];

type Tensors = DeviceBuffer<"float32">[];

const tensors = (seed: number, scale = 1): Tensors => {
  const random = randomSource(seed);
  return LENGTHS.map((length) => device.buffer(randomTensor(random, length, scale)));
};

async function expectSame(
  [a, thetaA]: readonly [MTAdam, Tensors],
  [b, thetaB]: readonly [MTAdam, Tensors],
): Promise<void> {
  for (const [k, theta] of thetaA.entries()) {
    expect(Buffer.from((await theta.download()).buffer)).toEqual(
      Buffer.from((await thetaB[k]!.download()).buffer),
    );
  }
  expect(await a.stateDict()).toEqual(await b.stateDict());
}

const form = withForms<Partial<MTAdamOptions<"a">>>({
  amsgrad: fc.boolean(),
  weightDecay: fc.constantFrom(0, 0.1),
  anchor: fc.constantFrom("first", "max", "a"),
});

describe("a term that is added", () => {
  test("equals a term that was always absent", async () => {
    await fc.assert(
      fc.asyncProperty(form, fc.nat(3), fc.nat(3), async (options, before, after) => {
        const [a, b, c] = [tensors(1), tensors(2, 50), tensors(3, 1e-3)];
        const [grown, whole] = [tensors(9), tensors(9)];
        const growing = new MTAdam(grown, { ...options, terms: ["a", "b"], weights: [1, 2] });
        const there = new MTAdam(whole, { ...options, terms: ["a", "b", "c"], weights: [1, 2, 1] });
        for (let step = 0; step < before; ++step) {
          growing.step([a, b]);
          there.step([a, b, null]);
        }
        growing.addTerm("c");
        expect(growing.terms).toEqual(["a", "b", "c"]);
        expect(growing.weights).toEqual([1, 2, 1]);
        for (let step = 0; step < after; ++step) {
          for (const optimizer of [growing, there]) optimizer.step({ a, b: step === 1 ? null : b, c });
        }
        await expectSame([growing, grown], [there, whole]);
      }),
      { numRuns: isSlow ? 8 : 30, seed: 1 },
    );
  });

  test("is refused with a bad name", async () => {
    const optimizer = new MTAdam(tensors(9), { terms: ["a", "b"] });
    for (const name of ["a", "", "first", "max", "mean", "\0M", "\0theta", 5, undefined, null, {}]) {
      expect(await caught(() => optimizer.addTerm(name as string))).toMatchObject({
        code: "ERR_MTADAM_OPTION",
        message: expect.stringMatching(/^`name` must be unique/) as string,
      });
    }
    expect(optimizer.terms).toEqual(["a", "b"]);
    optimizer.step([tensors(1), tensors(2)]);
  });
});

describe("a term that is removed", () => {
  test.each([
    ["a", "b"],
    ["b", "c"],
    ["c", "a"],
  ] as const)("(%s) is like one that stays absent, where another is the anchor", async (gone, anchor) => {
    const gradients: Record<string, Tensors> = { a: tensors(1), b: tensors(2, 50), c: tensors(3, 1e-3) };
    const [shrunk, whole] = [tensors(9), tensors(9)];
    const options = { terms: ["a", "b", "c"], weights: { a: 1, b: 2, c: 3 }, anchor } as const;
    const [shrinking, there] = [new MTAdam(shrunk, options), new MTAdam(whole, options)];
    for (const optimizer of [shrinking, there]) optimizer.step(gradients);
    shrinking.removeTerm(gone);
    expect(shrinking.terms).toEqual(["a", "b", "c"].filter((name) => name !== gone));
    for (let step = 0; step < 3; ++step) {
      shrinking.step(without(gradients, gone));
      there.step(without(gradients, gone));
    }
    for (const [k, theta] of shrunk.entries())
      expect(await theta.download()).toEqual(await whole[k]!.download());
    const rows = await there.norms();
    const columns = there.layers.length;
    const left = there.terms.flatMap((name, row) =>
      name === gone ? [] : [...rows.subarray(row * columns, (row + 1) * columns)],
    );
    expect([...(await shrinking.norms())]).toEqual(left);
  });

  const without = (gradients: Record<string, Tensors>, gone: string): Record<string, Tensors> =>
    Object.fromEntries(Object.entries(gradients).filter(([name]) => name !== gone));

  test("loses its state: added again, it starts fresh", async () => {
    const [first, second] = [tensors(9), tensors(9)];
    const [a, b] = [tensors(1), tensors(2)];
    const optimizer = new MTAdam(first, { terms: ["a", "b"] });
    const fresh = new MTAdam(second, { terms: ["a", "b"] });
    optimizer.step([null, b]);
    optimizer.removeTerm("b");
    optimizer.addTerm("b");
    for (const [k, theta] of first.entries()) theta.upload(await second[k]!.download());
    for (const one of [optimizer, fresh]) one.step([a, b]);
    for (const [k, theta] of first.entries())
      expect(await theta.download()).toEqual(await second[k]!.download());
  });

  // Adam's step is at most about lr long: without a bound, what is left of a momentum would be divided by eps.
  describe.each(FORMS)("with $firstMoment first and $secondMoment second moments", (form) => {
    const STATES = ["float32", "bfloat16", "8bit"] as const;
    const LENGTH = 4100;
    const cases = [
      ...STATES.map((stateDtype) => ({ stateDtype, amsgrad: false })),
      { stateDtype: "float32", amsgrad: true } as const,
    ];
    test.each(cases)("leaves no momentum without a bound: $stateDtype, amsgrad $amsgrad", async (lean) => {
      const options = { ...form, ...lean, lr: 1e-3 };
      const half = (first: boolean): DeviceBuffer<"float32"> =>
        device.buffer(Float32Array.from({ length: LENGTH }, (_, k) => Number((k % 2 === 0) === first)));
      const gradients = { kept: [half(true)], gone: [half(false)] };
      const theta = device.buffer(LENGTH);
      const removed = new MTAdam([theta], { ...options, terms: ["kept", "gone"] });
      for (let step = 0; step < 20; ++step) removed.step(gradients);
      const start = await theta.download();
      const again = device.buffer(start);
      const part = new MTAdam([again], { ...options, terms: ["kept"] });
      await part.loadStateDict(await removed.stateDict(), { strict: false });
      removed.removeTerm("gone");
      for (const optimizer of [removed, part]) {
        for (let step = 0; step < 3; ++step) optimizer.step({ kept: gradients.kept });
      }
      for (const moved of [theta, again]) {
        const end = await moved.download();
        const farthest = end.reduce((most, value, k) => Math.max(most, Math.abs(value - start[k]!)), 0);
        expect(farthest).toBeLessThan(5e-3);
        expect(farthest).toBeGreaterThan(2e-3);
      }
      expect(await part.stateDict()).toEqual(await removed.stateDict());
    });
  });

  test("shifts the index of the anchor, not the anchor", async () => {
    const [one, other] = [tensors(9), tensors(9)];
    const [b, c] = [tensors(2), tensors(3, 100)];
    const optimizer = new MTAdam(one, { terms: ["a", "b", "c"], anchor: "c" });
    optimizer.removeTerm("a");
    const expected = new MTAdam(other, { terms: ["b", "c"], anchor: "c" });
    for (const each of [optimizer, expected]) each.step([b, c]);
    for (const [k, theta] of one.entries())
      expect(await theta.download()).toEqual(await other[k]!.download());
  });

  test("is refused if it is the anchor, the only term or unknown", async () => {
    const optimizer = new MTAdam(tensors(9), { terms: ["a", "b"], anchor: "b" });
    expect((await caught(() => optimizer.removeTerm("b"))).message).toBe(
      '`term` must not be the anchor; got "b".',
    );
    expect(await caught(() => optimizer.removeTerm("d" as "a"))).toMatchObject({ code: "ERR_MTADAM_TERM" });
    expect(await caught(() => optimizer.removeTerm(2))).toMatchObject({ code: "ERR_MTADAM_TERM" });
    optimizer.removeTerm(0);
    const single = new MTAdam(tensors(9), { terms: 1 });
    expect((await caught(() => single.removeTerm(0))).message).toBe(
      '`term` must not be the only one; got "0".',
    );
  });
});

describe("a parameter group that is added", () => {
  test("equals one that was there without gradients", async () => {
    await fc.assert(
      fc.asyncProperty(form, fc.nat(2), fc.boolean(), async (options, before, tagged) => {
        const tag = (name: string): { name: string; layer?: string } =>
          tagged && name.endsWith("3") ? { name, layer: "shared" } : { name };
        const described = (theta: Tensors, from: number): { name: string; data: Tensors[number] }[] =>
          theta.map((data, k) => ({ data, ...tag(`p${from + k}`) }));
        const [a, b] = [tensors(1), tensors(2, 50)];
        const [grown, more, whole] = [tensors(8), tensors(9), [...tensors(8), ...tensors(9)]];
        const growing = new MTAdam([{ parameters: described(grown, 0), lr: 0.01 }], {
          ...options,
          terms: ["a", "b"],
        });
        const groups = [
          { parameters: described(whole.slice(0, 4), 0), lr: 0.01 },
          { parameters: described(whole.slice(4), 10), lr: 0.1, eps: 1e-4 },
        ];
        const there = new MTAdam(groups, { ...options, terms: ["a", "b"] });
        const none = LENGTHS.map(() => null);
        for (let step = 0; step < before; ++step) {
          growing.step([a, b]);
          there.step([
            [...a, ...none],
            [...b, ...none],
          ]);
        }
        growing.addParamGroup({ parameters: described(more, 10), lr: 0.1, eps: 1e-4 });
        expect(growing.layers).toEqual(there.layers);
        expect(growing.paramGroups.map(({ parameters, lr }) => [parameters, lr])).toEqual(
          there.paramGroups.map(({ parameters, lr }) => [parameters, lr]),
        );
        for (let step = 0; step < 2; ++step) {
          for (const optimizer of [growing, there]) {
            optimizer.step([
              [...a, ...b],
              [...b, ...a],
            ]);
          }
        }
        await expectSame([growing, [...grown, ...more]], [there, whole]);
      }),
      { numRuns: isSlow ? 6 : 20, seed: 2 },
    );
  });

  test("that does not fit changes nothing", async () => {
    const theta = tensors(9);
    const optimizer = new MTAdam(theta, { terms: 1 });
    optimizer.step([tensors(1)]);
    const before = await optimizer.stateDict();
    const cases: [unknown, string][] = [
      [{ parameters: [{ name: "0", data: device.buffer(1) }] }, "OPTION"],
      [{ parameters: [theta[0]] }, "INVALID_POINTER"],
      [{ parameters: [], lr: -1 }, "OPTION"],
      [{ parameters: [device.buffer(1, "float64")] }, "DTYPE"],
      [device.buffer(1), "OPTION"],
      [undefined, "OPTION"],
    ];
    for (const [group, code] of cases) {
      expect(await caught(() => optimizer.addParamGroup(group as never))).toMatchObject({
        code: `ERR_MTADAM_${code}`,
      });
    }
    expect(await optimizer.stateDict()).toEqual(before);
    expect(optimizer.paramGroups).toHaveLength(1);
    optimizer.step([tensors(1)]);
  });
});

describe("objects made before a change of terms or parameters", () => {
  const changes: [string, (optimizer: MTAdam) => void][] = [
    ["addTerm", (optimizer) => optimizer.addTerm("c")],
    ["removeTerm", (optimizer) => optimizer.removeTerm("b")],
    [
      "addParamGroup",
      (optimizer) => optimizer.addParamGroup({ parameters: [{ name: "new", data: device.buffer(2) }] }),
    ],
    [
      "removeTerm and addTerm",
      (optimizer) => {
        optimizer.removeTerm("b");
        optimizer.addTerm("b");
      },
    ],
  ];

  test.each(changes)("%s: prepared gradients must be prepared again", async (_, change) => {
    const optimizer = new MTAdam(tensors(9), { terms: ["a", "b"] });
    const prepared = optimizer.prepare([tensors(1), tensors(2)]);
    change(optimizer);
    for (const call of [
      () => optimizer.step(prepared),
      () => prepared.zero(),
      () => prepared.set(0, 0, null),
    ]) {
      expect(await caught(call)).toMatchObject({
        code: "ERR_MTADAM_STATE",
        message: "`prepare` must be called again: the optimizer's terms or parameters have changed.",
      });
    }
    optimizer.step(optimizer.prepare(optimizer.terms.map(() => null)));
  });

  test.each(changes)("%s is refused until update", async (_, change) => {
    const optimizer = new MTAdam(tensors(9), { terms: ["a", "b"] });
    optimizer.accumulate("a", tensors(1));
    expect(await caught(() => change(optimizer))).toMatchObject({ code: "ERR_MTADAM_STATE" });
    optimizer.update();
    change(optimizer);
  });

  onCuda("a captured step", () => {
    test.each(changes)("%s: a captured step must be captured again", async (_, change) => {
      const optimizer = new MTAdam(tensors(9), { terms: ["a", "b"] });
      const captured = optimizer.captureStep(optimizer.prepare([tensors(1), tensors(2)]));
      change(optimizer);
      expect(await caught(() => captured.replay())).toMatchObject({
        code: "ERR_MTADAM_STATE",
        message: "`captureStep` must be called again: the optimizer's terms or parameters have changed.",
      });
      expect(optimizer.iterations).toBe(0);
    });
  });
});
