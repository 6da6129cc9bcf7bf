import { Buffer } from "node:buffer";
import { spawn, type ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import path from "node:path";
import { native } from "../addon/native";
import { packageRoot } from "../addon/system";
import { MTAdamError } from "../errors";
import { Channel } from "./channel";
import type { AbortSignalLike, CheckedOptions } from "./options";
import { encode } from "./wire";

/** How much of what the process writes to stderr an error shows: the last characters. */
const SHOWN_STDERR = 4000;
/** Milliseconds for the process to end by itself, and for an interrupted call to answer; then it is killed. */
const PATIENCE = 5000;
/** Milliseconds after the end for the rest of stderr, which a process that the model started may hold open. */
const STDERR_PATIENCE = 200;

interface PythonError {
  type: string;
  message: string;
  line: number | null;
  traceback: string;
}

interface Answer {
  value?: unknown;
  error?: { refusal: string } | { interrupted: true } | PythonError;
}

interface Request {
  /** The name of the call in the user's code, for messages. */
  subject: string;
  /** Held until it has settled, so that it is not collected. */
  owner: object | undefined;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
  signal: AbortSignalLike | undefined;
}

/** End processes if this thread is terminated, where no JavaScript runs. */
const guards = new WeakMap<ChildProcess, object>();

/**
 * The Python process of a model (host.py). It ends with this process and with this thread, however they end: the kernel
 * kills it, and it also watches a pipe. It leads a process group of its own, so that Ctrl-C in a terminal
 * does not reach it, and so that it can be killed with the processes that the model has started.
 */
export class TorchProcess {
  readonly #options: CheckedOptions;
  readonly #child: ChildProcess;
  readonly #channel: Channel | undefined;
  readonly #ended: Promise<void>;
  #request: Request | undefined;
  /** How many requests were sent. */
  #count = 0;
  #stderr = "";
  /** Why no call can be made any more. */
  #failure: MTAdamError | undefined;
  #isClosed = false;

  /** @param memory the descriptor of the memory that the process maps */
  constructor(options: CheckedOptions, memory: number) {
    this.#options = options;
    const { python, cwd, env } = options;
    const host = path.join(packageRoot, "lib", "torch", "host.py");
    try {
      // With a traceback on stderr for a crash of native code.
      this.#child = spawn(python, ["-u", "-X", "faulthandler", host], {
        cwd,
        env: { ...process.env, ...env },
        stdio: ["ignore", "inherit", "pipe", "pipe", memory, "pipe"],
        detached: true,
      });
    } catch (error) {
      throw startError(error as Error);
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        if (this.#child.pid !== undefined) return; // it could not be sent a signal
        this.#end(startError(error));
        resolve();
      });
      this.#child.once("exit", (code, signal) => {
        this.#kill(); // what the model has started
        void this.#restOfStderr().then(() => {
          this.#end(this.#death(code, signal));
          resolve();
        });
      });
    });
    if (this.#child.pid === undefined) return;
    guards.set(this.#child, new native.Child(this.#child.pid));
    // Errors of the sockets: the process has ended, which its own event tells.
    this.#control.on("error", () => undefined);
    this.#channel = new Channel(
      this.#child.stdio[3] as Socket,
      (message) => this.#answer(message as Answer),
      (cause) => {
        const text = `The Python process of ${path.basename(options.file)} wrote a message that cannot be read.`;
        this.#kill();
        this.#end(new MTAdamError("TORCH", text, { cause }));
      },
    );
    const stderr = this.#child.stderr!;
    stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-SHOWN_STDERR);
      options.onStderr(text);
    });
    this.#hold(false);
  }

  /** @throws MTAdamError DISPOSED, BUSY, and TORCH if the process has ended */
  #check(): void {
    if (this.#isClosed) throw new MTAdamError("DISPOSED", "The model has been closed.");
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#request === undefined) return;
    throw new MTAdamError(
      "BUSY",
      `\`${this.#request.subject}\` has not settled: await its promise before the next call.`,
    );
  }

  /**
   * The answer to a request. While it is awaited, this process stays alive.
   *
   * @param subject what it is, for messages
   * @throws MTAdamError OPTION, DTYPE, LENGTH, DISPOSED, BUSY, TORCH; the signal's reason once it is aborted
   */
  async request(
    subject: string,
    message: Readonly<Record<string, unknown>>,
    { signal, owner }: { signal?: AbortSignalLike | undefined; owner?: object } = {},
  ): Promise<unknown> {
    this.#check();
    signal?.throwIfAborted();
    const pieces = encode(message);
    this.#check(); // reading the values may have run the user's code
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#request = { subject, owner, signal, resolve, reject };
    });
    const request = this.#request;
    // The listener outlives the answer by a turn, in which the next request may begin.
    const interrupt = (): void => {
      if (this.#request === request) this.#interrupt();
    };
    signal?.addEventListener("abort", interrupt);
    try {
      this.#count += 1;
      this.#hold(true);
      this.#channel?.send(pieces);
      return await answer;
    } finally {
      signal?.removeEventListener("abort", interrupt);
    }
  }

  /** Settles when the process has ended. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** Lets the process end by itself, or kills it if a request is unanswered. */
  close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true;
      if (this.#request !== undefined) this.kill();
      else if (this.#failure === undefined) {
        this.#channel?.send(encode({ command: "close" }));
        this.#killLater();
      }
    }
    if (this.#failure === undefined) this.#hold(true);
    return this.#ended;
  }

  /** Kills the process, and those that the model has started. */
  kill(): void {
    this.#isClosed = true;
    this.#kill();
  }

  #kill(): void {
    const { pid } = this.#child;
    // Later, the number may be another process'.
    if (pid === undefined || this.#failure !== undefined) return;
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // All have ended.
    }
  }

  #killLater(): void {
    const timer = setTimeout(() => this.#kill(), PATIENCE).unref();
    void this.#ended.then(() => clearTimeout(timer));
  }

  #interrupt(): void {
    if (this.#child.pid === undefined) return; // its error is about to come
    const request = this.#request;
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(BigInt(this.#count));
    this.#control.write(number);
    setTimeout(() => {
      if (this.#request === request && request !== undefined) this.#kill();
    }, PATIENCE).unref();
  }

  /** Tells which request is to be interrupted; its end tells the process to end. */
  get #control(): Socket {
    return (this.#child.stdio as readonly unknown[])[5] as Socket;
  }

  /** Whether this process waits for the other one before it ends. */
  #hold(isHeld: boolean): void {
    const { pid, stdio } = this.#child;
    // Without descriptors, a process that could not be started has no streams.
    if (pid === undefined) return;
    for (const handle of [this.#child, stdio[2] as Socket, stdio[3] as Socket, this.#control]) {
      if (isHeld) handle.ref();
      else handle.unref();
    }
  }

  #answer({ value, error }: Answer): void {
    const request = this.#request;
    if (request === undefined) return;
    this.#request = undefined;
    this.#hold(false);
    if (error === undefined) request.resolve(value);
    else if ("interrupted" in error && request.signal?.aborted === true)
      request.reject(request.signal.reason);
    else request.reject(this.#errorOf(request.subject, error));
  }

  #errorOf(subject: string, error: NonNullable<Answer["error"]>): MTAdamError {
    if ("refusal" in error) return new MTAdamError("TORCH", error.refusal);
    if ("interrupted" in error)
      return new MTAdamError("TORCH", `\`${subject}\` was interrupted by a signal.`);
    const { type, message, line, traceback } = error;
    const file = path.basename(this.#options.file);
    const place = line === null ? "" : ` (${file}, line ${line})`;
    const cause = new Error(message);
    cause.name = type;
    cause.stack = traceback;
    return new MTAdamError("TORCH", `\`${subject}\` raised ${type}: ${message}${place}`, { cause });
  }

  async #restOfStderr(): Promise<void> {
    const stderr = this.#child.stderr!;
    if (stderr.closed) return;
    await new Promise<void>((resolve) => {
      stderr.once("close", resolve);
      setTimeout(resolve, STDERR_PATIENCE);
    });
    stderr.destroy();
  }

  #death(code: number | null, signal: string | null): MTAdamError {
    const how = signal === null ? `exit code ${String(code)}` : `signal ${signal}`;
    const during = this.#request === undefined ? "" : ` during \`${this.#request.subject}\``;
    const file = path.basename(this.#options.file);
    const said = this.#stderr.trim();
    return new MTAdamError(
      "TORCH",
      `The Python process of ${file} ended with ${how}${during}${said === "" ? "." : `; it wrote:\n${said}`}`,
    );
  }

  #end(failure: MTAdamError): void {
    this.#failure ??= failure;
    const request = this.#request;
    this.#request = undefined;
    this.#hold(false);
    if (request === undefined) return;
    if (request.signal?.aborted === true) request.reject(request.signal.reason);
    else if (this.#isClosed) request.reject(new MTAdamError("DISPOSED", "The model has been closed."));
    else request.reject(failure);
  }
}

function startError(cause: Error): MTAdamError {
  return new MTAdamError("TORCH", `\`python\` cannot be started: ${cause.message}.`, { cause });
}
