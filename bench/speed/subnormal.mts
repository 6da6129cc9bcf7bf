import { MTAdam, openDevice } from "mtadam";
import { textTable } from "../../examples/common/table.mjs";

const ELEMENTS = [1000, 16_384, 65_536, 1 << 20, 1 << 23];
const TERMS = [1, 3];
const SECONDS = 2;

/** Returns a function that takes a step and returns its milliseconds. */
function stepper(elements: number, terms: number, gradient: number, threads: number): () => number {
  const options = { terms, device: openDevice("cpu", { threads }) };
  const optimizer = new MTAdam([new Float32Array(elements).fill(0.5)], options);
  const gradients = optimizer.prepare(
    Array.from({ length: terms }, () => [new Float32Array(elements).fill(gradient)]),
  );
  return () => {
    const start = performance.now();
    optimizer.step(gradients);
    return performance.now() - start;
  };
}

/** Prints how long a step takes with subnormal gradients and with others: the least times of alternate steps. */
export function compareSubnormal(threads: number): void {
  const rows = TERMS.flatMap((terms) =>
    ELEMENTS.map((elements) => {
      const steps = [0.01, 1e-40].map((gradient) => stepper(elements, terms, gradient, threads));
      const least = steps.map(() => Infinity);
      const end = performance.now() + SECONDS * 1000;
      while (performance.now() < end) {
        for (const [k, step] of steps.entries()) least[k] = Math.min(least[k]!, step());
      }
      const [ordinary, subnormal] = least as [number, number];
      const micros = least.map((milliseconds) => (milliseconds * 1000).toFixed(1));
      return [String(elements), String(terms), ...micros, (subnormal / ordinary).toFixed(2)];
    }),
  );
  console.log(textTable([["elements", "terms", "µs", "µs, subnormal", "ratio"], ...rows]));
}
