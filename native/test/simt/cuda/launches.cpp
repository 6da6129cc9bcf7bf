#include <string>
#include <utility>

#include "test/simt/cuda/runtime.h"
#include "test/simt/launch.h"
#include "test/simt/symbols.h"

namespace simt::cuda {

namespace {

/// While it exists, this thread runs a kernel of this device.
class OnDevice {
 public:
  explicit OnDevice(int device) { launching_device = device; }
  ~OnDevice() { launching_device = -1; }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
};

Operation run_kernel(const std::string& name, int device, const std::function<void()>& run) {
  Runtime& runtime = Runtime::get();
  runtime.counters.launches[name] += 1;
  const auto fault = runtime.injected("launch");
  Operation operation;
  operation.run = [=] {
    if (fault) throw OperationFailed(*fault, "injected fault in kernel " + name);
    const OnDevice on_device(device);
    try {
      run();
    } catch (const Error& error) {
      throw Error(error.fault(), "kernel " + name + ": " + error.what(), error.file(), error.line(), error.block(),
                  error.thread());
    }
    const Runtime& after = Runtime::get();
    const Allocation* overrun = after.devices[static_cast<std::size_t>(device)]->memory.overrun();
    if (!overrun) overrun = after.pinned->overrun();
    if (!overrun) return;
    throw OperationFailed(cudaErrorIllegalAddress, "kernel " + name + " wrote outside an allocation of " +
                                                       std::to_string(overrun->bytes) + " bytes");
  };
  return operation;
}

}  // namespace

cudaError_t launch(const void* function, dim3 grid, dim3 block, cudaStream_t handle, std::function<void()> run) {
  Runtime& runtime = Runtime::get();
  RuntimeCall call("cudaLaunchKernel", RuntimeCall::Needs::kContext);
  if (call.refused()) return call.refusal();
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  const int device = runtime.thread().device;
  if (!stream || stream->device != device) return call.done(cudaErrorInvalidResourceHandle);
  if (!fits(grid, block)) return call.done(cudaErrorInvalidConfiguration);
  const std::string name = function_name(function);
  const Recipe recipe{cudaGraphNodeTypeKernel, [=, run = std::move(run)] { return run_kernel(name, device, run); }};
  return call.done(runtime.enqueue(stream, recipe));
}

}  // namespace simt::cuda

extern "C" {

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  SIMT_CUDA_CALL(kContext);
  if (!attributes) return call.done(cudaErrorInvalidValue);
  if (!function) return call.done(cudaErrorInvalidDeviceFunction);
  cudaFuncAttributes found{};
  found.maxThreadsPerBlock = 1024;
  found.numRegs = 32;
  found.binaryVersion = runtime.settings.compute_major * 10 + runtime.settings.compute_minor;
  found.ptxVersion = found.binaryVersion;
  *attributes = found;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int block_threads,
                                                          size_t) {
  SIMT_CUDA_CALL(kContext);
  if (!blocks || block_threads <= 0) return call.done(cudaErrorInvalidValue);
  if (!function) return call.done(cudaErrorInvalidDeviceFunction);
  *blocks = block_threads <= 1024 ? runtime.settings.blocks_per_multiprocessor : 0;
  return cudaSuccess;
}

}  // extern "C"
