#pragma once

#include <cstddef>

namespace mtadam::cuda {

/// What the driver knows of addresses.
class PointerCheck {
 public:
  /// The device is current.
  explicit PointerCheck(int device);

  /// Throws Error (HOST_POINTER, INVALID_POINTER) unless the bytes lie within one allocation that the device's kernels
  /// may use. The message lacks its subject. The device is current.
  void operator()(const void* address, std::size_t bytes) const;

 private:
  /// cuMemGetAddressRange of the driver, whose library is not linked: the addon must load without one.
  using AddressRange = int (*)(unsigned long long* base, std::size_t* bytes, unsigned long long address);

  int device_;
  AddressRange address_range_ = nullptr;
};

}  // namespace mtadam::cuda
