import { describeValue } from "./inspect";

/** Every code of this package. {@link MTAdamError.code} is one of them. */
export type MTAdamErrorCode =
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
  | "ERR_MTADAM_CHECKPOINT";

type ShortCode = MTAdamErrorCode extends `ERR_MTADAM_${infer Short}` ? Short : never;

/** @internal */
export interface MTAdamErrorOptions extends ErrorOptions {
  cudaError?: string | undefined;
  operation?: string | undefined;
}

/**
 * What this package throws. Nothing was changed by the call that threw it (but for a `load` that breaks off in the middle).
 */
export class MTAdamError extends Error {
  readonly code: MTAdamErrorCode;
  /** The name of the CUDA error, where there was one. */
  readonly cudaError?: string;
  /** The CUDA call that failed, where one did. */
  readonly operation?: string;

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

/**
 * "`subject` must be …; got …." — the one sentence of an argument error.
 *
 * @param subject what was wrong, as the user wrote it
 * @param rule what it must be, completing "must be" or "must have"
 */
export function mustBe(code: ShortCode, subject: string, rule: string, value: unknown): MTAdamError {
  return new MTAdamError(code, `\`${subject}\` must ${rule}; got ${describeValue(value)}.`);
}

const SHORT_CODES: ReadonlySet<string> = new Set<ShortCode>([
  "NO_DEVICE",
  "DRIVER",
  "HOST_POINTER",
  "INVALID_POINTER",
  "LENGTH",
  "DTYPE",
  "OPTION",
  "TERM",
  "STATE",
  "BUSY",
  "DISPOSED",
  "OUT_OF_MEMORY",
  "CUDA",
  "CHECKPOINT",
]);

/** What the addon throws: Error with some of these. */
interface NativeError {
  code?: unknown;
  message?: unknown;
  cudaError?: string;
  operation?: string;
}

/**
 * A coded error of the addon as an MTAdamError; anything else as it is.
 *
 * @param subject what the message begins with, where the addon leaves that to its caller
 */
function translated(error: unknown, subject = ""): unknown {
  const { code, message, cudaError, operation } = error as NativeError;
  if (typeof code !== "string" || !SHORT_CODES.has(code)) return error;
  const text = POINTER_CODES.has(code) ? `${subject}${String(message)}` : String(message);
  return new MTAdamError(code as ShortCode, text, { cause: error, cudaError, operation });
}

/** The addon knows an address, but not what the user calls it. */
const POINTER_CODES: ReadonlySet<string> = new Set<ShortCode>(["HOST_POINTER", "INVALID_POINTER"]);

/**
 * Calls into native code; a coded error of the addon becomes an MTAdamError.
 *
 * @param subject the name of the pointer that the call is about
 */
export function fromNative<T>(call: () => T, subject?: string): T {
  try {
    return call();
  } catch (error) {
    throw translated(error, subject === undefined ? "" : `\`${subject}\` `);
  }
}

/** The same for what native code promises. */
export async function fromNativePromise(promise: Promise<void> | undefined): Promise<void> {
  try {
    await promise;
  } catch (error) {
    throw translated(error);
  }
}
