import { onCuda } from "../support/device";
import { compileExamples, runOnExamples } from "../support/examples";

onCuda("examples/device-pointers", () => {
  if (testDeviceKind === "cuda") {
    test.todo("is itself the test on a GPU: npm run example:pointers");
    return;
  }

  test("trains memory that another library allocated, and frees it", () => {
    const { point, left } = runOnExamples("pointers-round.mjs", compileExamples()) as {
      point: number[];
      left: number;
    };
    expect(point.map((value) => value.toFixed(2))).toEqual(["0.50", "0.50"]);
    expect(left).toBe(0);
  }, 60_000);
});
