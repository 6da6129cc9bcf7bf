// The functions of the driver that a program finds through the runtime.

#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>

#include "test/simt/cuda/memory.h"
#include "test/simt/cuda/runtime.h"
#include "test/simt/cuda_runtime.h"

namespace simt::cuda {
namespace {

constexpr int kSuccess = 0;
constexpr int kInvalidValue = 1;
constexpr int kInvalidContext = 201;
constexpr int kNotFound = 500;

// ---- Contexts ----

constexpr std::uintptr_t kFirstContext = 0x5500'0000;
constexpr std::uintptr_t kContextSpacing = 16;

void* primary_context(int device) {
  return reinterpret_cast<void*>(kFirstContext + kContextSpacing * static_cast<std::uintptr_t>(device));
}

int get_current_context(void** context) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  if (!context) return kInvalidValue;
  *context = runtime.thread().context;
  return kSuccess;
}

int make_context_current(void* context) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  if (context == nullptr || context == other_context()) {
    runtime.thread().context = context;
    runtime.thread().device = 0;
    return kSuccess;
  }
  for (const int device : runtime.with_context) {
    if (context != primary_context(device)) continue;
    runtime.enter_primary_context(device);
    return kSuccess;
  }
  return kInvalidContext;
}

int retain_primary_context(void** context, int device) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  if (!context || !runtime.valid_device(device)) return kInvalidValue;
  runtime.with_context.insert(device);
  runtime.retained_contexts += 1;
  *context = primary_context(device);
  return kSuccess;
}

int release_primary_context(int device) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  if (!runtime.valid_device(device) || runtime.retained_contexts == 0) return kInvalidValue;
  runtime.retained_contexts -= 1;
  return kSuccess;
}

// ---- Memory ----

int address_range(unsigned long long* base, std::size_t* bytes, unsigned long long address) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  runtime.counters.calls["cuMemGetAddressRange"] += 1;
  if (!base && !bytes) return kInvalidValue;
  const Allocation* allocation = live_allocation_at(reinterpret_cast<const void*>(address));
  if (!allocation) return kNotFound;
  const auto data = static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(allocation->data));
  const std::size_t piece = allocation->piece == 0 ? allocation->bytes : allocation->piece;
  if (base) *base = data + (address - data) / piece * piece;
  if (bytes) *bytes = piece;
  return kSuccess;
}

int pointer_attribute(void* value, int attribute, unsigned long long address) {
  constexpr int kContext = 1, kMemoryType = 2, kDeviceOrdinal = 9, kIsManaged = 8, kMemoryPool = 17;
  constexpr unsigned kHost = 1, kDevice = 2;
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  const auto* const place = reinterpret_cast<const void*>(address);
  const Allocation* allocation = live_allocation_at(place);
  if (!value || !allocation) return kInvalidValue;
  switch (attribute) {
    case kContext: {
      void* const own = allocation->foreign ? other_context() : primary_context(allocation->device);
      *static_cast<void**>(value) = allocation->mapped ? nullptr : own;
      return kSuccess;
    }
    case kMemoryType:
      *static_cast<unsigned*>(value) = place_of(place, 0).kind == Place::Kind::kPinned ? kHost : kDevice;
      return kSuccess;
    case kDeviceOrdinal:
      *static_cast<int*>(value) = allocation->device;
      return kSuccess;
    case kIsManaged:
      *static_cast<unsigned*>(value) = 0;
      return kSuccess;
    case kMemoryPool:
      *static_cast<void**>(value) = nullptr;
      return kSuccess;
    default:
      return kInvalidValue;
  }
}

int retain_handle(unsigned long long* handle, void* address) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  const Allocation* allocation = live_allocation_at(address);
  if (!handle || !allocation || !allocation->mapped) return kInvalidValue;
  runtime.retained_handles += 1;
  *handle = 1;
  return kSuccess;
}

int release_handle(unsigned long long) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  if (runtime.retained_handles == 0) return kInvalidValue;
  runtime.retained_handles -= 1;
  return kSuccess;
}

/// Null for a function that this driver lacks.
void* entry_point(const char* symbol) {
  const std::pair<const char*, void*> known[] = {
      {"cuCtxGetCurrent", reinterpret_cast<void*>(&get_current_context)},
      {"cuCtxSetCurrent", reinterpret_cast<void*>(&make_context_current)},
      {"cuDevicePrimaryCtxRetain", reinterpret_cast<void*>(&retain_primary_context)},
      {"cuDevicePrimaryCtxRelease", reinterpret_cast<void*>(&release_primary_context)},
      {"cuMemGetAddressRange", reinterpret_cast<void*>(&address_range)},
      {"cuPointerGetAttribute", reinterpret_cast<void*>(&pointer_attribute)},
      {"cuMemRetainAllocationHandle", reinterpret_cast<void*>(&retain_handle)},
      {"cuMemRelease", reinterpret_cast<void*>(&release_handle)},
  };
  for (const auto& [name, function] : known) {
    if (std::strcmp(symbol, name) == 0) return function;
  }
  return nullptr;
}

}  // namespace

void Runtime::enter_primary_context(int device) {
  with_context.insert(device);
  thread().device = device;
  thread().context = primary_context(device);
}

void* other_context() { return reinterpret_cast<void*>(kFirstContext - kContextSpacing); }

void* current_context() {
  void* context = nullptr;
  get_current_context(&context);
  return context;
}

void set_current_context(void* context) { make_context_current(context); }

}  // namespace simt::cuda

extern "C" {

cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long,
                                    cudaDriverEntryPointQueryResult* status) {
  SIMT_CUDA_CALL(kDevice);
  if (!symbol || !function) return call.done(cudaErrorInvalidValue);
  *function = simt::cuda::entry_point(symbol);
  if (status) *status = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* status) {
  return cudaGetDriverEntryPoint(symbol, function, flags, status);
}

}  // extern "C"
