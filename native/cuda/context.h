#pragma once

#include <memory>

#include "cuda/runtime.h"

namespace mtadam::cuda {

/// The functions of the driver, by its names. Its library is not linked: the addon must load without one.
struct DriverApi {
  using Address = unsigned long long;

  int (*cuCtxGetCurrent)(void** context) = nullptr;
  int (*cuCtxSetCurrent)(void* context) = nullptr;
  int (*cuDevicePrimaryCtxRetain)(void** context, int device) = nullptr;
  int (*cuDevicePrimaryCtxRelease)(int device) = nullptr;
  int (*cuPointerGetAttribute)(void* value, int attribute, Address address) = nullptr;
  int (*cuMemGetAddressRange)(Address* base, std::size_t* bytes, Address address) = nullptr;
  int (*cuMemRetainAllocationHandle)(Address* handle, void* address) = nullptr;
  int (*cuMemRelease)(Address handle) = nullptr;
};

/// Throws CudaError without a driver.
const DriverApi& driver_api();

/// A device's primary context, retained while this lives. CUDA's runtime, PyTorch and most programs work in it.
class Context {
 public:
  /// Makes the context if there is none. The device exists. Throws CudaError.
  explicit Context(int device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int device() const { return device_; }
  void* handle() const { return handle_; }

 private:
  int device_;
  void* handle_ = nullptr;
};

using SharedContext = std::shared_ptr<const Context>;

/// Makes a context the calling thread's current one while it lives, then restores what the thread had before: its own
/// context or none. cudaSetDevice cannot: it would leave a context of this device or make one of device 0. Meanwhile,
/// calls that wait, allocate or free do not invalidate a capture of the user's.
class CurrentContext {
 public:
  /// Throws CudaError.
  explicit CurrentContext(const Context& context);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  void* before_ = nullptr;
  bool entered_ = false;
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  bool exchanged_ = false;
};

/// Runs the calls that free what an object owns, in its context. Ignores errors: after a fault the context is gone, and
/// at the end of the process the driver may be.
template <class Calls>
void release_in(const SharedContext& context, const Calls& calls) noexcept {
  try {
    const CurrentContext current(*context);
    calls();
  } catch (...) {
  }
}

}  // namespace mtadam::cuda
