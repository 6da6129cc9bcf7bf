#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "test/simt/device.h"
#include "test/simt/launch.h"
#include "test/simt/sanitizers.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

using cuda::Execution;

using CopyTest = CudaTest;
using CopyInTimeTest = CudaExecutionTest;

INSTANTIATE_TEST_SUITE_P(Executions, CopyInTimeTest, kExecutions, execution_name);

std::vector<int> counting(std::size_t count) {
  std::vector<int> values(count);
  std::iota(values.begin(), values.end(), 1);
  return values;
}

__global__ void add_one(int* data) { data[threadIdx.x] += 1; }

TEST_P(CopyInTimeTest, CopiesInAllDirections) {
  const std::vector<int> values = counting(64);
  int* first = device_copy(values);
  int* second = device_memory<int>(64);
  int* pinned = pinned_memory<int>(64);
  cudaStream_t work = stream();
  EXPECT_CUDA(cudaMemcpyAsync(second, first, 256, cudaMemcpyDeviceToDevice, work));
  EXPECT_CUDA(launch(add_one, 1, 64, work, second));
  EXPECT_CUDA(cudaMemcpyAsync(pinned, second, 256, cudaMemcpyDefault, work));
  EXPECT_CUDA(cudaStreamSynchronize(work));
  for (int k = 0; k < 64; ++k) EXPECT_EQ(pinned[k], k + 2);

  std::fill(pinned, pinned + 64, 7);
  EXPECT_CUDA(cudaMemcpyAsync(first, pinned, 256, cudaMemcpyHostToDevice, work));
  EXPECT_CUDA(cudaMemsetAsync(first + 60, 0, 16, work));
  EXPECT_CUDA(cudaStreamSynchronize(work));
  const std::vector<int> back = host_copy(first, 64);
  EXPECT_EQ(std::count(back.begin(), back.end(), 7), 60);
  EXPECT_EQ(std::count(back.begin(), back.end(), 0), 4);

  std::vector<int> host(64);
  EXPECT_CUDA(cudaMemcpy(host.data(), values.data(), 256, cudaMemcpyHostToHost));
  EXPECT_EQ(host, values);
}

TEST_F(CopyTest, RejectsRangesThatDoNotFit) {
  int* device = device_memory<int>(4);
  int host[8] = {};
  EXPECT_EQ(cudaMemcpy(device, host, 20, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device + 3, host, 8, cudaMemcpyDefault), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device, host, 16, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host, host + 4, 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device, nullptr, 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device, host, 16, static_cast<cudaMemcpyKind>(7)), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemset(host, 0, 16), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(device, 0, 17), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaMemcpy(nullptr, nullptr, 0, cudaMemcpyDefault));
  EXPECT_CUDA(cudaFree(device));
  EXPECT_EQ(cudaMemcpy(device, host, 16, cudaMemcpyDefault), cudaErrorInvalidValue);
}

TEST_P(CopyInTimeTest, PageableMemoryMayBeReusedAtOnce) {
  int* device = device_memory<int>(4);
  cudaStream_t work = stream();
  std::vector<int> values{1, 2, 3, 4};
  EXPECT_CUDA(cudaMemcpyAsync(device, values.data(), 16, cudaMemcpyHostToDevice, work));
  values.assign(4, 0);
  EXPECT_CUDA(cudaMemcpyAsync(values.data(), device, 16, cudaMemcpyDeviceToHost, work));
  EXPECT_EQ(values, (std::vector<int>{1, 2, 3, 4}));
  EXPECT_EQ(cuda::counters().pageable_copies, 2u);
}

TEST_F(CopyTest, PinnedMemoryMustNotChangeUntilTheCopyIsDone) {
  settings.execution = Execution::kLazy;
  restart();
  int* device = device_memory<int>(4);
  int* pinned = pinned_memory<int>(4);
  cudaStream_t work = stream();
  std::fill(pinned, pinned + 4, 1);
  EXPECT_CUDA(cudaMemcpyAsync(device, pinned, 16, cudaMemcpyHostToDevice, work));
  EXPECT_CUDA(cudaStreamSynchronize(work));
  pinned[0] = 2;
  EXPECT_CUDA(cudaMemcpyAsync(device, pinned, 16, cudaMemcpyHostToDevice, work));
  pinned[0] = 3;
  EXPECT_EQ(cudaStreamSynchronize(work), cudaErrorLaunchFailure);
  EXPECT_NE(cuda::failure().find("overwritten while a copy"), std::string::npos);
}

