#include "test/simt/access.h"

#include <string>
#include <vector>

#include "test/simt/device.h"
#include "test/simt/launch.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

using access::Traffic;
using access::Watch;

class AccessTest : public CudaTest {
 protected:
  AccessTest() { access::reset_total(); }

  /// The launch fails for this reason, in this file.
  void expect_failure(cudaError_t error, const std::string& text) {
    EXPECT_EQ(cudaDeviceSynchronize(), error);
    EXPECT_NE(cuda::failure().find(text), std::string::npos) << cuda::failure();
    EXPECT_NE(cuda::failure().find("access_test.cpp:"), std::string::npos) << cuda::failure();
    restart();
  }
};

TEST(AccessCheckerTest, IsActive) { EXPECT_TRUE(access::active()); }

// ---- Counting ----

__global__ void scale(const float* in, float* out, int count, float factor) {
  const int thread = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int threads = static_cast<int>(gridDim.x * blockDim.x);
  for (int k = thread; k < count / 4; k += threads) {
    float4 v = reinterpret_cast<const float4*>(in)[k];
    v.x *= factor;
    v.y *= factor;
    v.z *= factor;
    v.w *= factor;
    __stcs(reinterpret_cast<float4*>(out) + k, v);
  }
  for (int k = count / 4 * 4 + thread; k < count; k += threads) out[k] = in[k] * factor;
}

TEST_F(AccessTest, CountsTheBytesOfEachAllocation) {
  constexpr int kCount = 1003;
  float* in = device_copy(std::vector<float>(kCount, 1.0f));
  float* out = device_memory<float>(kCount);
  EXPECT_CUDA(launch(scale, 2, 64, nullptr, in, out, kCount, 2.0f));
  EXPECT_EQ(access::traffic(in).read, 4u * kCount);
  EXPECT_EQ(access::traffic(in).written, 0u);
  EXPECT_EQ(access::traffic(out).read, 0u);
  EXPECT_EQ(access::traffic(out + 500).written, 4u * kCount);
  EXPECT_EQ(access::total().read, 4u * kCount);
  EXPECT_EQ(access::total().written, 4u * kCount);
  EXPECT_EQ(host_copy(out, kCount), std::vector<float>(kCount, 2.0f));
  EXPECT_EQ(access::total().read, 4u * kCount);  // copies are not kernels
}

TEST_F(AccessTest, WatchesARangeByteByByte) {
  constexpr int kCount = 1003;
  float* in = device_copy(std::vector<float>(kCount, 1.0f));
  float* out = device_memory<float>(kCount);
  Watch reads(in, 4 * kCount);
  const Watch body(out, 4 * 1000);
  const Watch tail(out + 1000, 4 * 3);
  EXPECT_CUDA(launch(scale, 2, 64, nullptr, in, out, kCount, 2.0f));
  EXPECT_EQ(reads.reads(), (Watch::Times{1, 1}));
  EXPECT_EQ(reads.writes(), (Watch::Times{0, 0}));
  EXPECT_EQ(body.writes(), (Watch::Times{1, 1}));
  EXPECT_EQ(body.in_accesses_of(16).written, 4000u);
  EXPECT_EQ(tail.traffic().written, 12u);
  EXPECT_EQ(tail.in_accesses_of(4).written, 12u);
  EXPECT_EQ(tail.in_accesses_of(16).written, 0u);

  EXPECT_CUDA(launch(scale, 1, 32, nullptr, in, out, 8, 2.0f));
  EXPECT_EQ(reads.reads(), (Watch::Times{1, 2}));
  EXPECT_EQ(reads.traffic().read, 4u * (kCount + 8));
  EXPECT_EQ(reads.touched().read, 4u * kCount);
  EXPECT_EQ(reads.touched().written, 0u);
  reads.reset();
  EXPECT_EQ(reads.reads(), (Watch::Times{0, 0}));
}

__global__ void count_up(unsigned* counter, unsigned long long* wide) {
  atomicAdd(counter, 1u);
  atomicMax(wide, 5ull + threadIdx.x);
}

TEST_F(AccessTest, AnAtomicIsAReadAndAWrite) {
  unsigned* counter = device_copy(std::vector<unsigned>(1));
  auto* wide = device_copy(std::vector<unsigned long long>(1));
  EXPECT_CUDA(launch(count_up, 1, 10, nullptr, counter, wide));
  EXPECT_EQ(access::traffic(counter).read, 40u);
  EXPECT_EQ(access::traffic(counter).written, 40u);
  EXPECT_EQ(access::traffic(wide).read, 80u);
  EXPECT_EQ(access::traffic(wide).written, 80u);
}

__global__ void only_shared(int* out) {
  MTADAM_SHARED(int, values, 32);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  int sum = 0;
  for (int k = 0; k < 32; ++k) sum += values[k];
  if (threadIdx.x == 0) *out = sum;
}

