// Versions, devices, errors and faults.

#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>

#include "test/simt/device.h"
#include "test/simt/launch.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

using DeviceTest = CudaTest;

__global__ void set(int* out, int value) { out[threadIdx.x] = value; }

// ---- Versions and devices ----

TEST_F(DeviceTest, KnowsItsVersions) {
  settings.driver_version = 13010;
  restart();
  int version = 0;
  EXPECT_CUDA(cudaDriverGetVersion(&version));
  EXPECT_EQ(version, 13010);
  EXPECT_CUDA(cudaRuntimeGetVersion(&version));
  EXPECT_EQ(version, CUDART_VERSION);
}

TEST_F(DeviceTest, WithoutADriverNothingWorksButTheVersions) {
  settings.driver = false;
  restart();
  int number = 5;
  EXPECT_EQ(cudaGetDeviceCount(&number), cudaErrorInsufficientDriver);
  EXPECT_EQ(number, 0);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInsufficientDriver);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorInsufficientDriver);
  EXPECT_EQ(launch(set, 1, 1, nullptr, nullptr, 1), cudaErrorInsufficientDriver);
  EXPECT_CUDA(cudaDriverGetVersion(&number));
  EXPECT_EQ(number, 0);
}

TEST_F(DeviceTest, ADriverOlderThanTheRuntimeIsNotEnough) {
  settings.driver_version = 12080;
  restart();
  int number = 0;
  EXPECT_EQ(cudaGetDeviceCount(&number), cudaErrorInsufficientDriver);
  EXPECT_CUDA(cudaDriverGetVersion(&number));
  EXPECT_EQ(number, 12080);
}

TEST_F(DeviceTest, MayHaveNoDevice) {
  settings.devices = 0;
  restart();
  int count = 5;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
  EXPECT_EQ(cudaSetDevice(0), cudaErrorNoDevice);
}

TEST_F(DeviceTest, HasSeveralDevicesOneOfWhichIsAThreadsCurrent) {
  settings.devices = 3;
  restart();
  int number = 0;
  EXPECT_CUDA(cudaGetDeviceCount(&number));
  EXPECT_EQ(number, 3);
  EXPECT_CUDA(cudaSetDevice(2));
  std::thread([] {
    int other = 7;
    EXPECT_CUDA(cudaGetDevice(&other));
    EXPECT_EQ(other, 0);
  }).join();
  EXPECT_CUDA(cudaGetDevice(&number));
  EXPECT_EQ(number, 2);
  EXPECT_EQ(cudaSetDevice(3), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
  EXPECT_CUDA(cudaGetDevice(&number));
  EXPECT_EQ(number, 2);
}

TEST_F(DeviceTest, DescribesADevice) {
  settings.devices = 2;
  settings.compute_major = 8;
  settings.compute_minor = 6;
  settings.multiprocessors = 11;
  settings.memory = 123 << 20;
  restart();
  cudaDeviceProp properties{};
  EXPECT_CUDA(cudaGetDeviceProperties(&properties, 1));
  EXPECT_EQ(std::string(properties.name), "SIMT executor 1");
  EXPECT_EQ(properties.major * 10 + properties.minor, 86);
  EXPECT_EQ(properties.multiProcessorCount, 11);
  EXPECT_EQ(properties.totalGlobalMem, std::size_t{123} << 20);
  EXPECT_EQ(properties.warpSize, 32);
  int value = 0;
  EXPECT_CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMinor, 0));
  EXPECT_EQ(value, 6);
  EXPECT_CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0));
  EXPECT_EQ(value, 11);
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetDeviceProperties(&properties, -1), cudaErrorInvalidDevice);
}

TEST_F(DeviceTest, TellsTheLimitsOfAKernel) {
  settings.blocks_per_multiprocessor = 3;
  restart();
  cudaFuncAttributes attributes{};
  EXPECT_CUDA(cudaFuncGetAttributes(&attributes, set));
  EXPECT_EQ(attributes.maxThreadsPerBlock, 1024);
  EXPECT_EQ(attributes.localSizeBytes, 0u);
  int blocks = 0;
  EXPECT_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, set, 256, 0));
  EXPECT_EQ(blocks, 3);
}

