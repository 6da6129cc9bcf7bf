import { describeDevices } from "../../lib";
import { onCpu, testDevice } from "../support/device";
import type { Form } from "../support/forms";
import { assertWithinTolerance, formsOf, goldenCases, readGolden, type GoldenCase } from "../support/golden";
import { expectSameBits, libraryOptions, plainestLike, run, waysOf, type Experiment } from "../support/run";

const cases = goldenCases().map(readGolden);
const inTheirForms = cases.flatMap((golden) =>
  formsOf(golden).map((form) => ({
    name: golden.name,
    moments: `first moment ${form.firstMoment}, second ${form.secondMoment}`,
    form,
    golden,
  })),
);

function experiment(golden: GoldenCase, form: Form): Experiment {
  return {
    init: golden.init,
    tags: golden.tags,
    groups: golden.groups,
    options: libraryOptions({ ...golden.options, ...form }),
    gradientScale: golden.gradientScale,
    gradients: golden.gradients,
  };
}

describe("cases of the reference and of the oracle", () => {
  test("are complete", () => {
    expect(cases).toHaveLength(37);
  });

  test.each(inTheirForms)(
    "$name, $moments: within the tolerance after every kept step",
    async ({ golden, form }) => {
      const kept: number[] = [];
      await run(experiment(golden, form), {
        device: testDevice(),
        afterStep: async (step, parameters, optimizer) => {
          const outputs = golden.expected.get(step);
          if (outputs === undefined) return;
          kept.push(step);
          assertWithinTolerance(golden, step, parameters);
          const norms = await optimizer.norms();
          for (const [term, row] of outputs.norms.entries()) {
            for (const [tensor, expected] of row.entries()) {
              const layer =
                golden.tags === undefined
                  ? tensor
                  : [...new Set(golden.tags)].indexOf(golden.tags[tensor] ?? 0);
              const norm = norms[term * optimizer.layers.length + layer] ?? 0;
              // The files have 0 where a pair never occurred.
              expect(Math.abs((Number.isNaN(norm) ? 0 : norm) - expected)).toBeLessThanOrEqual(
                1e-6 * expected,
              );
            }
          }
        },
      });
      expect(kept).toEqual(golden.keptSteps);
    },
  );

  describe.each(inTheirForms)("$name, $moments: the same bits", ({ golden, form }) => {
    const what = experiment(golden, form);
    const device = testDevice();
    const expected = run(what, { device });

    const streamed = run(what, { device, way: "accumulate" });

    test.each(waysOf(what.options))("with %s", async (way) => {
      const plainest = plainestLike(way, what.options);
      expectSameBits(await run(what, { device, way }), await (plainest === "step" ? expected : streamed));
    });

    test("saved and restored in the middle", async () => {
      const restoreBefore = Math.floor(golden.steps / 2);
      expectSameBits(await run(what, { device, restoreBefore }), await expected);
      expectSameBits(await run(what, { device, restoreBefore, way: "accumulate" }), await streamed);
    });

    onCpu("the same bits", () => {
      test.each([1, 2, 7])("with %d threads", async (threads) => {
        expectSameBits(await run(what, { device: testDevice({ threads }) }), await expected);
      });

      test.each(describeDevices().cpu.instructionSets)(
        "with the instruction set %s",
        async (instructionSet) => {
          const other = testDevice({ instructionSet });
          expectSameBits(await run(what, { device: other }), await expected);
          expectSameBits(await run(what, { device: other, way: "accumulate" }), await streamed);
        },
      );
    });
  });
});
