#include "test/simt/cuda/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "test/simt/cuda/runtime.h"
#include "test/simt/cuda_runtime.h"

namespace simt::cuda {

Place place_of(const void* address, std::size_t bytes) {
  Runtime& runtime = Runtime::get();
  for (int k = 0; k < Runtime::kMaxDevices; ++k) {
    const auto& device = runtime.devices[static_cast<std::size_t>(k)];
    if (!device || !device->memory.contains(address)) continue;
    return {device->memory.live(address, bytes) ? Place::Kind::kDevice : Place::Kind::kInvalid, k};
  }
  if (!runtime.pinned->contains(address)) return {Place::Kind::kPageable, -1};
  const bool live = runtime.pinned->live(address, bytes);
  return {live ? Place::Kind::kPinned : Place::Kind::kInvalid, -1};
}

Allocation* allocation_of(const void* address) {
  Runtime& runtime = Runtime::get();
  for (const auto& device : runtime.devices) {
    if (device && device->memory.contains(address)) return device->memory.find(address);
  }
  return runtime.pinned->contains(address) ? runtime.pinned->find(address) : nullptr;
}

Allocation* live_allocation_at(const void* address) {
  Allocation* allocation = allocation_of(address);
  return allocation && allocation->live && allocation->holds(address, 1) ? allocation : nullptr;
}

namespace {

cudaError_t allocate_pinned(Runtime& runtime, RuntimeCall& call, void** memory, std::size_t bytes) {
  if (!memory) return call.done(cudaErrorInvalidValue);
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (const auto error = runtime.injected("allocation")) return call.done(*error);
  Allocation* allocation = runtime.pinned->allocate(bytes, runtime.thread().device);
  if (!allocation) return call.done(cudaErrorMemoryAllocation);
  *memory = allocation->data;
  return cudaSuccess;
}

cudaError_t allocate_device(Runtime& runtime, RuntimeCall& call, void** memory, std::size_t bytes, bool pooled) {
  if (!memory) return call.done(cudaErrorInvalidValue);
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (const auto error = runtime.injected("allocation")) return call.done(*error);
  Arena& arena = runtime.current().memory;
  if (bytes > runtime.settings.memory - arena.live_bytes()) return call.done(cudaErrorMemoryAllocation);
  runtime.show_memory();
  Allocation* allocation = arena.allocate(bytes, runtime.thread().device);
  if (!allocation) return call.done(cudaErrorMemoryAllocation);
  allocation->pooled = pooled;
  *memory = allocation->data;
  return cudaSuccess;
}

/// The device memory that starts at the address and can be freed; null if none.
Allocation* freeable(const void* memory) {
  Allocation* const allocation = live_allocation_at(memory);
  const bool of_device = place_of(memory, 0).kind == Place::Kind::kDevice;
  return of_device && allocation && allocation->data == memory && !allocation->freeing ? allocation : nullptr;
}

constexpr std::size_t kPage = 4096;

/// The first page that lies in an allocation as a whole.
char* first_page(const Allocation& allocation) {
  const auto address = reinterpret_cast<std::uintptr_t>(allocation.data);
  return allocation.data + (kPage - address % kPage) % kPage;
}

/// An allocation whose pages are those of a file. Null if there is no such file or no memory.
Allocation* map_file(Runtime& runtime, const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return nullptr;
  struct stat status = {};
  Allocation* allocation = nullptr;
  if (fstat(file, &status) == 0 && status.st_size > 0) {
    const auto bytes = static_cast<std::size_t>(status.st_size);
    // Whole pages are mapped, of which none may lie in a red zone.
    const std::size_t pages = (bytes + kPage - 1) / kPage;
    allocation = runtime.current().memory.allocate((pages + 1) * kPage, runtime.thread().device);
    if (allocation != nullptr) {
      allocation->shared = bytes;
      mmap(first_page(*allocation), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    }
  }
  close(file);
  return allocation;
}

}  // namespace

void* allocate(Origin origin, std::size_t piece_bytes, std::size_t pieces) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  Arena& arena = runtime.current().memory;
  arena.show();
  Allocation* const allocation = arena.allocate(piece_bytes * pieces, runtime.thread().device);
  arena.hide();
  if (!allocation) return nullptr;
  allocation->piece = piece_bytes;
  allocation->mapped = origin == Origin::kMapped;
  allocation->foreign = origin == Origin::kOtherContext;
  return allocation->data;
}

}  // namespace simt::cuda

using simt::cuda::Allocation;
using simt::cuda::Arena;
using simt::cuda::Place;

extern "C" {

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  SIMT_CUDA_CALL(kSafe);
  return simt::cuda::allocate_device(runtime, call, memory, bytes, false);
}

