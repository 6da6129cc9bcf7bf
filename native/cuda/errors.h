#pragma once

#include <string>

#include "cuda/runtime.h"
#include "engine/errors.h"

namespace mtadam::cuda {

/// A CUDA call that failed: Error with CUDA's name for it and the call.
class CudaError : public Error {
 public:
  CudaError(cudaError_t error, const char* operation);
  const std::string& cuda_error() const { return cuda_error_; }
  const std::string& operation() const { return operation_; }

 private:
  std::string cuda_error_;
  std::string operation_;
};

/// Throws CudaError unless the call, whose name is `operation`, succeeded.
void check(cudaError_t error, const char* operation);

}  // namespace mtadam::cuda
