#include "test/cuda/on_gpu.h"

#include <algorithm>
#include <atomic>

#include "cuda/runtime.h"
#include "test/cuda/on_device.h"

namespace {

std::atomic<std::uint64_t> launches{0};

}  // namespace

// With the linker's --wrap, every call of cudaLaunchKernel goes to the former, which calls the latter. The runtime does
// not count launches.
extern "C" {
cudaError_t __real_cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                                    cudaStream_t stream);

cudaError_t __wrap_cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                                    cudaStream_t stream) {
  ++launches;
  return __real_cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
}

namespace mtadam::test {
namespace {

int divisor = 1;

}  // namespace

void divide_rounds(int by) { divisor = std::max(1, by); }

void OnDevice::SetUp() {}

int OnDevice::rounds(int plain) { return std::max(1, plain / divisor); }

// A step takes several times as long as the calls that enqueue it.
std::uint64_t OnDevice::busy_elements() { return static_cast<std::uint64_t>(rounds(4 << 20)); }

std::uint64_t OnDevice::launches_of(const std::function<void()>& calls) {
  const std::uint64_t before = launches;
  calls();
  return launches - before;
}

}  // namespace mtadam::test
