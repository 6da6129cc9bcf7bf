// Under mpirun: trains with the tensors of `comm.flat`, and in this process alone with arrays of their own, and compares θ
// after every step. Prints a line per rank.

import assert from "node:assert";
import { MTAdam } from "../../../dist/index.mjs";
import { connectMpi } from "../../../dist/distributed/index.mjs";
import { digest } from "./common.mjs";

const comm = await connectMpi();
const SHAPES = { first: [90, 50], empty: 0, second: 4096, third: [2, 4100], last: 3 };
const NAMES = Object.keys(SHAPES);
const elements = (shape) => [shape].flat().reduce((product, dimension) => product * dimension, 1);
/** Whole numbers: sums of them are exact in any order. */
const valueOf = (step, term, rank, k) => (((k + 1) * (term + 3) * (rank + 7) + step) % 19) - 9;
let comparisons = 0;
for (const shard of ["none", "state"]) {
  for (const reduction of ["library", "ordered"]) {
    const terms = ["fit", "size"];
    const { parameters, gradients } = comm.flat(SHAPES, { terms });
    assert.deepStrictEqual(
      parameters.map(({ name, data, shape }) => [name, data.length, shape]),
      NAMES.map((name) => [name, elements(SHAPES[name]), [SHAPES[name]].flat()]),
    );
    const lists = [parameters.map(({ data }) => data), ...terms.map((term) => gradients[term])];
    for (const list of lists) {
      assert.strictEqual(new Set(list.map(({ buffer }) => buffer)).size, 1);
      list.reduce(
        (end, { byteOffset, byteLength }) => (assert.strictEqual(byteOffset, end), end + byteLength),
        0,
      );
    }
    const options = { terms, lr: 1e-2, preset: "recommended" };
    const optimizer = new MTAdam(parameters, { ...options, distributed: comm, shard, reduction });
    const alone = NAMES.map((name) => new Float32Array(elements(SHAPES[name])));
    const reference = new MTAdam(alone, options);
    for (let step = 0; step < 4; ++step) {
      const sums = terms.map((name, term) =>
        alone.map((values, tensor) => {
          gradients[name][tensor].forEach(
            (_, k, own) => (own[k] = valueOf(step, term, comm.rank, k + tensor)),
          );
          return values.map((_, k) =>
            Array.from({ length: comm.size }, (_, rank) => valueOf(step, term, rank, k + tensor)).reduce(
              (a, b) => a + b,
            ),
          );
        }),
      );
      const given = digest(terms.flatMap((name) => gradients[name]));
      optimizer.step(gradients);
      reference.step(sums, { gradientScale: comm.size });
      assert.strictEqual(digest(terms.flatMap((name) => gradients[name])), given);
      assert.strictEqual(digest(lists[0]), digest(alone), `${shard}, ${reduction}, step ${step}`);
      comparisons += 1;
    }
  }
}
const { gradients } = comm.flat([3, [2, 2]], { terms: 2 });
assert.deepStrictEqual(
  gradients,
  [0, 1].map(() => [new Float32Array(3), new Float32Array(4)]),
);
const refused = (shapes, options, code, message) =>
  assert.throws(() => comm.flat(shapes, options), { code: `ERR_MTADAM_${code}`, message });
refused(3, { terms: 1 }, "OPTION", "`shapes` must be an array or an object by name; got 3.");
refused([1, -1], { terms: 1 }, "OPTION", "`shapes[1]` must be a whole number or a list of them; got -1.");
refused({ a: "b" }, { terms: 1 }, "OPTION", '`shapes["a"]` must be a list of whole numbers; got "b".');
refused(
  [1],
  undefined,
  "OPTION",
  /^`terms` must be a whole number from 1 to 65536 or a list of names; got undefined\.$/,
);
refused([1], { terms: 1, device: "cpu" }, "OPTION", /^`options` has no option "device"/);
refused(
  [2 ** 50],
  { terms: 1 },
  "OUT_OF_MEMORY",
  /^There is not enough memory for an array of 1125899906842624 float32/,
);
console.log(
  JSON.stringify({ rank: comm.rank, size: comm.size, library: comm.library, comparisons, digest: "" }),
);
