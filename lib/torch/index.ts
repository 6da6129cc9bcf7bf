// For consumers whose own `lib` ends before Symbol.asyncDispose.
/// <reference lib="esnext.disposable" preserve="true" />

export { openTorch } from "./model";
export type { TorchData, TorchGradients, TorchModel, TorchParameter } from "./model";
export type {
  AbortSignalLike,
  PythonArguments,
  TorchCallOptions,
  TorchDeviceOptions,
  TorchGradientsOptions,
  TorchOptions,
} from "./options";
export type { PythonValue, TensorArray, TensorValue } from "./wire";
