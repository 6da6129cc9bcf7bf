#include "cuda/context.h"

#include "cuda/errors.h"

namespace mtadam::cuda {
namespace {

template <class Function>
void find(Function& function, const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result),
        "cudaGetDriverEntryPointByVersion");
  if (result != cudaDriverEntryPointSuccess) {
    throw Error("DRIVER", std::string("The NVIDIA driver lacks `") + name + "`, which every driver of CUDA 12 has.");
  }
  function = reinterpret_cast<Function>(found);
}

DriverApi find_driver_api() {
  DriverApi api;
  find(api.cuCtxGetCurrent, "cuCtxGetCurrent");
  find(api.cuCtxSetCurrent, "cuCtxSetCurrent");
  find(api.cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain");
  find(api.cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease");
  find(api.cuPointerGetAttribute, "cuPointerGetAttribute");
  find(api.cuMemGetAddressRange, "cuMemGetAddressRange");
  find(api.cuMemRetainAllocationHandle, "cuMemRetainAllocationHandle");
  find(api.cuMemRelease, "cuMemRelease");
  return api;
}

// Errors have the same numbers in the runtime and the driver.
void check_result(int result, const char* operation) { check(static_cast<cudaError_t>(result), operation); }

}  // namespace

const DriverApi& driver_api() {
  static const DriverApi api = find_driver_api();
  return api;
}

Context::Context(int device) : device_(device) {
  // Makes the context as the first call of the runtime would, without making it current.
  check(cudaInitDevice(device_, 0, 0), "cudaInitDevice");
  check_result(driver_api().cuDevicePrimaryCtxRetain(&handle_, device_), "cuDevicePrimaryCtxRetain");
}

// The context goes on: the runtime retains it as well.
Context::~Context() { driver_api().cuDevicePrimaryCtxRelease(device_); }

CurrentContext::CurrentContext(const Context& context) {
  const DriverApi& driver = driver_api();
  check_result(driver.cuCtxGetCurrent(&before_), "cuCtxGetCurrent");
  entered_ = before_ != context.handle();
  if (entered_) check_result(driver.cuCtxSetCurrent(context.handle()), "cuCtxSetCurrent");
  // After cuCtxSetCurrent: without a current context, a call of the runtime makes one of device 0.
  exchanged_ = cudaThreadExchangeStreamCaptureMode(&mode_) == cudaSuccess;
}

CurrentContext::~CurrentContext() {
  if (exchanged_) cudaThreadExchangeStreamCaptureMode(&mode_);
  if (entered_) driver_api().cuCtxSetCurrent(before_);
}

}  // namespace mtadam::cuda
