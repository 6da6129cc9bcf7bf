import { createServer, connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { MTAdamError } from "../errors";

// How the ranks get the id of a communicator: rank 0 listens, the others connect and say who they are, in a line each.

export interface Rendezvous {
  host: string;
  port: number;
  rank: number;
  world: number;
  /** Seconds. */
  timeout: number;
}

const GREETING = "mtadam rendezvous";
const MOST_BYTES = 1000;
const BETWEEN_ATTEMPTS = 100; // milliseconds

/**
 * Gives the id to every other rank. Connections of other programs are closed.
 *
 * @throws MTAdamError DISTRIBUTED if the port is in use, ranks differ, or not all come in time
 */
export async function serveId({ host, port, world, timeout }: Rendezvous, id: Uint8Array): Promise<void> {
  const served = new Set<number>();
  const sockets = new Set<Socket>();
  const server = createServer();
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => {
        const missing = Array.from({ length: world - 1 }, (_, k) => k + 1).filter(
          (rank) => !served.has(rank),
        );
        const shown = `${missing.slice(0, 8).join(", ")}${missing.length > 8 ? ", …" : ""}`;
        reject(
          failed(`Rank 0 waited ${timeout} s at ${host}:${port} for the other ranks; missing: ${shown}.`),
        );
      }, timeout * 1000);
      server.on("error", (error) => {
        reject(failed(`Rank 0 cannot listen at ${host}:${port}: ${error.message}.`));
      });
      server.on("connection", (socket) => {
        sockets.add(socket);
        socket.on("close", () => sockets.delete(socket)).on("error", () => undefined);
        void firstLine(socket).then((line) => {
          const guest = guestOf(line);
          if (guest === undefined) {
            socket.destroy();
            return;
          }
          const problem = problemOf(guest, world, served);
          if (problem === undefined) served.add(guest.rank);
          socket.end(`${problem ?? Buffer.from(id).toString("base64")}\n`, () => {
            if (problem !== undefined) reject(failed(problem));
            else if (served.size === world - 1) resolve();
          });
        });
      });
      server.listen({ host, port });
    });
  } finally {
    clearTimeout(timer);
    server.close();
    for (const socket of sockets) socket.destroy();
  }
}

/** Asks rank 0 for the id, again until it listens. @throws MTAdamError DISTRIBUTED */
export async function receiveId(where: Rendezvous, bytes: number): Promise<Uint8Array> {
  const { host, port, rank, world, timeout } = where;
  const deadline = performance.now() + timeout * 1000;
  let reason = "";
  while (performance.now() < deadline) {
    try {
      const answer = await ask(where, `${GREETING} ${rank} ${world}\n`, deadline);
      const id = Buffer.from(answer, "base64");
      if (id.length === bytes && id.toString("base64") === answer) return new Uint8Array(id);
      if (answer !== "") throw failed(answer);
      reason = "rank 0 closed the connection";
    } catch (error) {
      if (error instanceof MTAdamError) throw error;
      reason = (error as Error).message;
    }
    await sleep(BETWEEN_ATTEMPTS);
  }
  throw failed(`Rank ${rank} waited ${timeout} s for rank 0 at ${host}:${port}: ${reason}.`);
}

async function ask({ host, port }: Rendezvous, line: string, deadline: number): Promise<string> {
  const socket = connect({ host, port });
  socket.setTimeout(Math.max(1, deadline - performance.now()), () => socket.destroy(new Error("no answer")));
  try {
    await new Promise<void>((resolve, reject) => {
      socket.on("connect", resolve).on("error", reject);
    });
    socket.write(line);
    return await firstLine(socket);
  } finally {
    socket.destroy();
  }
}

/** "" where the connection ends before. */
function firstLine(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    socket.setEncoding("latin1");
    socket.on("data", (piece: string) => {
      text += piece;
      const end = text.indexOf("\n");
      if (end >= 0) resolve(text.slice(0, end));
      else if (text.length > MOST_BYTES) resolve("");
    });
    socket.on("close", () => {
      resolve("");
    });
  });
}

interface Guest {
  rank: number;
  world: number;
}

/** Undefined where a line is not one of this protocol. */
function guestOf(line: string): Guest | undefined {
  const parts = /^mtadam rendezvous (\d{1,8}) (\d{1,8})$/.exec(line);
  return parts === null ? undefined : { rank: Number(parts[1]), world: Number(parts[2]) };
}

function problemOf(guest: Guest, world: number, served: ReadonlySet<number>): string | undefined {
  if (guest.world !== world) {
    return `All ranks must have the same \`world\`; got ${world} in rank 0 and ${guest.world} in rank ${guest.rank}.`;
  }
  if (guest.rank > 0 && guest.rank < world && !served.has(guest.rank)) return undefined;
  return `Each rank must have a number of its own below ${world}; got another ${guest.rank}.`;
}

const failed = (message: string): MTAdamError => new MTAdamError("DISTRIBUTED", message);
