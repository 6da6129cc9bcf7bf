#pragma once

#include <cstddef>

namespace mtadam::cuda {

/// What the driver knows of addresses.
class PointerCheck {
 public:
  /// The device is current.
  explicit PointerCheck(int device);
  ~PointerCheck();
  PointerCheck(const PointerCheck&) = delete;
  PointerCheck& operator=(const PointerCheck&) = delete;

  /// Throws Error (HOST_POINTER, INVALID_POINTER) unless the bytes lie within one allocation that the device's kernels
  /// may use, or in memory mapped without a gap from several handles. The message lacks its subject. The device is
  /// current.
  void operator()(const void* address, std::size_t bytes) const;

 private:
  using Address = unsigned long long;

  void check_owner(Address address) const;
  void check_context(Address address) const;
  std::size_t bytes_left(Address address) const;
  bool is_mapped(Address address) const;

  // The driver's functions, by its names. Its library is not linked: the addon must load without one.
  int (*address_range_)(Address* base, std::size_t* bytes, Address address) = nullptr;
  int (*attribute_)(void* value, int attribute, Address address) = nullptr;
  int (*retain_handle_)(Address* handle, void* address) = nullptr;
  int (*release_handle_)(Address handle) = nullptr;
  int (*retain_context_)(void** context, int device) = nullptr;
  int (*release_context_)(int device) = nullptr;

  int device_;
  void* context_ = nullptr;  // the device's primary one; null where the driver does not tell
};

}  // namespace mtadam::cuda
