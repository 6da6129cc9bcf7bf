#pragma once

#include <cstddef>

#include "test/simt/cuda/arena.h"

namespace simt::cuda {

/// Where a range of memory lies.
struct Place {
  enum class Kind {
    kDevice,    ///< in one live allocation of device memory
    kPinned,    ///< in one live allocation of pinned memory
    kInvalid,   ///< in the addresses of either, but freed, or beyond its allocation
    kPageable,  ///< anywhere else
  };

  Kind kind;
  int device;  ///< of device memory, and of an address that could be
};

/// These functions need the runtime's lock.
Place place_of(const void* address, std::size_t bytes);

/// The allocation that the address lies or once lay in, dead or alive; null if none.
Allocation* allocation_of(const void* address);

/// The live allocation that the address lies in; null if none.
Allocation* live_allocation_at(const void* address);

}  // namespace simt::cuda
