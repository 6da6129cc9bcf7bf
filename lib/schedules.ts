import { checkKeys } from "./arguments";
import { mustBe } from "./errors";
import { checkLearningRate, finite32, type LearningRate } from "./options";

/** How long a schedule takes, and where it ends. */
export interface ScheduleOptions {
  /** The steps after which the rate is `end`, and stays there; at least 1. */
  steps: number;
  /** The last rate. Default: 0 for `cosine`; `exponential` needs it. */
  end?: number | undefined;
}

/**
 * Rises linearly for `steps` steps, then continues with `next`, which counts its steps from there: step i, from 0, has
 * (i + 1) / (steps + 1) of the first rate of `next`.
 *
 * @example
 * optimizer.lr = warmup(1000, cosine(3e-3, { steps: 20_000, end: 1e-5 })); // ends after 21,000 steps
 *
 * @param next a learning rate or a schedule
 * @throws MTAdamError OPTION
 */
export function warmup(steps: number, next: number | LearningRate): LearningRate {
  const length = checkSteps(steps);
  const after = checkLearningRate(next, "next");
  const rate = (i: number): number => (typeof after === "function" ? after(i) : after);
  return (iterations) =>
    iterations < length ? (rate(0) * (iterations + 1)) / (length + 1) : rate(iterations - length);
}

/**
 * Falls from `lr` to `end` along half a period of the cosine: end + (lr − end) · (1 + cos(π · i / steps)) / 2.
 *
 * @throws MTAdamError OPTION
 */
export function cosine(lr: number, options: ScheduleOptions): LearningRate {
  const { first, end, steps } = check(lr, options, 0);
  return (iterations) => {
    if (iterations >= steps) return end;
    const share = (1 + Math.cos((Math.PI * iterations) / steps)) / 2;
    return first * share + end * (1 - share);
  };
}

/**
 * Falls from `lr` to `end` by the same factor in every step: lr · (end / lr)^(i / steps). Both must be above 0.
 *
 * @throws MTAdamError OPTION
 */
export function exponential(lr: number, options: ScheduleOptions): LearningRate {
  const { first, end, steps } = check(lr, options, undefined);
  if (first === 0) throw mustBe("OPTION", "lr", "be above 0 for `exponential`", first);
  if (end === 0) throw mustBe("OPTION", "end", "be above 0 for `exponential`", end);
  const ratio = Math.log(end) - Math.log(first); // the quotient may overflow
  return (iterations) => (iterations >= steps ? end : first * Math.exp((ratio * iterations) / steps));
}

function check(lr: unknown, options: unknown, otherwise: number | undefined) {
  const given = checkKeys<ScheduleOptions>("options", options, ["steps", "end"]);
  const { steps, end = otherwise } = given;
  return { first: checkRate("lr", lr), end: checkRate("end", end), steps: checkSteps(steps) };
}

function checkRate(name: string, value: unknown): number {
  if (finite32(value) && value >= 0) return value;
  throw mustBe("OPTION", name, "be a finite number of at least 0, also when it is rounded to float32", value);
}

function checkSteps(value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) >= 1) return value as number;
  throw mustBe("OPTION", "steps", "be a whole number of at least 1", value);
}
