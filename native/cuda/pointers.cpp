#include "cuda/pointers.h"

#include <cstdint>
#include <string>

#include "cuda/cuda.h"
#include "cuda/errors.h"

namespace mtadam::cuda {
namespace {

cudaPointerAttributes attributes_of(const void* address) {
  cudaPointerAttributes attributes{};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, address);
  if (error == cudaErrorInvalidValue) {
    cudaGetLastError();
    attributes.type = cudaMemoryTypeUnregistered;
    return attributes;
  }
  check(error, "cudaPointerGetAttributes");
  return attributes;
}

constexpr int kContext = 1;      // CU_POINTER_ATTRIBUTE_CONTEXT
constexpr int kMemoryPool = 17;  // CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE

/// A function of the driver; null where it has none of this name.
template <class Function>
void find(Function& function, const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result),
        "cudaGetDriverEntryPointByVersion");
  if (result == cudaDriverEntryPointSuccess) function = reinterpret_cast<Function>(found);
}

}  // namespace

PointerCheck::PointerCheck(int device) : device_(device) {
  find(address_range_, "cuMemGetAddressRange");
  find(attribute_, "cuPointerGetAttribute");
  find(retain_handle_, "cuMemRetainAllocationHandle");
  find(release_handle_, "cuMemRelease");
  find(retain_context_, "cuDevicePrimaryCtxRetain");
  find(release_context_, "cuDevicePrimaryCtxRelease");
  if (retain_context_ == nullptr || release_context_ == nullptr) return;
  if (retain_context_(&context_, device_) != 0) context_ = nullptr;
}

PointerCheck::~PointerCheck() {
  if (context_ != nullptr) release_context_(device_);
}

void PointerCheck::operator()(const void* address, std::size_t bytes) const {
  const auto start = static_cast<Address>(reinterpret_cast<std::uintptr_t>(address));
  check_owner(start);
  std::size_t left = bytes_left(start);
  // The driver's ranges end with each mapped handle. Allocations that only happen to be neighbours are not joined.
  while (left < bytes && is_mapped(start) && is_mapped(start + left)) {
    check_owner(start + left);
    left += bytes_left(start + left);
  }
  if (bytes > left) {
    throw Error("INVALID_POINTER", "must lie within its allocation; got " + std::to_string(bytes) + " bytes where " +
                                       std::to_string(left) + " are left of it.");
  }
}

void PointerCheck::check_owner(Address address) const {
  const cudaPointerAttributes attributes = attributes_of(reinterpret_cast<const void*>(address));
  if (attributes.type == cudaMemoryTypeUnregistered || attributes.type == cudaMemoryTypeHost) {
    const char* const got =
        attributes.type == cudaMemoryTypeHost ? "pinned host memory" : "host memory, or device memory that was freed";
    throw Error("HOST_POINTER", "must be memory of " + device_name(device_) + "; got " + got + ".");
  }
  if (attributes.type == cudaMemoryTypeDevice && attributes.device != device_) {
    throw Error("INVALID_POINTER", "must be memory of " + device_name(device_) + "; got memory of " +
                                       device_name(attributes.device) + ".");
  }
  check_context(address);
}

// Kernels run in the primary context and reach no memory that is bound to another. Mapped memory is bound to none.
void PointerCheck::check_context(Address address) const {
  void* owner = nullptr;
  if (context_ == nullptr || attribute_ == nullptr || attribute_(&owner, kContext, address) != 0) return;
  if (owner == nullptr || owner == context_) return;
  throw Error("INVALID_POINTER",
              "must be memory of the primary context of " + device_name(device_) + "; got memory of another context.");
}

std::size_t PointerCheck::bytes_left(Address address) const {
  Address base = 0;
  std::size_t size = 0;
  if (address_range_ == nullptr || address_range_(&base, &size, address) != 0) {
    throw Error("INVALID_POINTER",
                "must be memory whose allocation the CUDA driver knows; got memory that it does not.");
  }
  return size - static_cast<std::size_t>(address - base);
}

// Whether cuMemMap put the memory there. Memory pools are excluded by name: a driver may map theirs the same way.
bool PointerCheck::is_mapped(Address address) const {
  if (retain_handle_ == nullptr || release_handle_ == nullptr || attribute_ == nullptr) return false;
  Address handle = 0;
  if (retain_handle_(&handle, reinterpret_cast<void*>(address)) != 0) return false;
  release_handle_(handle);
  void* pool = nullptr;
  return attribute_(&pool, kMemoryPool, address) != 0 || pool == nullptr;
}

int owner_of(const void* address) {
  const cudaPointerAttributes attributes = attributes_of(address);
  const bool owned = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return owned ? attributes.device : -1;
}

}  // namespace mtadam::cuda