TEST_F(AccessTest, SharedMemoryIsNotCounted) {
  int* out = device_memory<int>(1);
  EXPECT_CUDA(launch(only_shared, 1, 32, nullptr, out));
  EXPECT_EQ(access::total().read, 0u);
  EXPECT_EQ(access::total().written, 4u);
}

// ---- What a kernel must not touch ----

__global__ void read_at(const float* memory, int index, float* out) { out[0] = memory[index]; }
__global__ void write_at(float* memory, int index) { memory[index] = 1.0f; }

TEST_F(AccessTest, HostMemoryIsForbidden) {
  float host[4] = {};
  float* out = device_memory<float>(1);
  EXPECT_CUDA(launch(read_at, 1, 1, nullptr, host, 1, out));
  expect_failure(cudaErrorIllegalAddress, "neither the device's nor pinned");
  EXPECT_CUDA(launch(write_at, 1, 1, nullptr, host, 1));
  expect_failure(cudaErrorIllegalAddress, "neither the device's nor pinned");
  EXPECT_EQ(host[1], 0.0f);
}

TEST_F(AccessTest, AKernelWithoutADeviceMayUseAnyMemory) {
  float host[4] = {};
  run(write_at, 1, 1, host, 1);
  EXPECT_EQ(host[1], 1.0f);
}

TEST_F(AccessTest, PinnedMemoryIsAllowed) {
  float* pinned = pinned_memory<float>(4);
  EXPECT_CUDA(launch(write_at, 1, 1, nullptr, pinned, 3));
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(pinned[3], 1.0f);
  EXPECT_EQ(access::traffic(pinned).written, 4u);
}

TEST_F(AccessTest, MemoryEndsWhereItsAllocationEnds) {
  for (const int index : {-1, 10, 40}) {
    float* memory = device_copy(std::vector<float>(10, 1.0f));
    float* out = device_memory<float>(1);
    EXPECT_CUDA(launch(read_at, 1, 1, nullptr, memory, index, out));
    expect_failure(cudaErrorIllegalAddress, "outside the allocation");
  }
}

TEST_F(AccessTest, FreedMemoryIsFound) {
  float* memory = device_copy(std::vector<float>(10, 1.0f));
  EXPECT_CUDA(cudaFree(memory));
  EXPECT_CUDA(launch(write_at, 1, 1, nullptr, memory, 3));
  expect_failure(cudaErrorIllegalAddress, "has been freed");
}

TEST_F(AccessTest, AnotherDevicesMemoryIsFound) {
  settings.devices = 2;
  restart();
  float* memory = device_copy(std::vector<float>(10, 1.0f));
  EXPECT_CUDA(cudaSetDevice(1));
  EXPECT_CUDA(launch(write_at, 1, 1, nullptr, memory, 3));
  expect_failure(cudaErrorIllegalAddress, "another device's");
}

__global__ void copy_vector(const float* from, float* to) {
  *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(from);
}

TEST_F(AccessTest, AMisalignedVectorIsFound) {
  float* memory = device_copy(std::vector<float>(16, 1.0f));
  EXPECT_CUDA(launch(copy_vector, 1, 1, nullptr, memory, memory + 8));
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_CUDA(launch(copy_vector, 1, 1, nullptr, memory + 2, memory + 8));
  expect_failure(cudaErrorMisalignedAddress, "misaligned");
}

__global__ void load_after_hint(const double* from, double* to) { *to = __ldcs(from); }

TEST_F(AccessTest, AMisalignedLoadWithAHintIsFound) {
  auto* memory = reinterpret_cast<char*>(device_copy(std::vector<double>(4, 1.0)));
  EXPECT_CUDA(launch(load_after_hint, 1, 1, nullptr, reinterpret_cast<double*>(memory + 4),
                     reinterpret_cast<double*>(memory + 16)));
  expect_failure(cudaErrorMisalignedAddress, "misaligned");
}

__global__ void read_shared_too_early(int* out) {
  MTADAM_SHARED(int, values, 64);
  values[threadIdx.x] = 1;
  *out = values[threadIdx.x + 1];
}

TEST_F(AccessTest, UnwrittenSharedMemoryIsFound) {
  int* out = device_memory<int>(1);
  EXPECT_CUDA(launch(read_shared_too_early, 1, 32, nullptr, out));
  expect_failure(cudaErrorLaunchFailure, "no thread has written to this shared memory");
}

__global__ void poll_raw(volatile int* flag, int* out) {
  if (threadIdx.x == 0) {
    while (*flag == 0) {
    }
    *out = 1;
  } else if (threadIdx.x == 32) {
    *flag = 1;
  }
}

TEST_F(AccessTest, PollingVolatileMemoryLetsTheOthersRun) {
  int* flag = device_copy(std::vector<int>(1));
  int* out = device_memory<int>(1);
  EXPECT_CUDA(launch(poll_raw, 1, 64, nullptr, flag, out));
  EXPECT_EQ(host_copy(out, 1)[0], 1);
}

}  // namespace
}  // namespace simt
