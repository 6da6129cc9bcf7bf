#include "cuda/pointers.h"

#include <cstdint>
#include <optional>
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

// CU_POINTER_ATTRIBUTE_*
constexpr int kContext = 1;
constexpr int kMemoryType = 2;
constexpr int kIsManaged = 8;
constexpr int kDeviceOrdinal = 9;
constexpr int kMemoryPool = 17;

/// An attribute of an address; none if the driver does not know the address.
template <class Value>
std::optional<Value> attribute_of(unsigned long long address, int attribute) {
  Value value{};
  if (driver_api().cuPointerGetAttribute(&value, attribute, address) != 0) return std::nullopt;
  return value;
}

}  // namespace

void PointerCheck::operator()(const void* address, std::size_t bytes) const {
  const auto start = static_cast<Address>(reinterpret_cast<std::uintptr_t>(address));
  check_owner(start);
  std::size_t left = bytes_left(start);
  // The driver reports a range per mapped handle. Ranges of cudaMalloc that happen to be adjacent are not joined.
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
    throw Error("HOST_POINTER", "must be memory of " + device_name(context_->device()) + "; got " + got + ".");
  }
  if (attributes.type == cudaMemoryTypeDevice && attributes.device != context_->device()) {
    throw Error("INVALID_POINTER", "must be memory of " + device_name(context_->device()) + "; got memory of " +
                                       device_name(attributes.device) + ".");
  }
  check_context(address);
}

// Kernels run in the primary context and reach no memory that is bound to another. Mapped memory is bound to none.
void PointerCheck::check_context(Address address) const {
  const void* const owner = attribute_of<void*>(address, kContext).value_or(nullptr);
  if (owner == nullptr || owner == context_->handle()) return;
  throw Error("INVALID_POINTER", "must be memory of the primary context of " + device_name(context_->device()) +
                                     "; got memory of another context.");
}

std::size_t PointerCheck::bytes_left(Address address) const {
  Address base = 0;
  std::size_t size = 0;
  if (driver_api().cuMemGetAddressRange(&base, &size, address) != 0) {
    throw Error("INVALID_POINTER",
                "must be memory whose allocation the CUDA driver knows; got memory that it does not.");
  }
  return size - static_cast<std::size_t>(address - base);
}

// Whether the memory was mapped by cuMemMap. Memory pools are excluded explicitly: a driver may map theirs the same
// way.
bool PointerCheck::is_mapped(Address address) const {
  const DriverApi& driver = driver_api();
  Address handle = 0;
  if (driver.cuMemRetainAllocationHandle(&handle, reinterpret_cast<void*>(address)) != 0) return false;
  driver.cuMemRelease(handle);
  return attribute_of<void*>(address, kMemoryPool).value_or(nullptr) == nullptr;
}

// Asks the driver: the runtime would make a context for its answer.
int owner_of(const void* pointer) {
  constexpr unsigned kDevice = 2;  // CU_MEMORYTYPE_DEVICE
  const auto address = static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(pointer));
  const bool owned = attribute_of<unsigned>(address, kMemoryType) == kDevice ||
                     attribute_of<unsigned>(address, kIsManaged).value_or(0) != 0;
  return owned ? attribute_of<int>(address, kDeviceOrdinal).value_or(-1) : -1;
}

}  // namespace mtadam::cuda
