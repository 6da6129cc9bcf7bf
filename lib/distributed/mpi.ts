import { isMainThread } from "node:worker_threads";
import { native } from "../addon/native";
import { checkKeys } from "../arguments";
import { fromNative, MTAdamError } from "../errors";
import {
  checkLibrary,
  closeAtExit,
  Communicator,
  communicatorKey,
  type LibraryOptions,
} from "./communicator";

export interface MpiOptions extends LibraryOptions {
  /**
   * The file of the MPI library, or its name for the system's loader. Default: the one of the launcher that started the
   * process, `libmpi.so.40` of Open MPI or `libmpich.so.12`; without a launcher, the first of them that is there.
   */
  library?: string | undefined;
  /**
   * Seconds, 60 by default. A process that waits longer for another one prints a sentence and ends with the exit code 70,
   * since a call of MPI that is blocked cannot be cancelled; the launcher then ends the others.
   */
  timeout?: number | undefined;
}

const OPEN_MPI = process.platform === "darwin" ? "libmpi.dylib" : "libmpi.so.40";
const MPICH = process.platform === "darwin" ? "libmpich.dylib" : "libmpich.so.12";

/**
 * Connects the processes that mpirun, mpiexec or srun has started; a process without a launcher is the only rank. MPI is
 * loaded at run time: Open MPI, MPICH, or a library with the ABI of one of them. To be called once per process, on the
 * main thread.
 *
 * @throws MTAdamError OPTION; DISTRIBUTED if there is no MPI library, or MPI is in use already (the promise rejects)
 */
export async function connectMpi(options?: MpiOptions): Promise<Communicator> {
  const { library, timeout } = checkLibrary(
    checkKeys<MpiOptions>("options", options, ["library", "timeout"]),
  );
  if (!isMainThread) {
    throw new MTAdamError("DISTRIBUTED", "`connectMpi` must be called on the main thread, not in a worker.");
  }
  // UCX, which MPICH uses, would follow how memory is mapped. In the process of Node, that ended in segmentation faults.
  process.env["UCX_MEM_EVENTS"] ??= "n";
  const libraries = library === undefined ? defaultLibraries() : [library];
  const own = fromNative(() => new native.Communicator("mpi", libraries, timeout));
  closeAtExit(own);
  return new Communicator(communicatorKey, own);
}

/** Open MPI's launcher sets OMPI_…, and that of MPICH and its relatives PMI_…. */
function defaultLibraries(): string[] {
  if (process.env["OMPI_COMM_WORLD_SIZE"] !== undefined) return [OPEN_MPI];
  if (process.env["PMI_SIZE"] !== undefined || process.env["PMI_RANK"] !== undefined) return [MPICH];
  return [OPEN_MPI, MPICH];
}