TEST_P(CopyInTimeTest, TheTargetIsConcealedUntilTheCopyIsKnownToBeDone) {
  int* device = device_copy(counting(4));
  int* pinned = pinned_memory<int>(4);
  std::fill(pinned, pinned + 4, 0);
  cudaStream_t work = stream();
  cudaEvent_t done = event();
  EXPECT_CUDA(cudaMemcpyAsync(pinned, device, 16, cudaMemcpyDeviceToHost, work));
  EXPECT_CUDA(cudaEventRecord(done, work));
  if (under_address_sanitizer()) {
    EXPECT_DEATH({ [[maybe_unused]] volatile int value = *static_cast<volatile int*>(pinned); }, "use-after-poison");
  } else {
    EXPECT_EQ(pinned[0], -1);
  }
  EXPECT_CUDA(cudaEventSynchronize(done));
  EXPECT_EQ(pinned[3], 4);
}

TEST_P(CopyInTimeTest, WaitingElsewhereForTheCopyIsEnough) {
  int* device = device_copy(counting(4));
  int* pinned = pinned_memory<int>(4);
  cudaStream_t first = stream();
  cudaStream_t second = stream();
  cudaEvent_t done = event();
  EXPECT_CUDA(cudaMemcpyAsync(pinned, device, 16, cudaMemcpyDeviceToHost, first));
  EXPECT_CUDA(cudaEventRecord(done, first));
  EXPECT_CUDA(cudaStreamWaitEvent(second, done));
  EXPECT_CUDA(cudaStreamSynchronize(second));
  EXPECT_EQ(pinned[3], 4);
}

TEST_P(CopyInTimeTest, ALaterCopyOfTheStreamReadsTheTargetOfAnEarlierOne) {
  int* device = device_copy(counting(4));
  int* other = device_memory<int>(4);
  int* pinned = pinned_memory<int>(4);
  cudaStream_t work = stream();
  EXPECT_CUDA(cudaMemcpyAsync(pinned, device, 16, cudaMemcpyDeviceToHost, work));
  EXPECT_CUDA(cudaMemcpyAsync(other, pinned, 16, cudaMemcpyHostToDevice, work));
  EXPECT_CUDA(cudaStreamSynchronize(work));
  EXPECT_EQ(host_copy(other, 4), counting(4));
}

TEST_P(CopyInTimeTest, ALaterCopyOfTheStreamOverwritesTheSourceOfAnEarlierOne) {
  int* device = device_memory<int>(4);
  int* other = device_copy(std::vector<int>(4, 9));
  int* pinned = pinned_memory<int>(4);
  std::iota(pinned, pinned + 4, 1);
  cudaStream_t work = stream();
  EXPECT_CUDA(cudaMemcpyAsync(device, pinned, 16, cudaMemcpyHostToDevice, work));
  EXPECT_CUDA(cudaMemcpyAsync(pinned, other, 16, cudaMemcpyDeviceToHost, work));
  EXPECT_CUDA(cudaStreamSynchronize(work));
  EXPECT_EQ(host_copy(device, 4), counting(4));
  EXPECT_EQ(pinned[3], 9);
}

TEST_F(CopyTest, MemoryThatIsFreedWhileACopyIsQueuedIsFound) {
  settings.execution = Execution::kLazy;
  settings.free_synchronises = false;
  restart();
  int* device = device_memory<int>(4);
  const int host[4] = {};
  cudaStream_t work = stream();
  EXPECT_CUDA(cudaMemcpyAsync(device, host, 16, cudaMemcpyHostToDevice, work));
  EXPECT_CUDA(cudaFree(device));
  EXPECT_EQ(cudaStreamSynchronize(work), cudaErrorIllegalAddress);
  EXPECT_NE(cuda::failure().find("freed while"), std::string::npos);

  settings.free_synchronises = true;
  restart();
  device = device_memory<int>(4);
  work = stream();
  EXPECT_CUDA(cudaMemcpyAsync(device, host, 16, cudaMemcpyHostToDevice, work));
  EXPECT_CUDA(cudaFree(device));
  EXPECT_CUDA(cudaStreamSynchronize(work));
}

TEST_P(CopyInTimeTest, CopiesBetweenDevices) {
  settings.devices = 2;
  restart();
  int* here = device_copy(counting(4));
  EXPECT_CUDA(cudaSetDevice(1));
  int* there = device_memory<int>(4);
  EXPECT_CUDA(cudaMemcpy(there, here, 16, cudaMemcpyDefault));
  EXPECT_EQ(host_copy(there, 4), counting(4));
}

}  // namespace
}  // namespace simt
