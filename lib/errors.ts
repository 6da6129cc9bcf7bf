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

/** What this package throws. Nothing was changed by the call that threw it. */
export class MTAdamError extends Error {
  readonly code: MTAdamErrorCode;
  /** The name of the CUDA error, where there was one. */
  readonly cudaError?: string;
  /** The CUDA call that failed, where one did. */
  readonly operation?: string;

  constructor(code: ShortCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = `ERR_MTADAM_${code}`;
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

/** Calls into native code; a coded error of the addon becomes an MTAdamError. */
export function fromNative<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { code, message } = error as { code?: unknown; message?: unknown };
    if (typeof code === "string" && SHORT_CODES.has(code)) {
      throw new MTAdamError(code as ShortCode, String(message), { cause: error });
    }
    throw error;
  }
}
