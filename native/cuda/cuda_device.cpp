#include "cuda/cuda_device.h"

#include "cuda/errors.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {
namespace {

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

// A runtime needs a driver of its own major version or newer; anything older fails in ways that name neither.
void check_driver() {
  int driver = 0;
  int runtime = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  if (driver == 0) throw Error("DRIVER", "No NVIDIA driver is installed.");
  if (driver / 1000 < runtime / 1000) {
    throw Error("DRIVER", "The NVIDIA driver supports CUDA " + version(driver) + ", but this build of mtadam needs " +
                              std::to_string(runtime / 1000) + ".0 or newer.");
  }
}

int check_index(int index) {
  check_driver();
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  if (index < 0 || index >= count) {
    throw Error("NO_DEVICE", "`cuda:" + std::to_string(index) + "` must be one of the " + std::to_string(count) +
                                 " CUDA devices of this machine, numbered from 0.");
  }
  return index;
}

}  // namespace

CudaDevice::CudaDevice(int index) : index_(check_index(index)), ring_(index) {}

std::unique_ptr<Memory> CudaDevice::allocate(std::size_t bytes) { return allocate_device(index_, bytes); }

void CudaDevice::write(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentDevice current(index_);
  if (bytes <= PinnedRing::kSlotBytes) {
    ring_.send(to, from, bytes, native(stream));
  } else {
    // From pageable memory the runtime copies aside what it has not sent when it returns.
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, native(stream)), "cudaMemcpyAsync");
  }
}

void CudaDevice::read(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentDevice current(index_);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, native(stream)), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
}

void CudaDevice::fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentDevice current(index_);
  launch_fill(to, pattern, element, bytes / element, native(stream));
}

void CudaDevice::join(Stream earlier, Stream later) {
  if (earlier == later) return;
  const CurrentDevice current(index_);
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  const cudaError_t recorded = cudaEventRecord(event, native(earlier));
  const cudaError_t waits = recorded == cudaSuccess ? cudaStreamWaitEvent(native(later), event, 0) : cudaSuccess;
  // Its work is queued by now; the runtime keeps what that needs.
  cudaEventDestroy(event);
  check(recorded, "cudaEventRecord");
  check(waits, "cudaStreamWaitEvent");
}

void CudaDevice::norms(const Tables& tables, const Call& call, Stream stream) {
  const CurrentDevice current(index_);
  launch_norms(tables, call, native(stream));
}

void CudaDevice::moments(const Tables& tables, const Call& call, Stream stream) {
  const CurrentDevice current(index_);
  launch_moments(tables, call, native(stream));
}

void CudaDevice::update(const Tables& tables, Stream stream) {
  const CurrentDevice current(index_);
  launch_update(tables, nullptr, native(stream));
}

void CudaDevice::update(const Tables& tables, const Call& call, Stream stream) {
  const CurrentDevice current(index_);
  launch_update(tables, &call, native(stream));
}

void CudaDevice::add(float* target, const float* source, std::uint64_t count, Stream stream) {
  if (count == 0) return;
  const CurrentDevice current(index_);
  launch_add(target, source, count, native(stream));
}

void CudaDevice::synchronize() {
  const CurrentDevice current(index_);
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

}  // namespace mtadam::cuda
