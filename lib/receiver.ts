import { types } from "node:util";
import { mustBe } from "./errors";
import { customInspect } from "./inspect";

type Method = (this: unknown, ...values: unknown[]) => unknown;

/**
 * Makes the methods, getters and setters of a class throw a coded error if `this` is not an object of the class. A
 * proxy lacks the private fields of its object: without this check, V8 would throw a TypeError about a field that no
 * user knows.
 */
export function checkReceivers(
  className: `${"a" | "an"} ${string}`,
  prototype: object,
  isOwn: (receiver: unknown) => boolean,
): void {
  for (const key of Reflect.ownKeys(prototype)) {
    if (key === "constructor") continue;
    const property = Object.getOwnPropertyDescriptor(prototype, key)!;
    for (const part of ["value", "get", "set"] as const) {
      const method = Reflect.get(property, part) as Method | undefined;
      if (method === undefined) continue;
      const isAsync = types.isAsyncFunction(method);
      const checked: Method = function (...values) {
        if (isOwn(this)) return method.apply(this, values);
        // console.log must not throw.
        if (key === customInspect) return `[${className.split(" ")[1]}]`;
        const error = mustBe(
          "OPTION",
          "this",
          `be ${className} of this copy of the package, not a proxy of one`,
          this,
        );
        if (isAsync) return Promise.reject(error);
        throw error;
      };
      Object.defineProperties(checked, { name: { value: method.name }, length: { value: method.length } });
      property[part] = checked;
    }
    Object.defineProperty(prototype, key, property);
  }
}
