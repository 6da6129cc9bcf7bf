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

}  // namespace

PointerCheck::PointerCheck(int device) : device_(device) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &function, 12000, cudaEnableDefault, &found),
        "cudaGetDriverEntryPointByVersion");
  if (found == cudaDriverEntryPointSuccess) address_range_ = reinterpret_cast<AddressRange>(function);
}

void PointerCheck::operator()(const void* address, std::size_t bytes) const {
  const cudaPointerAttributes attributes = attributes_of(address);
  if (attributes.type == cudaMemoryTypeUnregistered || attributes.type == cudaMemoryTypeHost) {
    const char* const got =
        attributes.type == cudaMemoryTypeHost ? "pinned host memory" : "host memory, or device memory that was freed";
    throw Error("HOST_POINTER", "must be memory of " + device_name(device_) + "; got " + got + ".");
  }
  if (attributes.type == cudaMemoryTypeDevice && attributes.device != device_) {
    throw Error("INVALID_POINTER", "must be memory of " + device_name(device_) + "; got memory of " +
                                       device_name(attributes.device) + ".");
  }
  unsigned long long base = 0;
  std::size_t size = 0;
  const auto start = static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(address));
  if (address_range_ == nullptr || address_range_(&base, &size, start) != 0) {
    throw Error("INVALID_POINTER",
                "must be memory whose allocation the CUDA driver knows; got memory that it does not.");
  }
  const std::size_t left = size - static_cast<std::size_t>(start - base);
  if (bytes > left) {
    throw Error("INVALID_POINTER", "must lie within its allocation; got " + std::to_string(bytes) + " bytes where " +
                                       std::to_string(left) + " are left of it.");
  }
}

int owner_of(const void* address) {
  const cudaPointerAttributes attributes = attributes_of(address);
  const bool owned = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return owned ? attributes.device : -1;
}

}  // namespace mtadam::cuda
