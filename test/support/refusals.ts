/**
 * Tests that an invalid call throws an MTAdamError with its code and one sentence, and changes nothing.
 */

import { inspect } from "node:util";
import { MTAdam, MTAdamError, type MTAdamErrorCode } from "../../lib";
import type { Device } from "../../lib/memory/device";
import { contents, inArray, inBuffer, Scene, type Buffer32, type Make, type Tensor } from "./scene";

export const buffer = inBuffer;
export const array = inArray;

/** A scene after one step: its state is not empty, so that a change by a refused call shows. */
export class Subject<T extends Tensor = Buffer32> extends Scene<T> {
  readonly g = this.gradients();

  constructor(make: Make<T>) {
    super(make);
    this.optimizer.step([this.g, [this.g[0], null]]);
  }
}

export const onDevice = (): Subject => new Subject(inBuffer);
export const inArrays = (): Subject<Float32Array> => new Subject(inArray);

/** Everything that a call can change. If the state cannot be read, the error's code replaces it. */
export async function everything({ optimizer, w, b, g }: Subject<Tensor>): Promise<unknown> {
  return {
    tensors: await Promise.all([w, b, ...g].map(contents)),
    state: await optimizer.stateDict().catch((error: unknown) => (error as MTAdamError).code),
    iterations: optimizer.iterations,
    weights: [...optimizer.weights],
    groups: inspect(optimizer.paramGroups),
  };
}

export async function thrownBy(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

export function checkError(error: unknown, code: MTAdamErrorCode): asserts error is MTAdamError {
  expect(error).toBeInstanceOf(MTAdamError);
  const { name, message, code: actual } = error as MTAdamError;
  expect({ name, code: actual, message }).toEqual({ name: "MTAdamError", code, message });
  // One sentence: it ends in a period, and no other sentence ends before.
  expect(message).toMatch(/[^.]\.$/);
  expect(message).not.toMatch(/[.?!]\s/);
  // No address, in hexadecimal or in decimal.
  expect(message).not.toMatch(/0x[0-9a-f]+|\d{9,}/i);
}

export interface Refusal<S> {
  what: string;
  /** Matches the message. */
  says: RegExp;
  /** Runs before the call: a misuse that only the next step can detect. */
  given?: (subject: S) => unknown;
  call: (subject: S) => unknown;
  /** Detected by native code only: the error has a cause. */
  fromBelow?: boolean;
}

export function refusal<S extends Subject<Tensor> = Subject>(
  what: string,
  says: RegExp,
  call: (subject: S) => unknown,
  given?: (subject: S) => unknown,
): Refusal<S> {
  return { what, says, call, ...(given === undefined ? {} : { given }) };
}

/** A test per case. */
export function refuses<S extends Subject<Tensor>>(
  code: MTAdamErrorCode,
  make: () => S,
  cases: readonly Refusal<S>[],
): void {
  test.each(cases.map((one) => [one.what, one] as const))(`${code}: %s`, async (_, one) => {
    const subject = make();
    await one.given?.(subject);
    const before = await everything(subject);
    const error = await thrownBy(() => one.call(subject));
    expect(await everything(subject)).toEqual(before);
    checkError(error, code);
    expect(error.message).toMatch(one.says);
    // Checked in TypeScript: an error of native code would be the cause.
    if (one.fromBelow !== true) expect(error.cause).toBeUndefined();
  });
}

export const write = (value: unknown): string => inspect(value, { breakLength: Infinity, depth: 2 });

/** An optimizer with options of any type. */
export const withOptions = (options: object): MTAdam =>
  new MTAdam([buffer(1)], { terms: ["a", "b"], ...options });

export const withParameters = (parameters: unknown, device?: Device): MTAdam =>
  new MTAdam(parameters as Buffer32[], { terms: 1, ...(device && { device }) });

export const notNumbers = [NaN, Infinity, -Infinity, "1", 1n, null, true, [], {}, Symbol("one")];
