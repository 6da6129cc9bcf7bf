import { existsSync, statSync } from "node:fs";
import { checkKeys } from "../arguments";
import { Place } from "../checkpoint/path";
import { MTAdamError, mustBe } from "../errors";
import { isArray, isRecord } from "../inspect";
import { isDevice, type Device } from "../memory/device";
import type { PythonValue } from "./wire";

/** The part of an `AbortSignal` that is used, so that the types need neither Node's nor a browser's. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason: unknown;
  throwIfAborted(): void;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** Arguments of a call in Python: a list in order, or an object by keyword. */
export type PythonArguments = readonly PythonValue[] | Readonly<Record<string, PythonValue>>;

/** Options of {@link openTorch}. */
export interface TorchOptions {
  /** A Python with PyTorch 1.10 or newer: a program on the PATH, or its path. Default "python3". */
  python?: string | undefined;
  /** The arguments of `Model`. */
  args?: PythonArguments | undefined;
  /** The working directory of the process. Default: that of this process. */
  cwd?: string | undefined;
  /** Environment variables besides those of this process. */
  env?: Readonly<Record<string, string>> | undefined;
  /** Gets what the process writes to stderr. Default: it is written to this process' stderr. */
  onStderr?: ((text: string) => void) | undefined;
  /** Ends the opening. */
  signal?: AbortSignalLike | undefined;
}

/** Options of {@link openTorch} for a model on a CUDA device. */
export interface TorchDeviceOptions extends TorchOptions {
  /**
   * The device of the model's parameters, such as `openDevice("cuda")`: the same GPU as in Python. Parameters and
   * gradients are then buffers of this device.
   */
  device: Device;
}

/** Options of a call of the model. */
export interface TorchCallOptions {
  /** Interrupts the call (KeyboardInterrupt in Python); the promise rejects with the signal's reason. */
  signal?: AbortSignalLike | undefined;
}

/** Options of `model.gradients`. */
export interface TorchGradientsOptions extends TorchCallOptions {
  /** The terms whose gradients are computed. Default: all. */
  terms?: readonly string[] | undefined;
  /** The names of the parameters that gradients are computed for. Default: all. */
  parameters?: readonly string[] | undefined;
  /**
   * Whether to add to the gradients of the calls before, for micro-batches: false in the first, true in the others. A
   * gradient is absent only if it was absent in all of them. Default false.
   */
  add?: boolean | undefined;
}

export interface CheckedOptions {
  file: string;
  python: string;
  args: PythonArguments;
  cwd: string | undefined;
  env: Readonly<Record<string, string>>;
  onStderr: (text: string) => void;
  signal: AbortSignalLike | undefined;
  device: Device | undefined;
}

/** @throws MTAdamError OPTION */
export function checkOptions(file: unknown, options: unknown): CheckedOptions {
  const given = checkKeys<Record<keyof TorchDeviceOptions, unknown>>("options", options, [
    "python",
    "args",
    "cwd",
    "env",
    "onStderr",
    "signal",
    "device",
  ]);
  const { python = "python3", args = [], cwd, env = {}, signal, device } = given;
  const { onStderr = (text: string) => void process.stderr.write(text) } = given;
  if (typeof python !== "string" || python === "" || python.includes("\0")) {
    throw mustBe("OPTION", "python", "be the name or the path of a program", python);
  }
  if (cwd !== undefined && !(typeof cwd === "string" && isFolder(cwd))) {
    throw mustBe("OPTION", "cwd", "be the path of a folder that exists", cwd);
  }
  if (!isRecord(env) || !Object.values(env).every((value) => typeof value === "string")) {
    throw mustBe("OPTION", "env", "be an object of strings", env);
  }
  if (typeof onStderr !== "function") throw mustBe("OPTION", "onStderr", "be a function", onStderr);
  if (device !== undefined && !(isDevice(device) && device.kind === "cuda")) {
    throw mustBe("OPTION", "device", "be a CUDA device from `openDevice`", device);
  }
  return {
    file: checkFile(file),
    python,
    args: checkArguments("args", args),
    cwd,
    env: env as Readonly<Record<string, string>>,
    onStderr: onStderr as (text: string) => void,
    signal: checkSignal(signal),
    device,
  };
}

function isFolder(path: string): boolean {
  return !path.includes("\0") && statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function checkFile(file: unknown): string {
  const path = Place.of(file, "file").string("file");
  if (!existsSync(path))
    throw new MTAdamError("OPTION", `\`file\` must be a Python file; ${path} does not exist.`);
  return path;
}

/** @throws MTAdamError OPTION */
export function checkArguments(subject: string, args: unknown): PythonArguments {
  if (isArray(args) || isRecord(args)) return args as PythonArguments;
  throw mustBe("OPTION", subject, "be a list of arguments, or an object of them by keyword", args);
}

/** @throws MTAdamError OPTION */
export function checkSignal(signal: unknown): AbortSignalLike | undefined {
  if (signal === undefined) return undefined;
  const given = (signal ?? {}) as Partial<AbortSignalLike>;
  const methods = [given.throwIfAborted, given.addEventListener, given.removeEventListener];
  if (typeof given.aborted === "boolean" && methods.every((method) => typeof method === "function")) {
    return signal as AbortSignalLike;
  }
  throw mustBe("OPTION", "signal", "be an AbortSignal", signal);
}