cudaError_t cudaFree(void* memory) {
  SIMT_CUDA_CALL(kSafe);
  if (!memory) return cudaSuccess;
  Allocation* const allocation = simt::cuda::freeable(memory);
  if (!allocation) return call.done(cudaErrorInvalidValue);
  const int device = allocation->device;
  if (runtime.settings.free_synchronises && !allocation->pooled) runtime.synchronise_device(device);
  runtime.show_memory();
  runtime.device(device).memory.free(*allocation);
  return call.outcome(device);
}

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t handle) {
  SIMT_CUDA_CALL(kSafe);
  if (!runtime.settings.pools) return call.done(cudaErrorNotSupported);
  const auto stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (stream->capture) return call.done(cudaErrorNotYetImplemented);
  return simt::cuda::allocate_device(runtime, call, memory, bytes, true);
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  SIMT_CUDA_CALL(kSafe);
  if (!pool || !properties) return call.done(cudaErrorInvalidValue);
  if (!runtime.settings.pools) return call.done(cudaErrorNotSupported);
  const cudaMemLocation& location = properties->location;
  const bool known = properties->allocType == cudaMemAllocationTypePinned &&
                     properties->handleTypes == cudaMemHandleTypeNone && location.type == cudaMemLocationTypeDevice;
  if (!known || !runtime.valid_device(location.id)) return call.done(cudaErrorInvalidValue);
  *pool = runtime.pools.add(std::make_shared<int>(location.id));
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  SIMT_CUDA_CALL(kSafe);
  const bool known = runtime.pools.find(pool) && attribute == cudaMemPoolReuseAllowInternalDependencies && value;
  return call.done(known ? cudaSuccess : cudaErrorInvalidValue);
}

// What was allocated from the pool stays.
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  SIMT_CUDA_CALL(kSafe);
  if (!runtime.pools.find(pool)) return call.done(cudaErrorInvalidValue);
  runtime.pools.remove(pool);
  return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** memory, size_t bytes, cudaMemPool_t pool, cudaStream_t handle) {
  SIMT_CUDA_CALL(kSafe);
  const auto stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<int> device = runtime.pools.find(pool);
  if (!device || *device != runtime.thread().device) return call.done(cudaErrorInvalidValue);
  if (stream->capture) return call.done(cudaErrorNotYetImplemented);
  return simt::cuda::allocate_device(runtime, call, memory, bytes, true);
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t handle) {
  SIMT_CUDA_CALL(kSafe);
  if (!memory) return cudaSuccess;
  const auto stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (stream->capture) return call.done(cudaErrorNotYetImplemented);
  Allocation* const allocation = simt::cuda::freeable(memory);
  if (!allocation || !allocation->pooled) return call.done(cudaErrorInvalidValue);
  simt::cuda::Operation free;
  free.run = [&runtime, allocation] { runtime.device(allocation->device).memory.free(*allocation); };
  const auto make = [free] { return free; };
  const cudaError_t error = runtime.enqueue(stream, {cudaGraphNodeTypeEmpty, make});
  allocation->freeing = error == cudaSuccess && allocation->live;
  return call.done(error);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  SIMT_CUDA_CALL(kSafe);
  return simt::cuda::allocate_pinned(runtime, call, memory, bytes);
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned flags) {
  SIMT_CUDA_CALL(kSafe);
  constexpr unsigned kKnown = cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
  if ((flags & ~kKnown) != 0) return call.done(cudaErrorInvalidValue);
  return simt::cuda::allocate_pinned(runtime, call, memory, bytes);
}

cudaError_t cudaFreeHost(void* memory) {
  SIMT_CUDA_CALL(kSafe);
  if (!memory) return cudaSuccess;
  const Place place = simt::cuda::place_of(memory, 0);
  Allocation* allocation = simt::cuda::live_allocation_at(memory);
  if (place.kind != Place::Kind::kPinned || !allocation || allocation->data != memory) {
    return call.done(cudaErrorInvalidValue);
  }
  if (runtime.settings.free_synchronises) runtime.synchronise_device(allocation->device);
  runtime.pinned->free(*allocation);
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned flags) {
  SIMT_CUDA_CALL(kSafe);
  if (!memory || flags != cudaIpcMemLazyEnablePeerAccess) return call.done(cudaErrorInvalidValue);
  *memory = nullptr;
  if (const auto error = runtime.injected("allocation")) return call.done(*error);
  runtime.show_memory();
  const std::string path(handle.reserved, strnlen(handle.reserved, sizeof handle.reserved));
  const Allocation* allocation = simt::cuda::map_file(runtime, path);
  if (!allocation) return call.done(cudaErrorInvalidValue);
  *memory = simt::cuda::first_page(*allocation);
  return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void* memory) {
  SIMT_CUDA_CALL(kSafe);
  Allocation* allocation = simt::cuda::live_allocation_at(memory);
  if (!allocation || allocation->shared == 0 || simt::cuda::first_page(*allocation) != memory) {
    return call.done(cudaErrorInvalidValue);
  }
  runtime.show_memory();
  mmap(memory, allocation->shared, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  const Place place = simt::cuda::place_of(memory, 0);
  runtime.device(place.device).memory.free(*allocation);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  SIMT_CUDA_CALL(kContext);
  if (!free || !total) return call.done(cudaErrorInvalidValue);
  *total = runtime.settings.memory;
  *free = runtime.settings.memory - runtime.current().memory.live_bytes();
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  SIMT_CUDA_CALL(kContext);
  if (!attributes) return call.done(cudaErrorInvalidValue);
  *attributes = {cudaMemoryTypeUnregistered, cudaInvalidDeviceId, nullptr, const_cast<void*>(pointer)};
  const Allocation* allocation = simt::cuda::live_allocation_at(pointer);
  if (!allocation) return cudaSuccess;
  const Place place = simt::cuda::place_of(pointer, 0);
  attributes->device = allocation->device;
  attributes->devicePointer = const_cast<void*>(pointer);
  if (place.kind == Place::Kind::kDevice) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->hostPointer = nullptr;
  } else {
    attributes->type = cudaMemoryTypeHost;
  }
  return cudaSuccess;
}

}  // extern "C"
