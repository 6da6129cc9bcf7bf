export { connectMpi } from "./mpi";
export type { MpiOptions } from "./mpi";
export { connectNccl, ncclId } from "./nccl";
export type { NcclOptions } from "./nccl";
export type { Communicator } from "./communicator";
export type { FlatOptions, FlatParameter, FlatTensors, Shape } from "./flat";
