// Device and pinned memory: its addresses, its contents, and how accesses outside of it are found.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "test/simt/access.h"
#include "test/simt/device.h"
#include "test/simt/launch.h"
#include "test/simt/sanitizers.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

using AllocationTest = CudaTest;

TEST_F(AllocationTest, IsAlignedAndStartsAsNaN) {
  for (const std::size_t bytes : {4u, 100u, 256u, 5000u, 1u << 20}) {
    auto* memory = device_memory<char>(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 256, 0u);
    for (const float value : host_copy(reinterpret_cast<float*>(memory), bytes / 4)) EXPECT_TRUE(std::isnan(value));
  }
  const auto* pinned = pinned_memory<float>(3);
  EXPECT_TRUE(std::isnan(pinned[2]));
}

TEST_F(AllocationTest, OfZeroBytesIsNull) {
  int some = 0;
  int* memory = &some;
  EXPECT_CUDA(cudaMalloc(&memory, 0));
  EXPECT_EQ(memory, nullptr);
  EXPECT_CUDA(cudaFree(nullptr));
  EXPECT_CUDA(cudaFreeHost(nullptr));
}

TEST_F(AllocationTest, IsFreedOnceAndByItsFirstAddress) {
  int* device = device_memory<int>(100);
  int* pinned = pinned_memory<int>(100);
  EXPECT_EQ(cudaFree(device + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(pinned), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(device), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaFree(device));
  EXPECT_CUDA(cudaFreeHost(pinned));
  EXPECT_EQ(cudaFree(device), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(pinned), cudaErrorInvalidValue);
  EXPECT_TRUE(cuda::live().nothing());
}

TEST_F(AllocationTest, OfAnotherProcessIsItsFile) {
  const int file = memfd_create("allocation", MFD_CLOEXEC);
  ASSERT_GE(file, 0);
  std::vector<int> values(3000, 7);
  const auto bytes = static_cast<ssize_t>(values.size() * sizeof(int));
  ASSERT_EQ(write(file, values.data(), values.size() * sizeof(int)), bytes);
  cudaIpcMemHandle_t handle{};
  std::snprintf(handle.reserved, sizeof handle.reserved, "/proc/self/fd/%d", file);

  void* opened = nullptr;
  EXPECT_EQ(cudaIpcOpenMemHandle(&opened, handle, 0), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaIpcOpenMemHandle(&opened, handle, cudaIpcMemLazyEnablePeerAccess));
  EXPECT_EQ(host_copy(static_cast<int*>(opened), values.size()), values);
  EXPECT_CUDA(cudaMemset(opened, 0, values.size() * sizeof(int)));
  ASSERT_EQ(pread(file, values.data(), values.size() * sizeof(int), 0), bytes);
  EXPECT_EQ(values, std::vector<int>(3000, 0));

  EXPECT_EQ(cudaFree(opened), cudaErrorInvalidValue);
  EXPECT_EQ(cudaIpcCloseMemHandle(device_memory<int>(1)), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaIpcCloseMemHandle(opened));
  EXPECT_EQ(cudaIpcCloseMemHandle(opened), cudaErrorInvalidValue);
  close(file);
  EXPECT_EQ(cudaIpcOpenMemHandle(&opened, handle, cudaIpcMemLazyEnablePeerAccess), cudaErrorInvalidValue);
}

TEST_F(AllocationTest, FailsBeyondTheDevicesMemory) {
  settings.memory = 1 << 20;
  restart();
  char* first = device_memory<char>(700 << 10);
  char* second = nullptr;
  EXPECT_EQ(cudaMalloc(&second, 400 << 10), cudaErrorMemoryAllocation);
  EXPECT_EQ(second, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  std::size_t free = 0;
  std::size_t total = 0;
  EXPECT_CUDA(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(free, std::size_t{324} << 10);
  EXPECT_EQ(total, std::size_t{1} << 20);
  EXPECT_CUDA(cudaFree(first));
  EXPECT_CUDA(cudaMalloc(&second, 400 << 10));
  EXPECT_EQ(cuda::live().device_allocations, 1u);
  EXPECT_EQ(cuda::live().device_bytes, std::size_t{400} << 10);
}

TEST_F(AllocationTest, IsNotReusedSoon) {
  std::vector<char*> seen;
  for (int k = 0; k < 100; ++k) {
    char* memory = device_memory<char>(1000);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), memory), 0);
    seen.push_back(memory);
    EXPECT_CUDA(cudaFree(memory));
  }
}

TEST_F(AllocationTest, IsReusedWhenMuchHasBeenFreed) {
  // More than there are addresses without reuse.
  for (int k = 0; k < 300; ++k) {
    char* memory = device_memory<char>(std::size_t{1} << 20);
    ASSERT_NE(memory, nullptr);
    EXPECT_CUDA(cudaFree(memory));
  }
  const char* first = device_memory<char>(4);
  char* large = device_memory<char>(std::size_t{3} << 20);
  EXPECT_LT(first, large);
}

