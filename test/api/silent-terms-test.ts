import { MTAdam } from "../../lib";
import { testDevice } from "../support/device";

const device = testDevice();
const place = (...values: number[]): ReturnType<typeof device.buffer<"float32">> =>
  device.buffer(Float32Array.from(values));

// A penalty that is inactive at first, or the distance of two networks that start equal.
describe.each(["tensor", "network"] as const)("a term whose first gradients are 0, unit %s", (unit) => {
  /** s of the term after two steps without and one with a gradient of half the other's norm. */
  async function scaleAfter(silence: "decay" | "rest"): Promise<number> {
    const optimizer = new MTAdam([place(1, 1), place(1, 1)], {
      terms: ["loss", "late"],
      betas: [0.9, 0.999, 0.999],
      unit,
      silence,
    });
    for (const late of [0, 0, 1]) {
      optimizer.step({
        loss: [place(6, 8), place(6, 8)],
        late: [place(3 * late, 4 * late), place(3 * late, 4 * late)],
      });
    }
    return (await optimizer.diagnostics()).at("late", 0).scale;
  }

  test("starts its average with the first that is not 0, where silence is to rest", async () => {
    expect(await scaleAfter("rest")).toBeCloseTo(2, 6);
  });

  test("starts it with the zeros by default, as the reference does", async () => {
    expect(await scaleAfter("decay")).toBeGreaterThan(50);
  });
});
