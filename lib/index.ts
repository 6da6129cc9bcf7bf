// For consumers whose own `lib` ends before Symbol.dispose.
/// <reference lib="esnext.disposable" preserve="true" />

export { MTAdam } from "./mtadam";
export type {
  LoadOptions,
  ParamGroup,
  SaveOptions,
  StepOptions,
  TermCallback,
  TermCallbacks,
} from "./mtadam";
export { openDevice, describeDevices } from "./device";
export type { CapturedStep } from "./captured-step";
export type {
  CpuDeviceOptions,
  CudaDeviceDescription,
  Device,
  DeviceKind,
  DevicesDescription,
} from "./device";
export { DeviceBuffer } from "./device-buffer";
export type { DevicePointerLike } from "./device-pointer";
export type { Diagnostics, StatsListener } from "./diagnostics";
export type { DType, HostArray } from "./dtype";
export { MTAdamError } from "./errors";
export type { MTAdamErrorCode } from "./errors";
export type { Gradient, Gradients, PreparedGradients, TermGradients } from "./gradients";
export type { StreamLike } from "./stream";
export type { CheckpointMetadata, StateDict, StateTensor } from "./checkpoint";
export type { CheckpointProgress, ProgressListener } from "./checkpoint-file";
export type { Anchor, GroupOptions, LearningRate, MTAdamOptions, OptimizerOptions, Weights } from "./options";
export type {
  ParameterDescription,
  ParameterGroup,
  ParameterLike,
  Parameters,
  TensorData,
} from "./parameters";