TEST_F(AllocationTest, IsReusedAtOnceWithoutQuarantine) {
  settings.quarantine = 0;
  restart();
  void* first = nullptr;
  void* second = nullptr;
  EXPECT_CUDA(cudaMalloc(&first, 1000));
  EXPECT_CUDA(cudaFree(first));
  EXPECT_CUDA(cudaMalloc(&second, 8));
  EXPECT_EQ(first, second);
}

TEST_F(AllocationTest, OfAPoolIsFreedInTheOrderOfItsStream) {
  settings.execution = cuda::Execution::kLazy;
  restart();
  cudaStream_t work = stream(), freeing = stream();
  void* memory = nullptr;
  EXPECT_CUDA(cudaMallocAsync(&memory, 64, work));
  EXPECT_CUDA(cudaMemsetAsync(memory, 1, 64, work));
  cudaEvent_t used = nullptr;
  EXPECT_CUDA(cudaEventCreate(&used));
  EXPECT_CUDA(cudaEventRecord(used, work));
  EXPECT_CUDA(cudaStreamWaitEvent(freeing, used, 0));
  EXPECT_CUDA(cudaFreeAsync(memory, freeing));
  EXPECT_EQ(cudaFreeAsync(memory, freeing), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::live().device_bytes, 64u);
  EXPECT_CUDA(cudaStreamSynchronize(freeing));
  EXPECT_EQ(cuda::live().device_bytes, 0u);
  EXPECT_CUDA(cudaEventDestroy(used));
}

TEST_F(AllocationTest, OfAPoolOfTheProgramOutlivesThePool) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  cudaMemPool_t pool = nullptr;
  EXPECT_CUDA(cudaMemPoolCreate(&pool, &properties));
  int no = 0;
  EXPECT_CUDA(cudaMemPoolSetAttribute(pool, cudaMemPoolReuseAllowInternalDependencies, &no));
  cudaStream_t work = stream();
  void* memory = nullptr;
  EXPECT_CUDA(cudaMallocFromPoolAsync(&memory, 64, pool, work));
  EXPECT_CUDA(cudaMemPoolDestroy(pool));
  EXPECT_EQ(cudaMemPoolDestroy(pool), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaMemsetAsync(memory, 1, 64, work));
  EXPECT_CUDA(cudaFreeAsync(memory, work));
  EXPECT_CUDA(cudaStreamSynchronize(work));
  EXPECT_EQ(cuda::live().device_bytes, 0u);
  EXPECT_EQ(cudaMallocFromPoolAsync(&memory, 64, pool, work), cudaErrorInvalidValue);
  properties.location.id = 1;
  EXPECT_EQ(cudaMemPoolCreate(&pool, &properties), cudaErrorInvalidValue);
}

TEST_F(AllocationTest, OfAPoolThatIsFreedTooEarlyIsFound) {
  settings.execution = cuda::Execution::kLazy;
  restart();
  cudaStream_t work = stream(), freeing = stream();
  void* memory = nullptr;
  EXPECT_CUDA(cudaMallocAsync(&memory, 64, work));
  EXPECT_CUDA(cudaMemsetAsync(memory, 1, 64, work));
  EXPECT_CUDA(cudaFreeAsync(memory, freeing));
  EXPECT_CUDA(cudaStreamSynchronize(freeing));
  EXPECT_EQ(cudaStreamSynchronize(work), cudaErrorIllegalAddress);
}

TEST_F(AllocationTest, OfAPoolIsFreedByCudaFreeWithoutWaiting) {
  settings.execution = cuda::Execution::kLazy;
  restart();
  void* memory = nullptr;
  int* other = device_memory<int>(1);
  cudaStream_t work = stream();
  EXPECT_CUDA(cudaMallocAsync(&memory, 64, work));
  EXPECT_CUDA(cudaMemsetAsync(other, 1, 4, work));
  EXPECT_CUDA(cudaFree(memory));
  EXPECT_EQ(cuda::live().queued_operations, 1u);
  EXPECT_EQ(cudaFreeAsync(other, work), cudaErrorInvalidValue);
}

TEST_F(AllocationTest, HasNoPoolWhereTheDeviceHasNone) {
  int supported = 0;
  EXPECT_CUDA(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, 0));
  EXPECT_EQ(supported, 1);
  settings.pools = false;
  restart();
  EXPECT_CUDA(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, 0));
  EXPECT_EQ(supported, 0);
  void* memory = nullptr;
  EXPECT_EQ(cudaMallocAsync(&memory, 64, nullptr), cudaErrorNotSupported);
  const cudaMemPoolProps properties{cudaMemAllocationTypePinned, cudaMemHandleTypeNone, {cudaMemLocationTypeDevice, 0}};
  cudaMemPool_t pool = nullptr;
  EXPECT_EQ(cudaMemPoolCreate(&pool, &properties), cudaErrorNotSupported);
}

