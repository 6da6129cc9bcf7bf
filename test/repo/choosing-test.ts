import { readFileSync } from "node:fs";
import path from "node:path";
import { MTAdam, type MTAdamOptions } from "../../lib";
import { cellsOf } from "../support/markdown";

// The bytes in docs/choosing.md: the state is what MTAdam.stateBytes says, and a step reads and writes parameters and
// state once and reads three terms' gradients, twice unless scales are lagged. The executor's tests count the traffic.

const page = readFileSync(path.join(__dirname, "../../docs/choosing.md"), "utf8");

const ELEMENTS = 1 << 20;
const TERMS = 3;
const SUMMED = { firstMoment: "summed" } as const;
const MOMENTS: Record<string, Partial<MTAdamOptions>> = {
  "per term": {},
  summed: SUMMED,
  "one pair": { ...SUMMED, secondMoment: "summed" },
};

/** The cells of the rows of the table with this head, code marks taken away. */
function rowsBelow(head: RegExp): string[][] {
  const table = page.split("\n\n").find((paragraph) => head.test(paragraph))!;
  const [, , ...rows] = table.trim().split("\n");
  return rows.map((row) => cellsOf(row.replaceAll("`", "")));
}

type Dtype = "float32" | "bfloat16" | "float16";

/** Bytes of state per element, without the exponents of 8-bit moments, a byte for 128 elements of each. */
function stateOf(dtype: Dtype, options: Partial<MTAdamOptions>): number {
  const data = dtype === "float32" ? new Float32Array(ELEMENTS) : new Uint16Array(ELEMENTS);
  const bytes = MTAdam.stateBytes([{ data, shape: [ELEMENTS], ...(dtype !== "float32" && { dtype }) }], {
    terms: TERMS,
    ...options,
  });
  const moments = (options.firstMoment ? 1 : TERMS) + (options.secondMoment ? 1 : TERMS);
  const exponents = options.stateDtype === "8bit" ? moments / 128 : 0;
  const found = bytes / ELEMENTS - exponents;
  // The rest are norms, clocks and sums of chunks.
  expect(found - Math.round(found)).toBeGreaterThanOrEqual(0);
  expect(found - Math.round(found)).toBeLessThan(0.05);
  return Math.round(found);
}

test("the bytes of each type and form of moments", () => {
  const rows = rowsBelow(/^\| `stateDtype` \| moments/);
  expect(rows).toHaveLength(9);
  let stateDtype = "";
  for (const [dtype, form, state, traffic] of rows) {
    stateDtype = dtype!.replaceAll('"', "") || stateDtype;
    const options = { ...MOMENTS[form!]!, stateDtype: stateDtype as "8bit" };
    const expected = stateOf("float32", options);
    expect([stateDtype, form, state, traffic]).toEqual([
      stateDtype,
      form,
      String(expected),
      String(2 * 4 + 2 * TERMS * 4 + 2 * expected),
    ]);
  }
});

test("the bytes of narrow gradients and parameters, with one pair and lagged scales", () => {
  const rows = rowsBelow(/^\| gradients \| parameters/);
  expect(rows).toHaveLength(5);
  const typesOf = (name: string): Dtype[] => (name === "16 bits" ? ["bfloat16", "float16"] : [name as Dtype]);
  for (const [gradients, parameters, ...cells] of rows) {
    const masterWeights = parameters!.endsWith("masters");
    for (const dtype of typesOf(parameters!.split(",")[0]!)) {
      for (const gradientDtype of typesOf(gradients!)) {
        const expected = (["float32", "bfloat16", "8bit"] as const).map((stateDtype) => {
          const state = stateOf(dtype, {
            ...MOMENTS["one pair"],
            ...{ stateDtype, gradientDtype, masterWeights, scales: "lagged", betas: [0.9, 0.999, 0.999] },
          });
          const [ofParameter, ofGradient] = [dtype, gradientDtype].map((type) =>
            type === "float32" ? 4 : 2,
          );
          return `${state} / ${2 * ofParameter! + TERMS * ofGradient! + 2 * state}`;
        });
        expect([gradients, parameters, ...cells]).toEqual([gradients, parameters, ...expected]);
      }
    }
  }
});
