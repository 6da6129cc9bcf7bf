export { connectMpi } from "./mpi";
export type { MpiOptions } from "./mpi";
export type { Communicator } from "./communicator";