// ---- Errors ----

TEST_F(DeviceTest, NamesErrors) {
  EXPECT_EQ(std::string(cudaGetErrorName(cudaErrorIllegalAddress)), "cudaErrorIllegalAddress");
  EXPECT_EQ(std::string(cudaGetErrorString(cudaErrorIllegalAddress)), "an illegal memory access was encountered");
  EXPECT_EQ(std::string(cudaGetErrorString(static_cast<cudaError_t>(1023))), "unrecognized error code");
}

TEST_F(DeviceTest, RemembersAThreadsLastErrorUntilAsked) {
  EXPECT_EQ(cudaSetDevice(9), cudaErrorInvalidDevice);
  EXPECT_CUDA(cudaSetDevice(0));
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
  std::thread([] { EXPECT_CUDA(cudaGetLastError()); }).join();
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_CUDA(cudaGetLastError());
}

TEST_F(DeviceTest, RejectsALaunchThatNoDeviceAccepts) {
  EXPECT_EQ(launch(set, 0, 1, nullptr, nullptr, 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(set, 1, 1025, nullptr, nullptr, 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cuda::launches(), 0u);
}

__global__ void diverge() {
  if (threadIdx.x < 16) __syncthreads();
}

TEST_F(DeviceTest, AKernelsMistakeIsAnErrorThatStays) {
  int* memory = device_memory<int>(32);
  cudaStream_t work = stream();
  EXPECT_CUDA(launch(diverge, 1, 32, work));
  EXPECT_EQ(cudaStreamSynchronize(work), cudaErrorLaunchFailure);
  EXPECT_NE(cuda::failure().find("kernel simt::(anonymous namespace)::diverge: barrier"), std::string::npos)
      << cuda::failure();
  EXPECT_NE(cuda::failure().find("device_test.cpp:"), std::string::npos);

  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaFree(memory), cudaErrorLaunchFailure);
  EXPECT_EQ(launch(set, 1, 1, work, memory, 1), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaStreamDestroy(work), cudaErrorLaunchFailure);

  EXPECT_CUDA(cudaDeviceReset());
  EXPECT_EQ(cuda::failure(), "");
  EXPECT_CUDA(cudaGetLastError());
  EXPECT_TRUE(cuda::live().nothing());
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
  EXPECT_EQ(cudaStreamSynchronize(work), cudaErrorInvalidResourceHandle);
}

TEST_F(DeviceTest, AFailedDeviceLeavesTheOthersAlone) {
  settings.devices = 2;
  restart();
  EXPECT_CUDA(launch(diverge, 1, 32, nullptr));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_CUDA(cudaSetDevice(1));
  EXPECT_CUDA(cudaDeviceSynchronize());
  int* memory = device_memory<int>(32);
  EXPECT_CUDA(launch(set, 1, 32, nullptr, memory, 5));
  EXPECT_EQ(host_copy(memory, 32)[31], 5);
  EXPECT_CUDA(cudaFree(memory));
}

// ---- Injected faults ----

TEST_F(DeviceTest, FailsALaunchOnRequest) {
  int* memory = device_copy(std::vector<int>(32, 1));
  cuda::fail_launch(2, cudaErrorIllegalAddress);
  EXPECT_CUDA(launch(set, 1, 32, nullptr, memory, 2));
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_CUDA(launch(set, 1, 32, nullptr, memory, 3));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMemcpy(memory, memory, 4, cudaMemcpyDefault), cudaErrorIllegalAddress);
  EXPECT_NE(cuda::failure().find("injected"), std::string::npos);
}

