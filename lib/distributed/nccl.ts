import { native } from "../addon/native";
import { checkKeys } from "../arguments";
import { fromNative, mustBe } from "../errors";
import { addonOf, isDevice, nativeDevice, type Device } from "../memory/device";
import {
  checkLibrary,
  closeAtExit,
  Communicator,
  communicatorKey,
  type LibraryOptions,
} from "./communicator";
import { receiveId, serveId } from "./rendezvous";

export interface NcclOptions extends LibraryOptions {
  /** The GPU of this process: a CUDA device of `openDevice`, which no other rank has. */
  device: Device;
  /** The number of this process, from 0. Default: the environment's `RANK`. */
  rank?: number | undefined;
  /** The number of processes. Default: the environment's `WORLD_SIZE`. */
  world?: number | undefined;
  /**
   * "host:port", where rank 0 listens until all ranks have asked for the id of the communicator. Default: the
   * environment's `MASTER_ADDR` and `MASTER_PORT`.
   */
  rendezvous?: string | undefined;
  /** Instead of `rendezvous`: what {@link ncclId} returned in one process, for all of them, once. */
  id?: Uint8Array | undefined;
  /** The file of NCCL, or its name for the system's loader: `libnccl.so.2` by default. */
  library?: string | undefined;
  /**
   * Seconds, 60 by default. A collective that takes longer is aborted, with the work on the GPU before it: all later calls
   * throw, and the parameters are not defined.
   */
  timeout?: number | undefined;
}

const KEYS = ["device", "rank", "world", "rendezvous", "id", "library", "timeout"];
const LIBRARIES = ["libnccl.so.2", "libnccl.so"];
const ID_BYTES = 128;

/**
 * Connects processes that have a GPU each. NCCL is loaded at run time. Any launcher will do: the processes find each other
 * by `rendezvous`, or by an id that you hand from one to the others.
 *
 * @throws MTAdamError OPTION; DISTRIBUTED if NCCL cannot be loaded, is older than 2.14 or fails, or if not all ranks come
 * in time (the promise rejects)
 */
export async function connectNccl(options: NcclOptions): Promise<Communicator> {
  const given = checkKeys<NcclOptions>("options", options, KEYS);
  const { library, timeout } = checkLibrary(given);
  const { device } = given;
  if (!isDevice(device) || device.kind !== "cuda") {
    throw mustBe("OPTION", "device", "be a CUDA device from `openDevice`", device);
  }
  const rank = numberOf("rank", given.rank, "RANK");
  const world = numberOf("world", given.world, "WORLD_SIZE");
  if (world < 1) throw mustBe("OPTION", "world", "be at least 1", world);
  if (rank >= world) throw mustBe("OPTION", "rank", `be less than \`world\`, ${world}`, rank);
  const libraries = library === undefined ? LIBRARIES : [library];
  const addon = addonOf(device);
  const makeId = (): Uint8Array => fromNative(() => addon.ncclId(libraries));
  const id = checkId(given.id) ?? (await meet(given.rendezvous, rank, world, timeout, makeId));
  const own = fromNative(
    () => new addon.Communicator("nccl", libraries, timeout, nativeDevice(device), id, rank, world),
  );
  closeAtExit(own);
  return new Communicator(communicatorKey, own, device);
}

/**
 * An id for one communicator, 128 bytes, to be handed to all ranks. The process that makes it must live until all have
 * connected.
 *
 * @throws MTAdamError OPTION, DISTRIBUTED
 */
export function ncclId(options?: Pick<NcclOptions, "library">): Uint8Array {
  const { library } = checkLibrary(checkKeys<NcclOptions>("options", options, ["library"]));
  return fromNative(() => native.ncclId(library === undefined ? LIBRARIES : [library]));
}

function numberOf(name: string, given: unknown, variable: string): number {
  const value = given ?? process.env[variable];
  const number = typeof value === "string" && /^\d{1,7}$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number) && number >= 0 && number < 2 ** 24)
    return number;
  throw mustBe("OPTION", name, `be a whole number from 0, here or in the environment's ${variable}`, value);
}

function checkId(id: unknown): Uint8Array | undefined {
  if (id === undefined || (id instanceof Uint8Array && id.length === ID_BYTES)) return id;
  throw mustBe("OPTION", "id", "be the 128 bytes that `ncclId()` returned", id);
}

async function meet(
  given: unknown,
  rank: number,
  world: number,
  timeout: number,
  makeId: () => Uint8Array,
): Promise<Uint8Array> {
  if (world === 1) return makeId();
  const { MASTER_ADDR, MASTER_PORT } = process.env;
  const place = given ?? (MASTER_ADDR && MASTER_PORT ? `${MASTER_ADDR}:${MASTER_PORT}` : undefined);
  const parts = typeof place === "string" ? /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(place) : null;
  const port = Number(parts?.[2]);
  if (parts === null || port < 1 || port > 65535) {
    const rule = 'be "host:port", here or in the environment\'s MASTER_ADDR and MASTER_PORT';
    throw mustBe("OPTION", "rendezvous", rule, place);
  }
  const where = { host: parts[1]!, port, rank, world, timeout };
  if (rank > 0) return receiveId(where, ID_BYTES);
  const id = makeId();
  await serveId(where, id);
  return id;
}
