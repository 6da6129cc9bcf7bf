#pragma once

#include <cstddef>
#include <utility>

#include "cuda/context.h"

namespace mtadam::cuda {

/// Checks a user's device pointers.
class PointerCheck {
 public:
  explicit PointerCheck(SharedContext context) : context_(std::move(context)) {}

  /// Throws Error (HOST_POINTER, INVALID_POINTER) unless the bytes lie within one allocation that the device's kernels
  /// may use, or in memory mapped without a gap from several handles. The message lacks its subject. The
  /// context is current.
  void operator()(const void* address, std::size_t bytes) const;

 private:
  using Address = DriverApi::Address;

  void check_owner(Address address) const;
  void check_context(Address address) const;
  std::size_t bytes_left(Address address) const;
  bool is_mapped(Address address) const;

  SharedContext context_;
};

}  // namespace mtadam::cuda
