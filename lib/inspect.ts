import { types } from "node:util";

// Inspects untrusted values without running their code: the getters below belong to the language; no property,
// subclass, proxy or other realm can hide or imitate them.

/** `inspect.custom` of node:util, not imported because this package's types must not need Node's. */
export const customInspect: unique symbol = Symbol.for("nodejs.util.inspect.custom");

function reader(prototype: object, name: string | symbol): (object: unknown) => unknown {
  const property = Object.getOwnPropertyDescriptor(prototype, name);
  return (object) => property?.get?.call(object) as unknown;
}

const typedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;
const tagOf = reader(typedArrayPrototype, Symbol.toStringTag);
const bufferOf = reader(typedArrayPrototype, "buffer");
const offsetOf = reader(typedArrayPrototype, "byteOffset");
const bytesOf = reader(typedArrayPrototype, "byteLength");
const isResizable = reader(ArrayBuffer.prototype, "resizable");
const isGrowable = reader(SharedArrayBuffer.prototype, "growable");

/** "Float32Array" and so on; undefined for anything else. */
export function typedArrayName(value: unknown): string | undefined {
  return tagOf(value) as string | undefined;
}

// Not wrapped in a function: a step may read ten thousand lengths, and V8 inlines the getter only if it is a constant.
// eslint-disable-next-line @typescript-eslint/unbound-method
const lengthOf = Object.getOwnPropertyDescriptor(typedArrayPrototype, "length")!.get!;

/** The elements of a typed array; 0 once its buffer is detached. */
export function typedArrayLength(array: ArrayBufferView): number {
  return lengthOf.call(array) as number;
}

/** The memory of a typed array: its buffer, and the byte in it that the array begins at. */
export function typedArrayPlace(array: ArrayBufferView): { buffer: ArrayBufferLike; byteOffset: number } {
  return { buffer: bufferOf(array) as ArrayBufferLike, byteOffset: offsetOf(array) as number };
}

/** The same as bytes; none once its buffer is detached. */
export function typedArrayBytes(array: ArrayBufferView): Uint8Array {
  const { buffer, byteOffset } = typedArrayPlace(array);
  const bytes = bytesOf(array) as number;
  return bytes === 0 ? new Uint8Array() : new Uint8Array(buffer, byteOffset, bytes);
}

/** Whether a typed array lies over memory whose size may change. */
export function hasResizableBuffer(array: ArrayBufferView): boolean {
  const buffer = bufferOf(array);
  return (types.isSharedArrayBuffer(buffer) ? isGrowable(buffer) : isResizable(buffer)) === true;
}

/** An array, and not a proxy of one that was revoked (for which Array.isArray throws). */
export function isArray(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** A copy of an array by its length, since its iterator may be another than an array's. */
export function ownEntries(array: readonly unknown[]): unknown[] {
  return Array.from({ length: array.length }, (_, k) => array[k]);
}

/** Whether a value is a proxy that was revoked, with which one can do nothing. */
export function isRevoked(value: unknown): boolean {
  if (!types.isProxy(value)) return false;
  try {
    Array.isArray(value);
    return false;
  } catch {
    return true;
  }
}

/**
 * An object that holds values by key: an object literal, of any realm, or an instance of a class of yours with fields of
 * its own. Instances of built-in classes have another tag.
 */
export function isRecord(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null || isArray(value) || isRevoked(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === null || Object.getPrototypeOf(prototype) === null) return true;
  if (Object.prototype.toString.call(value) !== "[object Object]") return false;
  return Object.keys(value).length > 0 && namedPrototype(value) === undefined && !isTensor(value);
}

/**
 * A property of an object or of its class. Properties of Object.prototype read as undefined, since other code may have
 * added them to every object.
 */
export function propertyOf(object: object, key: string): unknown {
  if (key in Object.prototype && !Object.hasOwn(object, key)) return undefined;
  return (object as Record<string, unknown>)[key];
}

/** The key of the class's name on its prototype. All copies of the package in a process share the symbol. */
const CLASS_NAME = Symbol.for("mtadam.className");
/** The prototypes of this copy. */
const ownPrototypes = new WeakSet();

/** Names a class for messages about its objects, including messages of another copy of the package. */
export function nameClass(prototype: object, name: string): void {
  Object.defineProperty(prototype, CLASS_NAME, { value: name });
  ownPrototypes.add(prototype);
}

function namedPrototype(value: object): { name: string; isOwn: boolean } | undefined {
  if (types.isProxy(value)) return undefined;
  const prototype = Object.getPrototypeOf(value) as object | null;
  if (prototype === null || types.isProxy(prototype)) return undefined;
  const name: unknown = Object.getOwnPropertyDescriptor(prototype, CLASS_NAME)?.value;
  return typeof name === "string" ? { name, isOwn: ownPrototypes.has(prototype) } : undefined;
}

/** Whether another copy of the package in this process made an object: this copy cannot read its private fields. */
export function isOfAnotherCopy(value: unknown): boolean {
  return typeof value === "object" && value !== null && namedPrototype(value)?.isOwn === false;
}

/** For names of classes: "U" is spoken as in "you". */
const articleOf = (name: string): string => (/^[AEIO]/.test(name) ? "an" : "a");

/** Whether a class of the object has a method `dataSync`, as tensors of TensorFlow.js. */
function isTensor(value: object): boolean {
  for (let at: unknown = value; typeof at === "object" && at !== null; at = Object.getPrototypeOf(at)) {
    if (types.isProxy(at)) return false;
    if (typeof Object.getOwnPropertyDescriptor(at, "dataSync")?.value === "function") return true;
  }
  return false;
}

/** A short description of a value for messages. Contains no address. */
export function describeValue(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
    case "number":
      return Object.is(value, -0) ? "-0" : String(value);
    case "bigint":
      return "a bigint";
    case "symbol":
      return "a symbol";
    case "function":
      return "a function";
    case "object": {
      if (value === null) return "null";
      const name = typedArrayName(value);
      if (name !== undefined) {
        return `${articleOf(name)} ${name} of ${typedArrayLength(value as ArrayBufferView)}`;
      }
      if (types.isProxy(value)) return "a proxy";
      if (types.isPromise(value)) return "a Promise (await it)";
      if (isArray(value)) return `an array of ${value.length}`;
      const named = namedPrototype(value);
      if (named === undefined) return isTensor(value) ? "a Tensor (pass its `dataSync()`)" : "an object";
      return `${articleOf(named.name)} ${named.name}${named.isOwn ? "" : " of another copy of mtadam"}`;
    }
    default:
      return String(value);
  }
}
