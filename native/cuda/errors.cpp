#include "cuda/errors.h"

#include <cstring>

namespace mtadam::cuda {
namespace {

// The code that a user can act on.
const char* code_of(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "OUT_OF_MEMORY";
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return "DRIVER";
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
      return "NO_DEVICE";
    default:
      return "CUDA";
  }
}

// Errors after which every further call on the device fails, whoever made it: most of them come from a kernel, perhaps
// one launched long ago, that touched memory which is no longer there.
bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorLaunchTimeout:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
      return true;
    default:
      return false;
  }
}

// Errors of the hardware that end the process's use of the device in some cases. Numbers: older toolkits name only
// some.
bool may_be_sticky(cudaError_t error) {
  constexpr int kNvlinkUncorrectable = 220, kContained = 226, kTensorMemoryLeak = 721;
  const int number = error;
  return number == kNvlinkUncorrectable || number == kContained || number == kTensorMemoryLeak;
}

std::string sentence(cudaError_t error, const char* operation) {
  if (error == cudaErrorMemoryAllocation) {
    const bool pinned = std::strcmp(operation, "cudaMallocHost") == 0;
    return pinned ? "There is not enough host memory that can be pinned for copies to and from the CUDA device."
                  : "There is not enough memory on the CUDA device.";
  }
  std::string text = std::string("`") + operation + "` failed with " + cudaGetErrorName(error);
  if (is_sticky(error)) {
    return text +
           ": a kernel faulted, most likely on memory freed after it was given to the optimizer, and the device " +
           "cannot be used by this process any more.";
  }
  text += std::string(" (") + cudaGetErrorString(error) + ")";
  return text + (may_be_sticky(error) ? "; this process may not be able to use the device any more." : ".");
}

}  // namespace

CudaError::CudaError(cudaError_t error, const char* operation)
    : DeviceError(code_of(error), sentence(error, operation), cudaGetErrorName(error), operation) {}

void check(cudaError_t error, const char* operation) {
  if (error == cudaSuccess) return;
  // An error of this call alone must not be found again by the user's own check of the last error.
  if (!is_sticky(error)) cudaGetLastError();
  throw CudaError(error, operation);
}

}  // namespace mtadam::cuda