TEST_F(DeviceTest, FailsACallOnRequest) {
  cuda::fail_call("cudaStreamCreateWithFlags", 2, cudaErrorMemoryAllocation);
  cudaStream_t made = nullptr;
  EXPECT_CUDA(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
  EXPECT_EQ(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_CUDA(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
  EXPECT_EQ(cuda::live().streams, 2u);
  EXPECT_EQ(cuda::calls("cudaStreamCreateWithFlags"), 3u);

  cuda::fail_call("cudaLaunchKernel", 1, cudaErrorNoKernelImageForDevice);
  EXPECT_EQ(launch(diverge, 1, 32, nullptr), cudaErrorNoKernelImageForDevice);
  EXPECT_CUDA(cudaDeviceSynchronize());
}

TEST_F(DeviceTest, RunsOutOfMemoryOnRequest) {
  cuda::fail_allocation(2);
  int* device = device_memory<int>(4);
  int* pinned = nullptr;
  EXPECT_EQ(cudaMallocHost(&pinned, 16), cudaErrorMemoryAllocation);
  EXPECT_EQ(pinned, nullptr);
  EXPECT_CUDA(cudaMallocHost(&pinned, 16));
  EXPECT_CUDA(cudaFree(device));
  EXPECT_CUDA(cudaFreeHost(pinned));
  cuda::fail_allocation(1);
  cuda::clear_faults();
  EXPECT_CUDA(cudaMalloc(&device, 16));
}

// ---- Counts ----

template <class T, int kFactor>
__global__ void scale(T* data) {
  data[threadIdx.x] *= kFactor;
}

TEST_F(DeviceTest, CountsCallsAndLaunchesByName) {
  float* memory = device_copy(std::vector<float>(32, 1));
  cuda::reset_counters();
  EXPECT_CUDA(launch(scale<float, 2>, 1, 32, nullptr, memory));
  EXPECT_CUDA(launch(scale<float, 2>, 1, 32, nullptr, memory));
  EXPECT_CUDA(launch(scale<float, 3>, 1, 32, nullptr, memory));
  EXPECT_CUDA(launch(set, 1, 32, nullptr, reinterpret_cast<int*>(memory), 1));
  EXPECT_EQ(cuda::launches(), 4u);
  EXPECT_EQ(cuda::launches("scale"), 3u);
  EXPECT_EQ(cuda::launches("set"), 1u);
  EXPECT_EQ(cuda::launches("other"), 0u);
  EXPECT_EQ(cuda::counters().launches.at("simt::(anonymous namespace)::scale<float, 2>"), 2u);
  EXPECT_EQ(cuda::calls("cudaLaunchKernel"), 4u);
  EXPECT_EQ(cuda::calls("cudaMemcpy"), 0u);
}

// ---- Resetting ----

TEST_F(DeviceTest, TakesItsSettingsFromWords) {
  cuda::reset_from(
      "devices=2  execution=lazy order=descending seed=9 resident_blocks=3 memory=64 driver_version=13020");
  EXPECT_EQ(cuda::settings().devices, 2);
  EXPECT_EQ(cuda::settings().execution, cuda::Execution::kLazy);
  EXPECT_EQ(cuda::settings().seed, 9u);
  EXPECT_EQ(cuda::settings().memory, std::size_t{64} << 20);
  EXPECT_EQ(cuda::settings().driver_version, 13020);
  EXPECT_TRUE(cuda::settings().hide_device_memory);
  EXPECT_EQ(config().order, Order::kDescending);
  EXPECT_EQ(config().resident_blocks, 3u);
  for (const char* wrong : {"device=2", "devices", "devices=two", "seed=1x", "execution=soon"}) {
    EXPECT_THROW(cuda::reset_from(wrong), std::invalid_argument) << wrong;
  }
}

TEST_F(DeviceTest, AResetMachineIsLikeNew) {
  void* memory = device_memory<int>(4);
  cudaStream_t before = stream();
  cudaEvent_t mark = event();
  cuda::reset(settings);
  EXPECT_TRUE(cuda::live().nothing());
  EXPECT_EQ(cudaStreamSynchronize(before), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventQuery(mark), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
  EXPECT_NE(stream(), before);
}

}  // namespace
}  // namespace simt
