import { checkKeys } from "../arguments";
import { mustBe } from "../errors";
import { isArray, isRecord } from "../inspect";
import { finite32 } from "../options";
import { Names } from "../per-name";
import { checkTerms } from "../term-names";

/** A finished training from the table given as `resume`. */
export interface DoneRow {
  weights: readonly number[];
  steps: number;
  loss: number;
}

/** The options of `tuneWeights`, checked and with defaults. */
export interface CheckedTuneOptions {
  terms: Names;
  /** Whether weights are by name: the terms were given by name. */
  byName: boolean;
  values: readonly number[];
  budget: number;
  steps: number;
  seed: number;
  onProgress: ((progress: unknown) => unknown) | undefined;
  done: readonly DoneRow[];
}

const KEYS = ["terms", "values", "budget", "steps", "seed", "onProgress", "resume"];

/** The default budget, in full trainings. */
const TRAININGS = 12;
const STEPS = 1000;

/** With more values, listing the combinations would take seconds. */
const MOST_VALUES = 32;

/** @throws MTAdamError OPTION, and LENGTH or TERM for the weights in `resume` */
export function checkTuneOptions(value: unknown): CheckedTuneOptions {
  const given = checkKeys<Record<string, unknown>>("options", value, KEYS);
  const terms = new Names("term", checkTerms(given["terms"]));
  const { steps, budget } = checkExtent(given["steps"], given["budget"]);
  const { onProgress } = given;
  if (onProgress !== undefined && typeof onProgress !== "function") {
    throw mustBe("OPTION", "onProgress", "be a function", onProgress);
  }
  return {
    terms,
    byName: typeof given["terms"] !== "number",
    values: checkValues(given["values"]),
    budget,
    steps,
    seed: given["seed"] === undefined ? 0 : wholeNumber("seed", given["seed"], 0),
    onProgress: onProgress as CheckedTuneOptions["onProgress"],
    done: checkDone(given["resume"], terms),
  };
}

/** If one of steps and budget is left out, it follows from the other. */
function checkExtent(givenSteps: unknown, givenBudget: unknown): { steps: number; budget: number } {
  const known = givenSteps === undefined ? undefined : wholeNumber("steps", givenSteps, 1);
  const budget =
    givenBudget === undefined
      ? TRAININGS * (known ?? STEPS)
      : wholeNumber("budget", givenBudget, known ?? 1, known === undefined ? "" : ", the option `steps`");
  return { steps: known ?? Math.max(1, Math.floor(budget / TRAININGS)), budget };
}

function wholeNumber(name: string, value: unknown, least: number, whatLeastIs = ""): number {
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
  throw mustBe("OPTION", name, `be a whole number of at least ${least}${whatLeastIs}`, value);
}

function checkValues(value: unknown): readonly number[] {
  if (value === undefined) return [0.1, 1, 10];
  if (!isArray(value) || value.length === 0 || value.length > MOST_VALUES) {
    throw mustBe("OPTION", "values", `be a list of 1 to ${MOST_VALUES} weights`, value);
  }
  return Array.from(value, (one) => checkWeight("values", one));
}

function checkDone(value: unknown, terms: Names): readonly DoneRow[] {
  if (value === undefined) return [];
  if (!isArray(value)) throw mustBe("OPTION", "resume", "be the table of a search", value);
  return Array.from(value, (row) => {
    if (!isRecord(row)) throw mustBe("OPTION", "resume", "be a list of the rows of a table", row);
    const { weights, steps, loss } = row;
    return {
      weights: Array.from(terms.read("resume[…].weights", weights), (weight) =>
        checkWeight("resume[…].weights", weight),
      ),
      steps: wholeNumber("resume[…].steps", steps, 1),
      loss: checkLoss("resume[…].loss", "be", loss === null ? NaN : loss), // JSON has no NaN
    };
  });
}

/** @throws MTAdamError OPTION */
export function checkLoss(subject: string, verb: string, value: unknown): number {
  if (typeof value === "number") return value;
  throw mustBe("OPTION", subject, `${verb} a number`, value);
}

function checkWeight(subject: string, value: unknown): number {
  if (finite32(value) && value > 0) return value;
  throw mustBe("OPTION", subject, "be finite numbers above 0, also when rounded to float32", value);
}
