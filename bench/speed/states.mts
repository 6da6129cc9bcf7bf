import { MTAdam, openDevice, type MTAdamOptions } from "mtadam";
import { textTable } from "../../examples/common/table.mjs";
import { STATES } from "../common/states.mjs";

const ELEMENTS = 1 << 23;
const SECONDS = 5;

/** Returns a function that takes a step and returns its milliseconds. */
function stepper(options: Partial<MTAdamOptions>, terms: number): () => number {
  const optimizer = new MTAdam([new Float32Array(ELEMENTS).fill(0.5)], { ...options, terms });
  const gradients = optimizer.prepare(
    Array.from({ length: terms }, (_, term) => [new Float32Array(ELEMENTS).fill(0.01 * (term + 1))]),
  );
  return () => {
    const start = performance.now();
    optimizer.step(gradients);
    return performance.now() - start;
  };
}

/**
 * Prints how long a step takes with moments of each type and form: the least times of steps that alternate with steps
 * of float32 per term, and their ratio.
 */
export function compareStates(terms: readonly number[], threads: number): void {
  const device = openDevice("cpu", { threads });
  const rows = terms.flatMap((count) => {
    const usual = stepper({ device }, count);
    return STATES.map(({ stateDtype, form, options }) => {
      const steps = [usual, stepper({ ...options, device }, count)];
      const least = steps.map(() => Infinity);
      const end = performance.now() + SECONDS * 1000;
      while (performance.now() < end) {
        for (const [k, step] of steps.entries()) least[k] = Math.min(least[k]!, step());
      }
      const [before, time] = least as [number, number];
      return [String(count), stateDtype, form, time.toFixed(1), (time / before).toFixed(2)];
    });
  });
  console.log(textTable([["terms", "stateDtype", "moments", "ms", "of float32 per term"], ...rows]));
}