TEST_F(AllocationTest, TellsTheMemoryOfAPointer) {
  settings.devices = 2;
  restart();
  int host = 0;
  int* pinned = pinned_memory<int>(10);
  EXPECT_CUDA(cudaSetDevice(1));
  int* device = device_memory<int>(10);
  EXPECT_CUDA(cudaSetDevice(0));

  cudaPointerAttributes attributes{};
  EXPECT_CUDA(cudaPointerGetAttributes(&attributes, device + 9));
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 1);
  EXPECT_EQ(attributes.devicePointer, device + 9);
  EXPECT_EQ(attributes.hostPointer, nullptr);

  EXPECT_CUDA(cudaPointerGetAttributes(&attributes, pinned + 9));
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  EXPECT_EQ(attributes.hostPointer, pinned + 9);
  EXPECT_EQ(attributes.devicePointer, pinned + 9);

  EXPECT_CUDA(cudaPointerGetAttributes(&attributes, &host));
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  EXPECT_EQ(attributes.devicePointer, nullptr);

  EXPECT_CUDA(cudaFree(device));
  EXPECT_CUDA(cudaPointerGetAttributes(&attributes, device));
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
}

TEST_F(AllocationTest, TellsAnAllocationsRangeThroughTheDriver) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
  ASSERT_CUDA(cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &entry, 12000, cudaEnableDefault, &status));
  ASSERT_EQ(status, cudaDriverEntryPointSuccess);
  const auto range = reinterpret_cast<int (*)(unsigned long long*, std::size_t*, unsigned long long)>(entry);

  char* memory = device_memory<char>(1000);
  unsigned long long base = 0;
  std::size_t bytes = 0;
  EXPECT_EQ(range(&base, &bytes, reinterpret_cast<std::uintptr_t>(memory + 999)), 0);
  EXPECT_EQ(base, reinterpret_cast<std::uintptr_t>(memory));
  EXPECT_EQ(bytes, 1000u);
  EXPECT_NE(range(&base, &bytes, reinterpret_cast<std::uintptr_t>(&base)), 0);

  EXPECT_CUDA(cudaGetDriverEntryPoint("cuNothing", &entry, cudaEnableDefault, &status));
  EXPECT_EQ(entry, nullptr);
  EXPECT_EQ(status, cudaDriverEntryPointSymbolNotFound);
}

// ---- Accesses that must not be ----

__global__ void write_at(int* memory, int index) { memory[index] = 1; }

TEST_F(AllocationTest, WritingBeyondItIsFound) {
  if (under_address_sanitizer()) {
    int* memory = device_memory<int>(10);
    EXPECT_DEATH(launch(write_at, 1, 1, nullptr, memory, 10), "use-after-poison");
    EXPECT_DEATH(launch(write_at, 1, 1, nullptr, memory, -1), "use-after-poison");
    return;
  }
  for (const int index : {-1, 10}) {
    restart();
    int* memory = device_memory<int>(10);
    EXPECT_CUDA(launch(write_at, 1, 1, nullptr, memory, 9));
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_CUDA(launch(write_at, 1, 1, nullptr, memory, index));
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    EXPECT_NE(cuda::failure().find("write_at"), std::string::npos);
  }
}

__global__ void read_first(const float* memory, float* out) { out[0] = memory[0]; }

TEST_F(AllocationTest, ReadingItWhenItIsFreedIsFound) {
  float* memory = device_copy(std::vector<float>(10, 1.0f));
  float* out = device_memory<float>(1);
  EXPECT_CUDA(cudaFree(memory));
  if (under_address_sanitizer()) {
    EXPECT_DEATH(launch(read_first, 1, 1, nullptr, memory, out), "use-after-poison");
    return;
  }
  EXPECT_CUDA(launch(read_first, 1, 1, nullptr, memory, out));
  if (access::active()) {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  } else {
    EXPECT_TRUE(std::isnan(host_copy(out, 1)[0]));
  }
}

TEST_F(AllocationTest, TheHostCannotTouchDeviceMemory) {
  float* memory = device_copy(std::vector<float>(10, 1.0f));
  {
    const cuda::DeviceMemoryShown shown;
    EXPECT_EQ(memory[9], 1.0f);
  }
  EXPECT_DEATH(
      {
        cuda::explain_host_accesses();
        memory[0] = 2.0f;
      },
      "host code accesses device memory");

  settings.hide_device_memory = false;
  restart();
  memory = device_copy(std::vector<float>(10, 1.0f));
  EXPECT_EQ(memory[9], 1.0f);
}

}  // namespace
}  // namespace simt
