#pragma once

#include <string>

#include "cuda/runtime.h"
#include "engine/errors.h"

namespace mtadam::cuda {

/// A CUDA call that failed.
class CudaError : public DeviceError {
 public:
  CudaError(cudaError_t error, const char* operation);
};

/// As messages and openDevice() name a device.
inline std::string device_name(int device) { return "cuda:" + std::to_string(device); }

/// Throws CudaError unless the call, whose name is `operation`, succeeded.
void check(cudaError_t error, const char* operation);

}  // namespace mtadam::cuda
