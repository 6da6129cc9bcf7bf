import { describeValue } from "./inspect";

/** Every code of this package. {@link MTAdamError.code} is one of them. */
export type MTAdamErrorCode =
  | "ERR_MTADAM_LOAD"
  | "ERR_MTADAM_NO_DEVICE"
  | "ERR_MTADAM_DRIVER"
  | "ERR_MTADAM_HOST_POINTER"
  | "ERR_MTADAM_INVALID_POINTER"
  | "ERR_MTADAM_LENGTH"
  | "ERR_MTADAM_DTYPE"
  | "ERR_MTADAM_OPTION"
  | "ERR_MTADAM_TERM"
  | "ERR_MTADAM_STATE"
  | "ERR_MTADAM_BUSY"
  | "ERR_MTADAM_DISPOSED"
  | "ERR_MTADAM_OUT_OF_MEMORY"
  | "ERR_MTADAM_CUDA"
  | "ERR_MTADAM_CHECKPOINT"
  | "ERR_MTADAM_TORCH"
  | "ERR_MTADAM_DISTRIBUTED";

type ShortCode = MTAdamErrorCode extends `ERR_MTADAM_${infer Short}` ? Short : never;

/** @internal */
export interface MTAdamErrorOptions extends ErrorOptions {
  cudaError?: string | undefined;
  operation?: string | undefined;
}

/**
 * The error class of this package. A call that throws it has changed nothing, with two exceptions. After `stepEach`, the
 * terms that had come are part of the open step. After a load or a step on CUDA that failed midway, other calls are STATE
 * until the whole state is restored.
 */
export class MTAdamError extends Error {
  readonly code: MTAdamErrorCode;
  // Only declared, so that errors without a value have no such property.
  /** The name of the CUDA error, if any. */
  declare readonly cudaError?: string;
  /** The CUDA call that failed, if any. */
  declare readonly operation?: string;

  constructor(code: ShortCode, message: string, options: MTAdamErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = `ERR_MTADAM_${code}`;
    if (options.cudaError !== undefined) this.cudaError = options.cudaError;
    if (options.operation !== undefined) this.operation = options.operation;
  }

  static {
    // On the prototype, as for built-in errors: not a property of each error.
    Object.defineProperty(this.prototype, "name", {
      value: "MTAdamError",
      configurable: true,
      writable: true,
    });
  }
}

/** The subject of a message, as the user wrote it; a function if it is costly to build. */
export type Named = string | (() => string);

export function nameOf(named: Named): string {
  return typeof named === "string" ? named : named();
}

/**
 * "`subject` must be …; got …." — the one sentence of an argument error.
 *
 * @param subject the invalid argument, as the user wrote it
 * @param rule the requirement, completing "must"
 */
export function mustBe(code: ShortCode, subject: Named, rule: string, value: unknown): MTAdamError {
  return new MTAdamError(code, `\`${nameOf(subject)}\` must ${rule}; got ${describeValue(value)}.`);
}

/** Codes that the addon may use. By key, so that the compiler misses one that is left out. */
const NATIVE_CODES: Readonly<Record<Exclude<ShortCode, "LOAD">, true>> = {
  NO_DEVICE: true,
  DRIVER: true,
  HOST_POINTER: true,
  INVALID_POINTER: true,
  LENGTH: true,
  DTYPE: true,
  OPTION: true,
  TERM: true,
  STATE: true,
  BUSY: true,
  DISPOSED: true,
  OUT_OF_MEMORY: true,
  CUDA: true,
  CHECKPOINT: true,
  TORCH: true,
  DISTRIBUTED: true,
};

/** An error of the addon: an Error with some of these fields. */
export interface NativeError {
  code?: unknown;
  message?: unknown;
  cudaError?: string;
  operation?: string;
  /** The index of the parameter, or of the pair of gradients, that it is about. */
  index?: number;
  role?: "target" | "source";
}

/** The name of the pointer that a call is about. */
export type Subject = string | ((error: NativeError) => string);

/** Converts an error of the addon with a code to an MTAdamError; returns other errors unchanged. */
function translated(error: unknown, subject?: Subject): unknown {
  const native = error as NativeError;
  const { code, message, cudaError, operation } = native;
  if (code === undefined && BAD_ALLOC.has(message)) {
    return new MTAdamError("OUT_OF_MEMORY", "There is not enough memory on the CPU.", { cause: error });
  }
  if (typeof code !== "string" || !Object.hasOwn(NATIVE_CODES, code)) return error;
  const named = subject !== undefined && POINTER_CODES.has(code);
  const name = typeof subject === "function" ? subject(native) : subject;
  const text = named ? `\`${name}\` ${String(message)}` : String(message);
  return new MTAdamError(code as ShortCode, text, { cause: error, cudaError, operation });
}

/**
 * The messages of std::bad_alloc in the standard libraries. The addon passes them on where it does not catch the
 * exception.
 */
const BAD_ALLOC: ReadonlySet<unknown> = new Set(["std::bad_alloc", "bad allocation"]);

/** Codes of errors about an address, whose name in the user's code the addon does not know. */
const POINTER_CODES: ReadonlySet<string> = new Set<ShortCode>(["HOST_POINTER", "INVALID_POINTER"]);

/**
 * Calls into native code; a coded error of the addon becomes an MTAdamError.
 *
 * @param subject the start of a message about a pointer, which the addon cannot know
 */
export function fromNative<T>(call: () => T, subject?: Subject): T {
  try {
    return call();
  } catch (error) {
    throw translated(error, subject);
  }
}

/** The same for a promise of native code. */
export async function fromNativePromise(promise: Promise<void> | undefined): Promise<void> {
  try {
    await promise;
  } catch (error) {
    throw translated(error);
  }
}
