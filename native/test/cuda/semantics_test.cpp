#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "cuda/context.h"
#include "cuda/cuda.h"
#include "cuda/runtime.h"
#include "engine/errors.h"
#include "test/cuda/on_device.h"

#if !defined(MTADAM_SIMT)
#  include <cuda.h>
#endif

// The behaviour of CUDA that the executor's runtime, and so every test on the executor, assumes. On a GPU these tests
// check NVIDIA's runtime.

namespace mtadam {
namespace {

using RuntimeSemantics = test::OnDevice;

#define EXPECT_DONE(call) EXPECT_EQ(call, cudaSuccess)

/// Whether the capture of a stream survives a call.
bool survives(cudaStreamCaptureMode mode, unsigned flags, const std::function<void()>& call) {
  cudaStream_t stream = nullptr;
  EXPECT_DONE(cudaStreamCreateWithFlags(&stream, flags));
  EXPECT_DONE(cudaStreamBeginCapture(stream, mode));
  call();
  cudaGraph_t graph = nullptr;
  const bool survived = cudaStreamEndCapture(stream, &graph) == cudaSuccess;
  if (graph != nullptr) {
    EXPECT_DONE(cudaGraphDestroy(graph));
  }
  cudaGetLastError();
  EXPECT_DONE(cudaStreamDestroy(stream));
  return survived;
}

constexpr cudaStreamCaptureMode kStrictModes[] = {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal};
constexpr cudaStreamCaptureMode kModes[] = {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal,
                                            cudaStreamCaptureModeRelaxed};

bool survives_free(cudaStreamCaptureMode mode) {
  void* memory = nullptr;
  EXPECT_DONE(cudaMalloc(&memory, 4096));
  cudaError_t freed = cudaSuccess;
  const bool survived = survives(mode, cudaStreamNonBlocking, [&] { freed = cudaFree(memory); });
  if (freed != cudaSuccess) {  // the call freed nothing
    EXPECT_DONE(cudaFree(memory));
  }
  return survived;
}

bool survives_pinned_allocation(cudaStreamCaptureMode mode) {
  void* memory = nullptr;
  cudaError_t allocated = cudaSuccess;
  const bool survived = survives(mode, cudaStreamNonBlocking, [&] { allocated = cudaMallocHost(&memory, 64); });
  if (allocated == cudaSuccess) {
    EXPECT_DONE(cudaFreeHost(memory));
  }
  return survived;
}

bool survives_waiting_for_finished_event(cudaStreamCaptureMode mode) {
  cudaEvent_t event = nullptr;
  EXPECT_DONE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  EXPECT_DONE(cudaEventRecord(event, nullptr));
  EXPECT_DONE(cudaEventSynchronize(event));
  const bool survived = survives(mode, cudaStreamNonBlocking, [&] { cudaEventSynchronize(event); });
  EXPECT_DONE(cudaEventDestroy(event));
  return survived;
}

bool survives_waiting_for_the_device(cudaStreamCaptureMode mode) {
  return survives(mode, cudaStreamNonBlocking, [] { cudaDeviceSynchronize(); });
}

TEST_F(RuntimeSemantics, UnsafeCallsInvalidateACaptureThatIsNotRelaxed) {
  for (const cudaStreamCaptureMode mode : kStrictModes) {
    EXPECT_FALSE(survives_free(mode)) << mode;
    EXPECT_FALSE(survives_pinned_allocation(mode)) << mode;
    EXPECT_FALSE(survives_waiting_for_finished_event(mode)) << mode;
    EXPECT_FALSE(survives_waiting_for_the_device(mode)) << mode;
  }
}

TEST_F(RuntimeSemantics, ARelaxedCaptureSurvivesUnsafeCalls) {
  EXPECT_TRUE(survives_free(cudaStreamCaptureModeRelaxed));
  EXPECT_TRUE(survives_pinned_allocation(cudaStreamCaptureModeRelaxed));
  EXPECT_TRUE(survives_waiting_for_finished_event(cudaStreamCaptureModeRelaxed));
}

TEST_F(RuntimeSemantics, QueriesLeaveEveryCaptureAsItIs) {
  cudaStream_t beside = nullptr;
  EXPECT_DONE(cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking));
  void* memory = nullptr;
  EXPECT_DONE(cudaMalloc(&memory, 4096));
  for (const cudaStreamCaptureMode mode : kModes) {
    int device = -1;
    EXPECT_TRUE(survives(mode, cudaStreamNonBlocking, [&] { EXPECT_DONE(cudaStreamGetDevice(beside, &device)); }));
    EXPECT_EQ(device, 0);
    cudaPointerAttributes attributes{};
    EXPECT_TRUE(
        survives(mode, cudaStreamNonBlocking, [&] { EXPECT_DONE(cudaPointerGetAttributes(&attributes, memory)); }));
    EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  }
  EXPECT_DONE(cudaFree(memory));
  EXPECT_DONE(cudaStreamDestroy(beside));
}

TEST_F(RuntimeSemantics, TheLegacyStreamSaysThatABlockingStreamIsCaptured) {
  for (const cudaStreamCaptureMode mode : kModes) {
    EXPECT_TRUE(survives(mode, cudaStreamDefault, [] {
      cudaStreamCaptureStatus status{};
      EXPECT_EQ(cudaStreamIsCapturing(nullptr, &status), cudaErrorStreamCaptureImplicit);
    })) << mode;
  }
}

TEST_F(RuntimeSemantics, UseOfTheLegacyStreamInvalidatesTheCaptureOfABlockingStream) {
  cudaEvent_t event = nullptr;
  EXPECT_DONE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  for (const cudaStreamCaptureMode mode : kModes) {
    EXPECT_FALSE(survives(mode, cudaStreamDefault, [&] { EXPECT_NE(cudaEventRecord(event, nullptr), cudaSuccess); }))
        << mode;
  }
  EXPECT_DONE(cudaEventDestroy(event));
}

void* current_context() {
  void* context = nullptr;
  EXPECT_EQ(cuda::driver_api().cuCtxGetCurrent(&context), 0);
  return context;
}

/// Opens, uses and destroys the device. The caller's context, or none, stays current.
void use_device() {
  void* const before = current_context();
  std::shared_ptr<Device> device = cuda::open(0);
  EXPECT_EQ(current_context(), before);
  std::unique_ptr<Memory> memory = device->allocate(64);
  EXPECT_EQ(cuda::owner_of(memory->data()), 0);
  EXPECT_NO_THROW(device->check_range(memory->data(), 64));
  std::vector<float> sent(16, 3), read(16);
  device->write(memory->data(), sent.data(), 64, nullptr);
  device->add(memory->data(), memory->data(), 16, ElementType::kFloat32, nullptr);
  const std::unique_ptr<HostCopy> copy = device->read_later(memory->data(), 64, nullptr);
  device->read(read.data(), memory->data(), 64, nullptr);
  EXPECT_EQ(read, std::vector<float>(16, 6));
  device->all_done()->wait();
  copy->wait();
  memory.reset();
  device.reset();
  EXPECT_EQ(current_context(), before);
}

TEST_F(RuntimeSemantics, AThreadWithoutAContextHasNoneAfterwards) {
  std::thread([] {
    EXPECT_EQ(current_context(), nullptr);
    use_device();
    EXPECT_EQ(current_context(), nullptr);
  }).join();
}

TEST_F(RuntimeSemantics, AThreadKeepsThePrimaryContext) {
  std::thread([] {
    EXPECT_DONE(cudaSetDevice(0));
    EXPECT_NE(current_context(), nullptr);
    use_device();
    int device = -1;
    EXPECT_DONE(cudaGetDevice(&device));
    EXPECT_EQ(device, 0);
  }).join();
}

#if !defined(MTADAM_SIMT)

TEST_F(RuntimeSemantics, WaitingForTheDeviceInvalidatesEvenARelaxedCapture) {
  EXPECT_FALSE(survives_waiting_for_the_device(cudaStreamCaptureModeRelaxed));
}

/// A stream that is busy for longer than any of these calls takes.
class BusyStream {
 public:
  BusyStream() {
    EXPECT_DONE(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    EXPECT_DONE(cudaMalloc(&memory_, kBytes));
  }
  ~BusyStream() {
    EXPECT_DONE(cudaFree(memory_));
    EXPECT_DONE(cudaStreamDestroy(stream_));
  }
  BusyStream(const BusyStream&) = delete;
  BusyStream& operator=(const BusyStream&) = delete;

  /// Whether a call returns before the stream is done.
  bool outlasts(const std::function<void()>& call) {
    for (int k = 0; k < kOperations; ++k) EXPECT_DONE(cudaMemsetAsync(memory_, k, kBytes, stream_));
    call();
    const cudaError_t state = cudaStreamQuery(stream_);
    EXPECT_TRUE(state == cudaSuccess || state == cudaErrorNotReady) << cudaGetErrorName(state);
    EXPECT_DONE(cudaStreamSynchronize(stream_));
    return state == cudaErrorNotReady;
  }

  /// Has the default stream wait for what is enqueued.
  void hold_default_stream() {
    cudaEvent_t end = nullptr;
    EXPECT_DONE(cudaEventCreateWithFlags(&end, cudaEventDisableTiming));
    EXPECT_DONE(cudaEventRecord(end, stream_));
    EXPECT_DONE(cudaStreamWaitEvent(nullptr, end, 0));
    EXPECT_DONE(cudaEventDestroy(end));
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 30;
  static constexpr int kOperations = 200;

  cudaStream_t stream_ = nullptr;
  void* memory_ = nullptr;
};

TEST_F(RuntimeSemantics, AllocatingDoesNotWait) {
  BusyStream busy;
  void *pinned = nullptr, *memory = nullptr;
  EXPECT_TRUE(busy.outlasts([&] { EXPECT_DONE(cudaMallocHost(&pinned, 4096)); }));
  EXPECT_TRUE(busy.outlasts([&] { EXPECT_DONE(cudaMalloc(&memory, 4096)); }));
  EXPECT_TRUE(busy.outlasts([] {
    cudaEvent_t event = nullptr;
    EXPECT_DONE(cudaEventCreate(&event));
    EXPECT_DONE(cudaEventDestroy(event));
  }));
  EXPECT_DONE(cudaFreeHost(pinned));
  EXPECT_DONE(cudaFree(memory));
}

TEST_F(RuntimeSemantics, FreeingWaitsForEveryStream) {
  void *pinned = nullptr, *memory = nullptr;
  EXPECT_DONE(cudaMallocHost(&pinned, 4096));
  EXPECT_DONE(cudaMalloc(&memory, 4096));
  BusyStream busy;
  EXPECT_FALSE(busy.outlasts([&] { EXPECT_DONE(cudaFreeHost(pinned)); }));
  EXPECT_FALSE(busy.outlasts([&] { EXPECT_DONE(cudaFree(memory)); }));
}

TEST_F(RuntimeSemantics, MemoryOfAPoolComesAndGoesWithoutWaiting) {
  cudaStream_t stream = nullptr;
  EXPECT_DONE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  void* memory = nullptr;
  BusyStream busy;
  EXPECT_TRUE(busy.outlasts([&] { EXPECT_DONE(cudaMallocAsync(&memory, 4096, stream)); }));
  EXPECT_TRUE(busy.outlasts([&] { EXPECT_DONE(cudaFreeAsync(memory, stream)); }));
  EXPECT_TRUE(survives(cudaStreamCaptureModeRelaxed, cudaStreamDefault, [&] {
    EXPECT_DONE(cudaMallocAsync(&memory, 4096, stream));
    EXPECT_DONE(cudaFreeAsync(memory, stream));
  }));
  EXPECT_DONE(cudaStreamSynchronize(stream));
  EXPECT_DONE(cudaStreamDestroy(stream));
}

TEST_F(RuntimeSemantics, AllocatingDoesNotWaitForMemoryThatIsBeingFreed) {
  const std::shared_ptr<Device> device = open();
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  std::unique_ptr<Memory> memory = device->allocate(kBytes), next;
  BusyStream busy;
  EXPECT_TRUE(busy.outlasts([&] {
    busy.hold_default_stream();
    memory.reset();  // is freed after the calls on the default stream
    next = device->allocate(kBytes);
  }));
}

TEST_F(RuntimeSemantics, MemoryIsFreedWithoutWaitingUnlessItIsLent) {
  const std::shared_ptr<Device> device = open();
  std::unique_ptr<Memory> memory = device->allocate(4096), lent = device->allocate(4096);
  lent->lend();
  BusyStream busy;
  EXPECT_TRUE(busy.outlasts([&] { memory.reset(); }));
  EXPECT_FALSE(busy.outlasts([&] { lent.reset(); }));
}

/// A function of the driver. The tests are not linked with it, so that they can start without one and say so.
template <class Function>
Function* driver_function(const char* name, Function*) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  EXPECT_DONE(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found));
  EXPECT_EQ(found, cudaDriverEntryPointSuccess) << name;
  return reinterpret_cast<Function*>(function);
}

#  define EXPECT_DRIVER(name, ...) \
    EXPECT_EQ(driver_function(#name, static_cast<decltype(&::name)>(nullptr))(__VA_ARGS__), CUDA_SUCCESS)

// As in PyTorch's expandable segments.
TEST_F(RuntimeSemantics, TheDriverSeesARangeOverTwoHandlesAsTwoAllocations) {
  EXPECT_DONE(cudaFree(nullptr));  // the device's context
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  std::size_t part = 0;
  EXPECT_DRIVER(cuMemGetAllocationGranularity, &part, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
  CUdeviceptr range = 0;
  EXPECT_DRIVER(cuMemAddressReserve, &range, 2 * part, 0, 0, 0);
  CUmemGenericAllocationHandle handles[2] = {};
  for (unsigned k = 0; k < 2; ++k) {
    EXPECT_DRIVER(cuMemCreate, &handles[k], part, &properties, 0);
    EXPECT_DRIVER(cuMemMap, range + k * part, part, 0, handles[k], 0);
  }
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  EXPECT_DRIVER(cuMemSetAccess, range, 2 * part, &access, 1);

  for (unsigned k = 0; k < 2; ++k) {
    CUdeviceptr base = 0;
    std::size_t size = 0;
    const auto address_range = driver_function(
        "cuMemGetAddressRange", static_cast<CUresult (*)(CUdeviceptr*, std::size_t*, CUdeviceptr)>(nullptr));
    EXPECT_EQ(address_range(&base, &size, range + k * part + part / 2), CUDA_SUCCESS);
    EXPECT_EQ(base, range + k * part);
    EXPECT_EQ(size, part);
  }

  EXPECT_DRIVER(cuMemUnmap, range, 2 * part);
  for (const CUmemGenericAllocationHandle handle : handles) EXPECT_DRIVER(cuMemRelease, handle);
  EXPECT_DRIVER(cuMemAddressFree, range, 2 * part);
}

TEST_F(RuntimeSemantics, AContextOfTheUsersStaysCurrentAndItsMemoryIsRefused) {
  const std::shared_ptr<Device> device = open();
  std::thread([&] {
    // The version of CUDA 3.2: the parameters have changed twice since then.
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    EXPECT_DONE(cudaGetDriverEntryPointByVersion("cuCtxCreate", &found, 3020, cudaEnableDefault, &result));
    ASSERT_NE(found, nullptr);
    CUcontext own = nullptr;
    ASSERT_EQ(reinterpret_cast<CUresult (*)(CUcontext*, unsigned, CUdevice)>(found)(&own, 0, 0), CUDA_SUCCESS);
    CUdeviceptr memory = 0;
    EXPECT_DRIVER(cuMemAlloc, &memory, 4096);
    use_device();
    EXPECT_EQ(current_context(), own);
    EXPECT_EQ(cuda::owner_of(reinterpret_cast<void*>(memory)), 0);
    EXPECT_THROW(device->check_range(reinterpret_cast<void*>(memory), 4096), Error);
    EXPECT_DRIVER(cuMemFree, memory);
    EXPECT_DRIVER(cuCtxDestroy, own);
  }).join();
}

TEST_F(RuntimeSemantics, MemoryOfAPoolEndsWhereItWasAskedToEnd) {
  const std::shared_ptr<Device> device = open();
  constexpr std::size_t kBytes = std::size_t{100} << 20;
  void* memory = nullptr;
  EXPECT_DONE(cudaMallocAsync(&memory, kBytes, nullptr));
  EXPECT_DONE(cudaStreamSynchronize(nullptr));
  EXPECT_NO_THROW(device->check_range(memory, kBytes));
  EXPECT_THROW(device->check_range(memory, kBytes + 1), Error);
  EXPECT_DONE(cudaFreeAsync(memory, nullptr));
  EXPECT_DONE(cudaStreamSynchronize(nullptr));
  EXPECT_THROW(device->check_range(memory, 4), Error);
}

#endif

}  // namespace
}  // namespace mtadam
