import { MTAdam } from "mtadam";

// Two losses pull a point (x, y) to two corners. The second loss is a thousand times as large.
//   left = (x − 1)² + y²    right = 1000 · (x² + (y − 1)²)
const point = new Float32Array(2); // updated in place
const optimizer = new MTAdam([{ name: "point", data: point }], {
  terms: ["left", "right"],
  preset: "recommended", // the default, "paper", balances as the authors' code does
  lr: 0.01,
});

// For comparison: with one term, MTAdam is Adam. It gets the gradient of the sum.
const other = new Float32Array(2);
const adam = new MTAdam([{ name: "other", data: other }], { terms: ["sum"], lr: 0.01 });

for (let step = 0; step < 500; ++step) {
  // Your framework computes one gradient per loss term and parameter, as Float32Arrays.
  const left = point.map((value, axis) => 2 * (value - (axis === 0 ? 1 : 0)));
  const right = point.map((value, axis) => 2000 * (value - (axis === 1 ? 1 : 0)));
  optimizer.step({ left: [left], right: [right] });

  const sum = other.map((value, axis) => 2002 * value - (axis === 0 ? 2 : 2000));
  adam.step({ sum: [sum] });
}

const { terms, norms, scales } = await optimizer.diagnostics();
for (const [k, term] of terms.entries()) {
  console.log(
    `${term}: gradients of norm ${norms[k]?.toPrecision(3)}, scaled by ${scales[k]?.toPrecision(3)}`,
  );
}
console.log(`MTAdam ends at ${[...point].map((value) => value.toFixed(2)).join(", ")}: between the corners`);
console.log(`Adam ends at ${[...other].map((value) => value.toFixed(2)).join(", ")}: at the corner of right`);
