import { Buffer } from "node:buffer";
import type { Duplex } from "node:stream";
import { decode, HEAD_BYTES } from "./wire";

/** Sends and receives the messages of wire.ts over a socket. The other side may write anything. */
export class Channel {
  readonly #socket: Duplex;
  readonly #onMessage: (message: unknown) => void;
  /** The part of a message that is being received, and how much of it has come. */
  #part: Buffer = Buffer.alloc(HEAD_BYTES);
  #come = 0;
  #next: (part: Buffer) => void = this.#head;

  /** @param onBroken called at most once, with the error of a message that cannot be read; no other message follows */
  constructor(socket: Duplex, onMessage: (message: unknown) => void, onBroken: (cause: unknown) => void) {
    this.#socket = socket;
    this.#onMessage = onMessage;
    const receive = (data: Buffer): void => {
      try {
        this.#receive(data);
      } catch (error) {
        socket.off("data", receive);
        onBroken(error);
      }
    };
    socket.on("data", receive);
    socket.on("error", () => undefined); // the process has ended
  }

  /** The pieces must not change until the answer has come. */
  send(pieces: readonly Uint8Array[]): void {
    this.#socket.cork();
    for (const piece of pieces) this.#socket.write(piece);
    this.#socket.uncork();
  }

  #receive(data: Buffer): void {
    for (let read = 0; ;) {
      if (this.#come === this.#part.length) {
        this.#come = 0;
        this.#next(this.#part);
        continue;
      }
      if (read === data.length) return;
      const copied = data.copy(this.#part, this.#come, read);
      read += copied;
      this.#come += copied;
    }
  }

  #expect(bytes: number, next: (part: Buffer) => void): void {
    // Not from Node's pool: arrays lie over this memory alone, from its start.
    this.#part = Buffer.from(new ArrayBuffer(bytes));
    this.#next = next;
  }

  #head(head: Buffer): void {
    const arrayBytes = Number(head.readBigUInt64LE(4));
    this.#expect(head.readUInt32LE(), (text) => {
      const message: unknown = JSON.parse(text.toString("utf8"));
      this.#expect(arrayBytes, (arrays) => {
        this.#expect(HEAD_BYTES, (next) => this.#head(next));
        this.#onMessage(decode(message, arrays.buffer as ArrayBuffer));
      });
    });
  }
}
