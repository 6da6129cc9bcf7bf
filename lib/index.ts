// For consumers whose own `lib` ends before Symbol.dispose.
/// <reference lib="esnext.disposable" preserve="true" />

export { MTAdam } from "./mtadam";
export type { OptimizerSummary } from "./mtadam";
export type { StepOptions } from "./call-options";
export type { CapturedStep } from "./captured-step";
export type { Diagnostics, DiagnosticsRow, PairDiagnostics } from "./diagnostics";
export { MTAdamError } from "./errors";
export type { MTAdamErrorCode } from "./errors";
export type { Gradient, Gradients, TermGradients } from "./gradients";
export type { StatsListener, StepListener } from "./listeners";
export type {
  Anchor,
  GroupOptions,
  LearningRate,
  MTAdamOptions,
  OptimizerOptions,
  StateDtype,
  Weights,
} from "./options";
export type { ParamGroup } from "./param-groups";
export type {
  ParameterDescription,
  ParameterGroup,
  ParameterLike,
  Parameters,
  TensorData,
} from "./parameters";
export type { PreparedGradients } from "./prepared-gradients";
export { cosine, exponential, warmup } from "./schedules";
export type { ScheduleOptions } from "./schedules";
export type { TermCallback, TermCallbacks } from "./term-callbacks";
export type {
  CheckpointProgress,
  LoadOptions,
  PathLike,
  ProgressListener,
  SaveOptions,
} from "./checkpoint/options";
export { loadTensors, saveTensors } from "./checkpoint/tensors";
export type { LoadedTensor, LoadedTensors, SaveTensorsOptions, TensorToSave } from "./checkpoint/tensors";
export type { CheckpointMetadata, StateDict, StateTensor } from "./checkpoint/state";
export { DeviceBuffer } from "./memory/device";
export type { Device, DeviceKind } from "./memory/device";
export type { DevicePointerLike } from "./memory/device-pointer";
export type {
  DType,
  Float16ArrayLike,
  GradientDtype,
  HostArray,
  HostElements,
  ParameterDtype,
} from "./memory/dtype";
export { openDevice, describeDevices } from "./memory/open-device";
export type { CpuDeviceOptions, CudaDeviceDescription, DevicesDescription } from "./memory/open-device";
export type { StreamLike } from "./memory/stream";
export { BalanceMonitor, type MonitorOptions } from "./monitor/balance-monitor";
export { writeReport, type ReportOptions } from "./monitor/report";
export { tuneWeights } from "./tuning/tune-weights";
export type {
  Resume,
  Train,
  TuneOptions,
  TuningProgress,
  TuningResult,
  TuningRow,
  WeightsOf,
} from "./tuning/types";
